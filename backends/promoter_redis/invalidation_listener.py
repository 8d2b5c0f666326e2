"""The connection on which the server reports changes: client tracking, redirected to a subscriber (RESP2).

The connection that runs `promote` and `lock` uses CLIENT TRACKING ON REDIRECT <id of this one> NOLOOP. So the server
remembers what those scripts read and announces the next write to it here, by any client in any language.

This connection can die alone or become half-open without the other noticing. So it is probed, all waits end whenever it
starts or ends, and while it is away `client_id` is None and the promoter polls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from promoter_core.spi import PushChannel
from promoter_redis.connections import Connections
from promoter_redis.errors import is_refused
from promoter_redis.link import Link, next_push
from promoter_redis.thin_link import ThinLink, thin
from promoter_resp.driver import Changed

log = logging.getLogger("promoter.redis")

CHANNEL = b"__redis__:invalidate"
REFUSED_S = 300.0  # before a command is retried that was not permitted


class InvalidationListener:
    """Keeps one subscribed connection alive and passes its messages to `changed`."""

    def __init__(self, connections: Connections, channels: str, changed: Changed) -> None:
        self.client_id: int | None = None  # None while disconnected
        self.epoch = 0  # the epoch of that connection
        self.hears = False  # whether to subscribe to announcements, from the next connection on
        self._connections = connections
        self._channels = channels
        self._changed = changed
        self._channel = PushChannel(
            self._listen, partial(changed, None), name="watching for changes", connect_s=None, log=log
        )
        self._warned = False

    async def start(self) -> None:
        """Return when the first attempt has succeeded or failed. It continues in the background."""
        await self._channel.start()

    async def stop(self) -> None:
        self.client_id = None
        await self._channel.stop()

    def reconnect(self) -> None:
        """Drop the current connection in the background: it reaches the wrong server, or is unknown there."""
        if self._channel.hears:
            self.client_id = None
            self._channel.reconnect()

    def refused(self, command: str, needed: str, exc: Exception) -> None:
        """Work without tracking for some minutes. The reason is logged once, and the promoter polls."""
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        log.log(
            level,
            "cannot watch for changes, so the promoter polls: the server refuses %s (%s); allow %s to this user. "
            "Next attempt in %d minutes",
            command,
            exc,
            needed,
            REFUSED_S // 60,
        )
        self.client_id = None
        self._channel.reconnect(after_s=REFUSED_S)

    async def _listen(self, connected: Callable[[], None]) -> None:
        link: Link | None = None
        try:
            async with self._connections.timed():
                link = await thin(await self._connections.connect())
                client_id = await self._subscribe(link)
            if client_id is not None:
                self.epoch, self.client_id = link.epoch, client_id
                connected()
                if isinstance(link, ThinLink):
                    await link.listen(self._hand_on)
                while True:
                    self._hand_on(await next_push(link.connection))
        finally:
            self.client_id = None
            if link is not None:
                await link.close()

    async def _subscribe(self, link: Link) -> int | None:
        """Return the connection's id; None when tracking is not permitted."""
        client_id = link.client_id
        try:
            if client_id is None:
                client_id = int(await link.ask("CLIENT", "ID"))
            await link.ask("SUBSCRIBE", CHANNEL)
        except ResponseError as exc:
            if not is_refused(exc):
                raise
            self.refused("SUBSCRIBE", f"+subscribe and the channel &{CHANNEL.decode()}", exc)
            return None
        if self.hears:
            await self._subscribe_to_announcements(link)
        return client_id

    async def _subscribe_to_announcements(self, link: Link) -> None:
        try:
            await link.ask("PSUBSCRIBE", self._channels)
        except ResponseError as exc:  # an ACL denies it; tracking matters more
            if not is_refused(exc):
                raise
            self.hears = False
            log.warning("cannot receive announcements (%s): new queues and processes are found later", exc)

    def _hand_on(self, push: Any) -> None:
        if isinstance(push, list) and len(push) == 3 and push[1] == CHANNEL:
            for key in push[2] or [None]:  # None: FLUSHALL, or the server has dropped its tracking data
                self._changed(key)
        elif isinstance(push, list) and len(push) == 4:  # pmessage, pattern, channel, key
            self._changed(push[3])
