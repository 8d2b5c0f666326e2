"""Remembered "this has changed" flags: `Signals` to build `Backend.wait` on, `Feed` for `ManyQueues.feed`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from enum import Enum

from promoter_core.clock import SystemClock
from promoter_core.contracts import Clock
from promoter_core.model import Changes


class What(Enum):
    """What of a queue has changed."""

    SET = "set"
    LOCK = "lock"
    MEMBERS = "members"  # of a group; no queue is named


MOST_FLAGS = 10_000  # kept beyond those that somebody waits for
MOST_KEYS = 10_000  # of a feed that nobody reads; beyond these it tells that everything has changed


class _Flag(asyncio.Event):
    waiting = 0  # how many wait for it


class Signals:
    """One flag a key. A flag that was set before anybody waited still ends the next wait, until it is cleared.

    Clear a key's flag *before* reading what it stands for, never after: a change in between would be missed. A key has
    a flag once a wait for it was expected, and not for ever: a wait without one ends at once, as after a change.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flags: dict[Hashable, _Flag] = {}
        self._most = MOST_FLAGS  # before some are dropped
        self._feeds: list[Feed] = []

    def set(self, key: Hashable) -> None:
        if (flag := self._flags.get(key)) is not None:
            flag.set()
        for feed in self._feeds:
            feed.add(key)

    def set_all(self) -> None:
        """Everything may have changed: end every wait."""
        for flag in self._flags.values():
            flag.set()
        for feed in self._feeds:
            feed.add(None)

    def feed(self, read: Callable[[Hashable], tuple[What, str] | None]) -> Feed:
        """Collect the keys that are set from now on; `read` says what a key stands for."""
        feed = Feed(self._clock, read, self._feeds.remove)
        self._feeds.append(feed)
        return feed

    def clear(self, key: Hashable) -> None:
        if (flag := self._flags.get(key)) is not None:
            flag.clear()

    def expect(self, key: Hashable) -> None:
        """Clear the key's flag, and keep one from now on: a wait for it is to come."""
        self._flag(key).clear()

    async def wait(self, key: Hashable, timeout_s: float) -> bool:
        """True as soon as the key's flag is set, False after `timeout_s` seconds of the clock."""
        flag = self._flag(key)
        if flag.is_set():
            await asyncio.sleep(0)  # a caller in a loop must not starve the others
            return True
        flag.waiting += 1
        try:
            await wait_for(flag, self._clock, timeout_s)
        finally:
            flag.waiting -= 1
        return flag.is_set()

    def _flag(self, key: Hashable) -> _Flag:
        """Of a key that had none, it is set."""
        if (flag := self._flags.get(key)) is None:
            if len(self._flags) >= self._most:
                self._drop_idle()
            flag = self._flags[key] = _Flag()
            flag.set()
        return flag

    def _drop_idle(self) -> None:
        """The older half of the flags that nobody waits for."""
        idle = [key for key, flag in self._flags.items() if not flag.waiting]
        for key in idle[: len(idle) // 2 + 1]:
            del self._flags[key]
        self._most = len(self._flags) + MOST_FLAGS


async def wait_for(event: asyncio.Event, clock: Clock, timeout_s: float) -> None:
    """Until the event is set, or the time is up by the clock."""
    if isinstance(clock, SystemClock):  # the event loop's own time: no task is needed for it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()
        return
    changed = asyncio.ensure_future(event.wait())
    timeout = asyncio.ensure_future(clock.sleep(timeout_s))
    try:
        await asyncio.wait((changed, timeout), return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
        timeout.cancel()


class Feed:
    """A `ChangeFeed` of the keys of some `Signals`. Keys are kept as they come and read when they are asked for."""

    def __init__(
        self,
        clock: Clock,
        read: Callable[[Hashable], tuple[What, str] | None],
        forget: Callable[[Feed], None],
    ) -> None:
        self._clock = clock
        self._read = read
        self._forget = forget
        self._keys: set[Hashable] = set()
        self._everything = False
        self._event = asyncio.Event()

    def add(self, key: Hashable | None) -> None:
        """None: everything."""
        if key is None or (len(self._keys) >= MOST_KEYS and key not in self._keys):
            self._everything = True
        else:
            self._keys.add(key)
        self._event.set()

    async def next(self, timeout_s: float) -> Changes:
        if not self._event.is_set() and timeout_s > 0:
            await wait_for(self._event, self._clock, timeout_s)
        self._event.clear()
        keys, self._keys = self._keys, set()
        everything, self._everything = self._everything, False
        told = [what for key in keys if (what := self._read(key)) is not None]
        return Changes(
            everything,
            frozenset(queue for what, queue in told if what is What.SET),
            frozenset(queue for what, queue in told if what is What.LOCK),
            any(what is What.MEMBERS for what, _ in told),
        )

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # closed already
            self._forget(self)
