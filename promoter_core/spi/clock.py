"""`Clock`, and the real one. Everything that waits takes a `Clock`, so that tests can run years in milliseconds.

A virtual clock sees tasks, but neither I/O nor threads: it would run ahead of them. So a backend that uses `url.clock`
and works in a thread, or waits for a device, does so inside `with hold(clock)`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Tells the time and sleeps."""

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never goes back."""
        ...

    def time_ms(self) -> int:
        """Return Unix time in whole milliseconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`, at least by `monotonic`."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        import asyncio  # imported late, because listing plugins does not need it

        await asyncio.sleep(seconds)


def hold(clock: Clock) -> AbstractContextManager[None]:
    """Return a context manager in which a virtual clock stands still. On other clocks it does nothing.

    A `VirtualClock` jumps ahead once every task waits. Hold it for the length of a call to a thread:

        with hold(clock):
            rows = await run_call(loop.run_in_executor(thread, work), translate, life, whole=True)

    It calls `clock.held()` if the clock has this method.
    """
    held = getattr(clock, "held", None)
    return nullcontext() if held is None else held()


def clock_offset_ms(store_ms: float, now_ms: float, call_s: float) -> float:
    """Return by how many milliseconds a store's clock is ahead of ours for sure; negative if it is behind.

    `store_ms` is what it showed at some moment of a call that took `call_s` seconds and ended at `now_ms`.
    """
    ahead = store_ms - now_ms
    return ahead if ahead > 0 else min(ahead + call_s * 1_000, 0.0)
