"""The connection on which the server tells of changes: client tracking, redirected to a subscriber (RESP2).

The connection that runs `promote` and `lock` has CLIENT TRACKING ON REDIRECT <id of this one> NOLOOP, so the server
remembers what those scripts read and announces the next write to it, by any client in any language, here.

This connection can die alone, or go half-open, and the other would never be told. So it is probed, everybody is woken
whenever it comes or goes, and until it is back `client_id` is None: the promoter polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from promoter_core.ending import cancelled, ended
from promoter_resp.driver import Changed
from promoter_resp.keys import CHANNELS

log = logging.getLogger("promoter.redis")

CHANNEL = b"__redis__:invalidate"
PROBE_S = 5.0  # a PING after this much silence, and a new connection when it stays unanswered as long
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


def peer_of(connection: Any) -> tuple[Any, ...]:
    """What a connection is connected to."""
    return (getattr(connection, "host", None), getattr(connection, "port", None), getattr(connection, "path", None))


class Watcher:
    """Keeps one subscribed connection alive and hands what it hears to `changed`."""

    def __init__(self, make: Callable[[], Any], changed: Changed) -> None:
        self.client_id: int | None = None  # None while there is no connection
        self.peer: tuple[Any, ...] = ()  # what it is connected to
        self.hears = False  # subscribe to what processes announce, too; from the next connection on
        self._make = make
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

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
            await ended(task)

    def reconnect(self) -> None:
        """Give up the present connection, in the background: it is with the wrong server, or not known there."""
        if self._listening is not None:
            self.client_id = None
            self._listening.cancel()

    async def _keep(self) -> None:
        failures = 0
        while not cancelled():  # a client may swallow it
            connection = self._make()
            try:
                await connection.connect()
                await self._subscribe(connection)
                failures = 0
                self._listening = asyncio.create_task(self._listen(connection))
                await asyncio.wait((self._listening,))
                if not self._listening.cancelled():  # by `reconnect`
                    self._listening.result()
            except Exception as exc:
                log.log(logging.DEBUG if failures else logging.INFO, "watching for changes is interrupted: %s", exc)
            finally:
                self.client_id = None
                if self._listening is not None:
                    self._listening.cancel()
                    self._listening = None
                with contextlib.suppress(Exception):
                    await connection.disconnect(nowait=True)
            self._tried.set()
            self._changed(None)
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1

    async def _subscribe(self, connection: Any) -> None:
        await connection.send_command("CLIENT", "ID", check_health=False)
        client_id = int(await connection.read_response())
        await connection.send_command("SUBSCRIBE", CHANNEL, check_health=False)
        await connection.read_response()
        if self.hears:
            await self._subscribe_to_announcements(connection)
        self.peer = peer_of(connection)
        self.client_id = client_id
        self._tried.set()
        self._changed(None)  # what was written while nobody listened

    async def _subscribe_to_announcements(self, connection: Any) -> None:
        await connection.send_command("PSUBSCRIBE", CHANNELS, check_health=False)
        try:
            await connection.read_response()
        except ResponseError as exc:  # an ACL does not allow it; tracking is what matters
            self.hears = False
            log.warning("announcements cannot be heard (%s): new queues and processes are found later", exc)

    async def _listen(self, connection: Any) -> None:
        probed = False
        while True:
            push = await connection.read_response(timeout=PROBE_S)
            if push is None:
                if probed:
                    raise TimeoutError("the watching connection does not answer")
                await connection.send_command("PING", check_health=False)
                probed = True
                continue
            probed = False
            if isinstance(push, list) and len(push) == 3 and push[1] == CHANNEL:
                if push[2] is None:  # FLUSHALL, or the server has forgotten what we read
                    self._changed(None)
                else:
                    for key in push[2]:
                        self._changed(key)
            elif isinstance(push, list) and len(push) == 4:  # pmessage, pattern, channel, key
                self._changed(push[3])
