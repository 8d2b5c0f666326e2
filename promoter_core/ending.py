"""The end of a run, in bounded time: tasks that do not end when they are cancelled, and calls that do not return.

A cancellation can get lost: `asyncio.wait_for` of Python 3.11, which clients use, swallows one that comes just when its
call has returned, and a task that drains a backlog then goes on. So a task is cancelled until it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("promoter")

STEP_S = 1.0  # after a stop: for the step under way, and again for each that ends well
RELEASE_S = 1.0  # for releasing the lock, or the locks
CLOSE_S = 1.0  # for giving up connections
LOST_S = 0.5  # for a call that was given up to end
AGAIN_S = 0.1  # before a task that has not ended is cancelled again


class StopRequest:
    """That a run is to end. Any thread may ask, before the run or during it."""

    def __init__(self) -> None:
        self.asked = False
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._then: Callable[[], None] | None = None

    def begin(self, then: Callable[[], None] | None = None) -> None:
        """The run begins. `then` is called in its loop as soon as somebody asks."""
        self._loop, self._then = asyncio.get_running_loop(), then
        if self.asked:  # before the run
            self._heard()

    def end(self) -> None:
        """The run is over, and with it the request."""
        self._loop = self._then = None
        self.asked = False
        self._event.clear()

    def ask(self) -> None:
        self.asked = True
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed in the meantime
                loop.call_soon_threadsafe(self._heard)

    async def wait(self) -> None:
        await self._event.wait()

    def _heard(self) -> None:
        if self.asked:
            self._event.set()
            if self._then is not None:
                self._then()


def cancelled() -> bool:
    """The task that runs us was cancelled, rather than something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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


async def ended(task: asyncio.Future[Any], *, within_s: float = CLOSE_S) -> bool:
    """Cancel `task` again and again until it has ended, for `within_s` seconds. Whether it has; never its error."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not task.done() and (left_s := until_s - loop.time()) > 0:
        task.cancel()
        await asyncio.wait((task,), timeout=min(AGAIN_S, left_s))
    if task.done():
        if not task.cancelled():
            task.exception()  # it has been looked at
        return True
    log.warning("%s does not end; it is left behind", task.get_name() if isinstance(task, asyncio.Task) else task)
    return False


async def all_ended(*calls: Coroutine[Any, Any, Any], within_s: float = CLOSE_S) -> None:
    """Run the calls at the same time; give up those that have not ended after `within_s` seconds. Raises nothing."""
    tasks = [asyncio.create_task(call) for call in calls]  # which begin even if we are cancelled
    for outcome in await asyncio.gather(*(bounded(task, within_s) for task in tasks), return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.debug("what was to be closed is left behind: %r", outcome)


async def bounded(call: Coroutine[Any, Any, T] | asyncio.Task[T], seconds: float) -> T:
    """The answer of `call`. Raises TimeoutError after `seconds`, whatever the call does with its cancellation."""
    task = call if isinstance(call, asyncio.Task) else asyncio.create_task(call)
    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        await ended(task, within_s=LOST_S)
        raise TimeoutError(f"not done in {seconds:g} s")
    return task.result()
