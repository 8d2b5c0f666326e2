"""`Signals`: remembered "this has changed" flags to build `Backend.wait` on."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from promoter_core.contracts import Clock


class Signals:
    """One flag a key. A flag that was set before anybody waited still ends the next wait, until it is cleared.

    Clear a key's flag *before* reading what it stands for, never after: a change in between would be missed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[Hashable, asyncio.Event] = {}

    def set(self, key: Hashable) -> None:
        self._event(key).set()

    def set_all(self) -> None:
        """Everything may have changed: end every wait."""
        for event in self._events.values():
            event.set()

    def clear(self, key: Hashable) -> None:
        self._event(key).clear()

    async def wait(self, key: Hashable, timeout_s: float) -> bool:
        """True as soon as the key's flag is set, False after `timeout_s` seconds of the clock."""
        event = self._event(key)
        if event.is_set():
            await asyncio.sleep(0)  # a caller in a loop must not starve the others
            return True
        changed = asyncio.ensure_future(event.wait())
        timeout = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            await asyncio.wait((changed, timeout), return_when=asyncio.FIRST_COMPLETED)
            return event.is_set()
        finally:
            changed.cancel()
            timeout.cancel()

    def _event(self, key: Hashable) -> asyncio.Event:
        return self._events.setdefault(key, asyncio.Event())
