"""How a run stops: a request from any thread, and a time limit for the current step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

STEP_S = 1.0  # after a stop: for the current step, and again after each that succeeds
RELEASE_S = 1.0  # for releasing locks


class StopRequest:
    """A request to end a run. Thread-safe, before and during the run."""

    def __init__(self) -> None:
        self.asked = False
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._then: Callable[[], None] | None = None

    def begin(self, then: Callable[[], None] | None = None) -> None:
        """Begin a run. `then` is called in its loop as soon as a stop is requested."""
        self._loop, self._then = asyncio.get_running_loop(), then
        if self.asked:  # stopped before the run
            self._heard()

    def end(self) -> None:
        """End the run and clear the request."""
        self._loop = self._then = None
        self.asked = False
        self._event.clear()

    def ask(self) -> None:
        self.asked = True
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed by now
                loop.call_soon_threadsafe(self._heard)

    @property
    def heard(self) -> bool:
        """Whether the run has received the request, a turn of its event loop after `ask`."""
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    def _heard(self) -> None:
        if self.asked:
            self._event.set()
            if self._then is not None:
                self._then()


async def until_stopped(task: asyncio.Task[Any], stop: StopRequest, progress: Callable[[], int]) -> None:
    """Return when `task` has ended or, after a stop, has made no `progress` for STEP_S seconds."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        while not task.done():
            before = progress()
            await asyncio.wait((task,), timeout=STEP_S)
            if before == progress():
                break
    finally:
        stopping.cancel()
