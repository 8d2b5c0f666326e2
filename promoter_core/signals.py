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


class Signals:
    """One flag a key. A flag that was set before anybody waited still ends the next wait, until it is cleared.

    Clear a key's flag *before* reading what it stands for, never after: a change in between would be missed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[Hashable, asyncio.Event] = {}
        self._feeds: list[Feed] = []

    def set(self, key: Hashable) -> None:
        self._event(key).set()
        for feed in self._feeds:
            feed.add(key)

    def set_all(self) -> None:
        """Everything may have changed: end every wait."""
        for event in self._events.values():
            event.set()
        for feed in self._feeds:
            feed.add(None)

    def feed(self, read: Callable[[Hashable], tuple[What, str] | None]) -> Feed:
        """Collect the keys that are set from now on; `read` says what a key stands for."""
        feed = Feed(self._clock, read, self._feeds.remove)
        self._feeds.append(feed)
        return feed

    def clear(self, key: Hashable) -> None:
        self._event(key).clear()

    async def wait(self, key: Hashable, timeout_s: float) -> bool:
        """True as soon as the key's flag is set, False after `timeout_s` seconds of the clock."""
        event = self._event(key)
        if event.is_set():
            await asyncio.sleep(0)  # a caller in a loop must not starve the others
            return True
        await wait_for(event, self._clock, timeout_s)
        return event.is_set()

    def _event(self, key: Hashable) -> asyncio.Event:
        return self._events.setdefault(key, asyncio.Event())


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
        if key is None:
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
