"""The connection on which the server tells of changes: client tracking, redirected to a subscriber (RESP2).

The connection that runs `promote` and `lock` has CLIENT TRACKING ON REDIRECT <id of this one> NOLOOP, so the server
remembers what those scripts read and announces the next write to it, by any client in any language, here.

This connection can die alone, or go half-open, and the other would never be told. So it is probed, everybody is woken
whenever it comes or goes, and until it is back `client_id` is None: the promoter polls.
"""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import ResponseError

from promoter_core.spi import CHASQUIMQ, being_cancelled, cancel_and_wait
from promoter_redis.connections import Connections
from promoter_redis.errors import is_refused
from promoter_redis.link import Link, next_push
from promoter_resp.driver import Changed

log = logging.getLogger("promoter.redis")

CHANNEL = b"__redis__:invalidate"
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
REFUSED_S = 300.0  # before that is tried again for which a permission is missing


class InvalidationListener:
    """Keeps one subscribed connection alive and hands what it hears to `changed`."""

    def __init__(self, connections: Connections, changed: Changed) -> None:
        self.client_id: int | None = None  # None while there is no connection
        self.epoch = 0  # of that connection
        self.hears = False  # subscribe to what processes announce, too; from the next connection on
        self._connections = connections
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._pause_s = 0.0  # at least, before the next connection
        self._warned = False

    async def start(self) -> None:
        """Returns when the first attempt has succeeded or failed; goes on in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="promoter-watcher")
        await self._tried.wait()

    async def stop(self) -> None:
        task, self._task = self._task, None
        self.client_id = None
        self._tried.set()  # who waits for the first attempt waits no longer
        if task is not None:
            await cancel_and_wait(task)

    def reconnect(self) -> None:
        """Give up the present connection, in the background: it is with the wrong server, or not known there."""
        if self._listening is not None:
            self.client_id = None
            self._listening.cancel()

    def refused(self, command: str, needed: str, exc: Exception) -> None:
        """Do without for some minutes: it says once what is missing, and the promoter polls."""
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        log.log(
            level,
            "changes cannot be watched for, so they are polled for: the server refuses %s (%s); allow %s to this user. "
            "It is tried again in %d minutes",
            command,
            exc,
            needed,
            REFUSED_S // 60,
        )
        self._pause_s = REFUSED_S
        self.reconnect()

    async def _keep(self) -> None:
        failures = 0
        while not being_cancelled():  # a client may swallow it
            link: Link | None = None
            self._pause_s = 0.0
            try:
                async with self._connections.timed():
                    link = await self._connections.connect()
                    permitted = await self._subscribe(link)
                if permitted:
                    failures = 0
                    self._listening = asyncio.create_task(self._listen(link))
                    await asyncio.wait((self._listening,))
                    if not self._listening.cancelled():  # by `reconnect`
                        self._listening.result()
            except Exception as exc:
                level = logging.DEBUG if failures else logging.INFO
                log.log(level, "watching for changes is interrupted: %s", exc or type(exc).__name__)
            finally:
                self.client_id = None
                if self._listening is not None:
                    self._listening.cancel()
                    self._listening = None
                if link is not None:
                    await link.close()
            self._tried.set()
            self._changed(None)
            await asyncio.sleep(max(RETRY_S[min(failures, len(RETRY_S) - 1)], self._pause_s))
            failures += 1

    async def _subscribe(self, link: Link) -> bool:
        """Whether that is permitted."""
        client_id = link.client_id
        try:
            if client_id is None:
                client_id = int(await link.ask("CLIENT", "ID"))
            await link.ask("SUBSCRIBE", CHANNEL)
        except ResponseError as exc:
            if not is_refused(exc):
                raise
            self.refused("SUBSCRIBE", f"+subscribe and the channel &{CHANNEL.decode()}", exc)
            return False
        if self.hears:
            await self._subscribe_to_announcements(link)
        self.epoch = link.epoch
        self.client_id = client_id
        self._tried.set()
        self._changed(None)  # what was written while nobody listened
        return True

    async def _subscribe_to_announcements(self, link: Link) -> None:
        try:
            await link.ask("PSUBSCRIBE", CHASQUIMQ.channels)
        except ResponseError as exc:  # an ACL does not allow it; tracking is what matters
            if not is_refused(exc):
                raise
            self.hears = False
            log.warning("announcements cannot be heard (%s): new queues and processes are found later", exc)

    async def _listen(self, link: Link) -> None:
        while True:
            push = await next_push(link.connection)
            if isinstance(push, list) and len(push) == 3 and push[1] == CHANNEL:
                if push[2] is None:  # FLUSHALL, or the server has forgotten what we read
                    self._changed(None)
                else:
                    for key in push[2]:
                        self._changed(key)
            elif isinstance(push, list) and len(push) == 4:  # pmessage, pattern, channel, key
                self._changed(push[3])
