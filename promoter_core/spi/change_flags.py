"""`ChangeFlags`: remembered changes, for implementing `Backend.wait` and `FleetSupport.subscribe`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from promoter_core.spi.clock import Clock, SystemClock
from promoter_core.spi.model import ChangeKind
from promoter_core.spi.optional.fleet import ChangeFeed, Changes

MOST_FLAGS = 10_000  # number kept in addition to those with a waiter
MOST_CHANGES = 10_000  # maximum of an unread feed; beyond it, the feed reports that everything has changed


class Flag:
    """Like an asyncio.Event, with a time-out that costs only a timer."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for waiter in self._waiters:
            _wake(waiter)

    def clear(self) -> None:
        self._set = False

    @property
    def awaited(self) -> bool:
        """Whether anything waits for the flag."""
        return bool(self._waiters)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the flag is set, or until the time-out by the event loop's clock."""
        if self._set:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


Change = tuple[ChangeKind, str]  # the name is a queue, or a group for MEMBERS


class ChangeFlags:
    """One flag for each kind of change of each queue. A flag that is set before a wait starts ends that wait.

    The flags belong to the event loop: no method may be called in another thread.

    Call `expect` *before* reading the state that a change concerns, never after, or a change in between is missed. When
    there are many flags, those that nobody waits for are dropped. A wait without a flag ends at once, as after a
    change.
    """

    def __init__(self, clock: Clock) -> None:
        """`clock` measures the time-outs of waits: the one that the backend itself lives by."""
        self._clock = clock
        self._flags: dict[Change, Flag] = {}
        self._most = MOST_FLAGS  # maximum number of flags before some are dropped
        self._feeds: list[FlagFeed] = []

    def set(self, kind: ChangeKind, queue: str) -> None:
        """Report a change, after its commit: end the waits for it.

        In a thread, call `loop.call_soon_threadsafe(flags.set, kind, queue)`. The thread's work does this itself: a
        caller that is cancelled does not wait for it (`run_call` with `whole=True`).
        """
        if (flag := self._flags.get((kind, queue))) is not None:
            flag.set()
        for feed in self._feeds:
            feed.add((kind, queue))

    def set_all(self) -> None:
        """Report that everything may have changed: end every wait."""
        for flag in self._flags.values():
            flag.set()
        for feed in self._feeds:
            feed.add(None)

    def subscribe(self) -> ChangeFeed:
        """Return a `ChangeFeed` of the flags that are set from now on."""
        feed = FlagFeed(self._clock, self._feeds.remove)
        self._feeds.append(feed)
        return feed

    def clear(self, kind: ChangeKind, queue: str) -> None:
        """Clear the flag if it exists, for callers that read the queue but wait by a feed or not at all."""
        if (flag := self._flags.get((kind, queue))) is not None:
            flag.clear()

    def expect(self, kind: ChangeKind, queue: str) -> None:
        """Clear the flag and keep one from now on, for a wait that follows."""
        self._flag((kind, queue)).clear()

    async def wait(self, kind: ChangeKind, queue: str, timeout_s: float) -> bool:
        """Return True as soon as the flag is set, False after `timeout_s` seconds of the clock."""
        flag = self._flag((kind, queue))
        if flag.is_set():
            await asyncio.sleep(0)  # a caller in a loop must not starve other tasks
            return True
        await wait_for(flag, self._clock, timeout_s)
        return flag.is_set()

    def _flag(self, change: Change) -> Flag:
        """Add a flag that is set."""
        if (flag := self._flags.get(change)) is None:
            if len(self._flags) >= self._most:
                self._drop_idle()
            flag = self._flags[change] = Flag()
            flag.set()
        return flag

    def _drop_idle(self) -> None:
        """Drop the older half of the flags without a wait."""
        idle = [change for change, flag in self._flags.items() if not flag.awaited]
        for change in idle[: len(idle) // 2 + 1]:
            del self._flags[change]
        self._most = len(self._flags) + MOST_FLAGS


async def wait_for(flag: Flag, clock: Clock, timeout_s: float) -> None:
    """Wait until the flag is set, or until the time-out by `clock`."""
    if isinstance(clock, SystemClock):  # the event loop's own time, so no task is needed
        await flag.wait(timeout_s)
        return
    changed = asyncio.ensure_future(flag.wait())
    timeout = asyncio.ensure_future(clock.sleep(timeout_s))
    try:
        await asyncio.wait((changed, timeout), return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
        timeout.cancel()


class FlagFeed:
    """A `ChangeFeed` of the flags that are set in some `ChangeFlags`."""

    def __init__(self, clock: Clock, forget: Callable[[FlagFeed], None]) -> None:
        self._clock = clock
        self._forget = forget
        self._changes: set[Change] = set()
        self._everything = False
        self._event = Flag()

    def add(self, change: Change | None) -> None:
        """Add a change; None: everything may have changed."""
        if change is None or (len(self._changes) >= MOST_CHANGES and change not in self._changes):
            self._everything = True
        else:
            self._changes.add(change)
        self._event.set()

    async def next(self, timeout_s: float) -> Changes:
        if not self._event.is_set() and timeout_s > 0:
            await wait_for(self._event, self._clock, timeout_s)
        self._event.clear()
        changes, self._changes = self._changes, set()
        everything, self._everything = self._everything, False
        return Changes(
            everything=everything,
            jobs=frozenset(queue for kind, queue in changes if kind is ChangeKind.JOBS),
            locks=frozenset(queue for kind, queue in changes if kind is ChangeKind.LOCK),
            members=any(kind is ChangeKind.MEMBERS for kind, _ in changes),
        )

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # already closed
            self._forget(self)
