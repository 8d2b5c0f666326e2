"""End a run in bounded time, despite tasks that ignore cancellation and calls that do not return.

A cancellation can get lost: `asyncio.wait_for` in Python 3.11, which clients use, swallows one that arrives just when
its call has returned, and a task that drains a backlog then continues. So a task is cancelled until it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("promoter")

CLOSE_S = 1.0  # for closing connections that are given up
LOST_S = 0.5  # for a call that was given up to end
AGAIN_S = 0.1  # before a task that has not ended is cancelled again


def being_cancelled() -> bool:
    """Return whether the running task was cancelled, rather than something it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def cancel_and_wait(task: asyncio.Future[Any], *, within_s: float = CLOSE_S) -> bool:
    """Cancel `task` repeatedly until it ends, for up to `within_s` seconds. Return whether it ended.

    Never raises the task's error.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not task.done() and (left_s := until_s - loop.time()) > 0:
        task.cancel()
        await asyncio.wait((task,), timeout=min(AGAIN_S, left_s))
    if task.done():
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved
        return True
    log.warning("%s does not end; it is abandoned", task.get_name() if isinstance(task, asyncio.Task) else task)
    return False


async def close_all(*calls: Coroutine[Any, Any, Any], within_s: float = CLOSE_S) -> None:
    """Run the calls concurrently, and abandon those that take longer than `within_s` seconds. Never raises."""
    tasks = [asyncio.create_task(call) for call in calls]  # tasks start even if this one is cancelled
    for outcome in await asyncio.gather(*(run_within(task, within_s) for task in tasks), return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.debug("abandoned while closing: %r", outcome)


async def run_within(call: Coroutine[Any, Any, T] | asyncio.Task[T], seconds: float) -> T:
    """Return the result of `call`. Raises TimeoutError after `seconds`, even if the call ignores its cancellation."""
    task = call if isinstance(call, asyncio.Task) else asyncio.create_task(call)
    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        await cancel_and_wait(task, within_s=LOST_S)
        raise TimeoutError(f"not done in {seconds:g} s")
    return task.result()
