"""`Watchdog`: limits waits for answers, without a timer for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

EARLY_S = 0.001  # tolerance for timers that fire early: uvloop has a resolution of 1 ms


class Watchdog:
    """Limits one wait at a time, with one timer for many of them."""

    def __init__(self, timeout_s: float, slow_s: float, slow: Callable[[], None]) -> None:
        """`slow` is called when a wait takes `slow_s` seconds."""
        self._timeout_s = timeout_s
        self._slow_s = min(slow_s, timeout_s)
        self._slow = slow
        self._answer: asyncio.Future[Any] | None = None
        self._began_s = 0.0
        self._epoch = 0
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, answer: asyncio.Future[list[Any]], epoch: int) -> list[Any]:
        """Wait for the answer. Raises TimeoutError when it is late. `epoch`: for `cut`."""
        self._began_s, self._answer, self._epoch = answer.get_loop().time(), answer, epoch
        if self._timer is None or self._timer.when() > self._began_s + self._slow_s:
            self._look_at(self._began_s + self._slow_s)
        try:
            return await answer
        finally:
            self._answer = None

    def cut(self, epoch: int) -> None:
        """End the current wait if it began before that epoch."""
        if self._epoch < epoch:
            self._end()

    def _end(self) -> None:
        if self._answer is not None and not self._answer.done():
            fail(self._answer, TimeoutError())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when_s, self._look)

    def _look(self) -> None:
        """Handle the timer, which was set for a wait that began no later than the current one."""
        self._timer = None
        if self._answer is None:
            return
        now_s = asyncio.get_running_loop().time() + EARLY_S
        if now_s >= self._began_s + self._timeout_s:
            self._end()
        elif now_s >= self._began_s + self._slow_s:
            self._slow()
            self._look_at(self._began_s + self._timeout_s)
        else:
            self._look_at(self._began_s + self._slow_s)


def fail(answer: asyncio.Future[Any], exc: Exception) -> None:
    """Set this error as the answer."""
    answer.set_exception(exc)
    answer.exception()  # retrieve it, so that asyncio does not log the error of a cancelled caller
