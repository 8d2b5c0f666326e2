"""`VirtualClock`: a `Clock` on which time passes only when everything waits."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterator
from contextlib import contextmanager

QUIET_ROUNDS = 3  # consecutive rounds of the event loop with nothing ready
HELD_S = 0.0005  # real time between two checks whether the clock is still held
BLIND_ROUNDS = 30  # rounds if the loop does not show its ready callbacks (uvloop)


class VirtualClock:
    """A clock whose sleeps take no real time: once every task waits, it jumps to the next sleeper's time and wakes it.

    For code that waits on this clock and on other tasks. Pending real I/O does not count as work: with a server or a
    thread behind the backend, time would run ahead of it, unless the I/O is inside `with clock.held()`.
    A backend uses `promoter_core.spi.hold(clock)` for this.
    """

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        """`start_ms` is the Unix time at which the clock starts, in milliseconds."""
        self._start_ms = start_ms
        self._now_us = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._advancing: asyncio.Task[None] | None = None
        self._holders = 0

    def monotonic(self) -> float:
        return self._now_us / 1e6

    def time_ms(self) -> int:
        return self._start_ms + self._now_us // 1000

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._sequence += 1
        due_us = self._now_us + max(math.ceil(seconds * 1e6 - 1e-2), 1)  # ignore the float's own error, below a µs
        heapq.heappush(self._sleepers, (due_us, self._sequence, future))
        if self._advancing is None or self._advancing.done():
            self._advancing = asyncio.create_task(self._advance(), name="virtual-clock")
        await future

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as for a suspended process: tasks with shorter sleeps wake late, and only once."""
        self._now_us += math.ceil(seconds * 1e6)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the clock for the length of a `with`."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1

    async def _advance(self) -> None:
        while self._sleepers:
            await _quiet()
            if self._holders:
                await asyncio.sleep(HELD_S)
                continue
            while self._sleepers and self._sleepers[0][2].done():  # cancelled
                heapq.heappop(self._sleepers)
            if self._sleepers:
                self._now_us = max(self._now_us, self._sleepers[0][0])
            while self._sleepers and self._sleepers[0][0] <= self._now_us:
                _, _, future = heapq.heappop(self._sleepers)
                if not future.done():
                    future.set_result(None)


async def _quiet() -> None:
    """Return when no other task has anything to do."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    quiet = 0
    while quiet < (BLIND_ROUNDS if ready is None else QUIET_ROUNDS):
        await asyncio.sleep(0)
        quiet = 0 if ready else quiet + 1
