"""Calls that are held, cancelled or failed at each of their awaits: the interleavings that separate processes cause.

A backend needs no support for this. A call is a coroutine, and its driver can pause between two steps, like a slow
process. So another call can run at each point where a call waits for its store.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")

FREE_ROUNDS = 3  # of two calls that nobody holds
MOST_STEPS = 12  # of a call that is held
HOLD_S = 0.1  # at most: what a call holds in its store may be what the others wait for
STEPS = range(1 - FREE_ROUNDS, MOST_STEPS + 1)  # of `meet`


class HeldCall(Generic[T]):
    """A call that pauses once: after it has been resumed for the `at`-th time, and before it continues."""

    def __init__(self, call: Coroutine[Any, Any, T], at: int) -> None:
        self._held, self._released = asyncio.Event(), asyncio.Event()
        self._error: Exception | None = None
        self.task: asyncio.Task[T] = asyncio.create_task(self._run(call, at))

    async def held(self) -> bool:
        """Return whether the call has paused; False if it ended before."""
        held = asyncio.ensure_future(self._held.wait())
        await asyncio.wait((held, self.task), return_when=asyncio.FIRST_COMPLETED)
        held.cancel()
        return self._held.is_set()

    def release(self, error: Exception | None = None) -> None:
        """Let the call continue, or raise `error` in it as the result of its await."""
        self._error = error
        self._released.set()

    async def _run(self, call: Coroutine[Any, Any, T], at: int) -> T:
        return await self._drive(call, at)

    @types.coroutine
    def _drive(self, call: Coroutine[Any, Any, T], at: int) -> Generator[Any, None, T]:
        step, error = 0, None
        while True:
            try:
                awaited = call.send(None) if error is None else call.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a coroutine's own answer
            error = yield from _outcome(awaited)
            step += 1
            if step == at and error is None:
                self._held.set()
                error = yield from _outcome_of(self._released.wait())
                error = error or self._error


def _outcome(awaited: Any) -> Generator[Any, None, BaseException | None]:
    """Pass an awaited object to the event loop, and return the exception that comes back, such as a cancellation."""
    try:
        yield awaited
    except (Exception, asyncio.CancelledError) as exc:
        return exc
    return None


def _outcome_of(waiting: Coroutine[Any, Any, Any]) -> Generator[Any, None, BaseException | None]:
    try:
        yield from waiting.__await__()
    except (Exception, asyncio.CancelledError) as exc:
        return exc
    return None


async def meet(first: Coroutine[Any, Any, T], at: int, second: Coroutine[Any, Any, S]) -> tuple[T, S, bool]:
    """Return both answers. `second` runs while `first` is held at step `at`; at 0 or less, both run freely.

    The third value is False if `first` has no such step, and so no later one.
    """
    if at <= 0:
        tasks: tuple[asyncio.Task[T], asyncio.Task[S]] = asyncio.create_task(first), asyncio.create_task(second)
        await _ended(*tasks)
        return tasks[0].result(), tasks[1].result(), True
    call = HeldCall(first, at)
    held = await call.held()
    other = asyncio.create_task(second)
    if held:
        await asyncio.wait((other,), timeout=HOLD_S)
    call.release()
    await _ended(call.task, other)
    return call.task.result(), other.result(), held


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()


Cut = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, bool]]


def cancellations() -> Iterator[Cut]:
    """Return ways to cancel a call: after some rounds of the event loop, after a moment, and at each of its steps.

    Each runs a call until it has ended. Returns False if the call has no such step.
    """
    for rounds in range(4):
        yield _cancelled_after(rounds, 0)
    for longest_s in (0.0005, 0.002):
        yield _cancelled_after(0, random.uniform(0, longest_s))  # noqa: S311  # no secret
    for at in range(1, MOST_STEPS + 1):
        yield _cancelled_at(at)


def failures() -> Iterator[Cut]:
    """Return ways to lose a connection, at each step of a call, like `cancellations`."""
    for at in range(1, MOST_STEPS + 1):
        yield _failed_at(at)


def _cancelled_after(rounds: int, seconds: float) -> Cut:
    async def cut(call: Coroutine[Any, Any, Any]) -> bool:
        task = asyncio.create_task(call)
        for _ in range(rounds):
            await asyncio.sleep(0)
        if seconds:
            await asyncio.sleep(seconds)
        await _cancelled(task)
        return True

    return cut


def _cancelled_at(at: int) -> Cut:
    async def cut(call: Coroutine[Any, Any, Any]) -> bool:
        under_way = HeldCall(call, at)
        held = await under_way.held()
        await _cancelled(under_way.task)
        return held

    return cut


def _failed_at(at: int) -> Cut:
    async def cut(call: Coroutine[Any, Any, Any]) -> bool:
        under_way = HeldCall(call, at)
        held = await under_way.held()
        under_way.release(ConnectionResetError("injected: the connection was lost"))
        with contextlib.suppress(Exception):  # the kind of error does not matter here
            await under_way.task
        return held

    return cut


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await task
