"""An event loop on which time passes only when nothing is ready: for code that waits by the loop's own timers."""

from __future__ import annotations

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    now_s = 1000.0

    def select(self, timeout=None):
        """Time jumps to the next timer instead of passing. Sockets of this process are looked at before."""
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=VirtualLoop)` runs on it."""

    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


class LoopClock:
    """A `Clock` with the time of the running loop."""

    def monotonic(self):
        return asyncio.get_running_loop().time()

    def time_ms(self):
        return round(self.monotonic() * 1000)

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


def run(main):
    """The result of a coroutine function, on a loop of this kind."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
