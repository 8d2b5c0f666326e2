"""`Reclaimer`: makes room in a full stream, by trimming what every consumer group has acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from promoter_core.spi import Layout, PermanentError, TransientError
from promoter_resp.driver import Call, Driver, Script

log = logging.getLogger("promoter.resp")

RECLAIM = Script("reclaim")
PAUSE_S = (0.05, 1.0)  # shortest and longest pause after a search that found no acknowledged entries
REFUSED_S = 60.0  # before a refused search is retried


class Reclaimer:
    """Checks the streams of full queues. Checking costs the server time, so fruitless checks become rarer."""

    def __init__(self, driver: Driver, layout: Layout, made_room: Callable[[str], None]) -> None:
        """`made_room` is called with a queue whose held jobs can now be promoted."""
        self._driver = driver
        self._layout = layout
        self._made_room = made_room
        self._pauses: dict[str, tuple[float, float]] = {}  # queue → time of the next search, and the pause after it

    def forget(self, queue: str) -> None:
        """Forget a queue that is no longer promoted here."""
        self._pauses.pop(queue, None)

    async def make_room(self, queue: str) -> None:
        """Trim the queue's stream, unless a recent check found nothing to trim. Never raises."""
        now_s = time.monotonic()
        again_s, pause_s = self._pauses.get(queue, (0.0, PAUSE_S[0]))
        if now_s < again_s:
            return
        try:
            (trimmed,) = await self._driver.run_scripts([Call(RECLAIM, (self._layout.keys_of(queue).stream,), ())])
        except TransientError:
            return  # the next tick will report it
        except PermanentError as exc:  # due jobs remain held back, but promotion itself has not failed
            log.warning("queue %r: the full stream cannot be looked through for acknowledged entries: %s", queue, exc)
            self._pauses[queue] = (now_s + REFUSED_S, pause_s)
            return
        if trimmed:
            self._pauses.pop(queue, None)
            self._made_room(queue)
        else:
            self._pauses[queue] = (now_s + pause_s, min(pause_s * 2, PAUSE_S[1]))
