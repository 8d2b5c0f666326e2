"""`RedisDriver`: `promoter_resp.driver.Driver` for one server, on redis-py's asyncio client, versions 5 and newer.

A pool of connections serves schedule, cancel and the like; ticks have a separate connection and a watcher, in
`tick_connection.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from redis.exceptions import NoScriptError

from promoter_core.spi import CHASQUIMQ, Layout, Lifecycle, QueueKeys, Wake, close_all, run_call
from promoter_redis.connections import Connections
from promoter_redis.errors import translate
from promoter_redis.link import Link
from promoter_redis.sentinel import Sentinels
from promoter_redis.tick_connection import TickConnection
from promoter_resp.driver import SCANNED, Arg, Call, Changed


class RedisDriver:
    """One server, or the primary that sentinels name, through redis-py.

    `pool` makes connections that speak RESP2, decode nothing and retry nothing; `where` names the server in messages.
    `tracks=False` is for servers without client tracking. `layout` determines the channels of announcements.
    """

    durable = True
    shared = True
    clustered = False

    def __init__(
        self,
        pool: Any,
        *,
        where: str,
        timeout_s: float,
        tracks: bool = True,
        sentinels: Sentinels | None = None,
        layout: Layout | None = None,
    ) -> None:
        self._where = where
        self._connections = Connections(
            pool.make_connection, timeout_s=timeout_s, sentinels=sentinels, identifies=tracks
        )
        self._tick_connection = TickConnection(self._connections, (layout or CHASQUIMQ).channels, tracks=tracks)
        self._life = Lifecycle()
        self._guard = partial(run_call, translate=partial(translate, where=where), life=self._life)

    @property
    def wake(self) -> Wake:
        return self._tick_connection.wake

    async def open(self) -> None:
        await self._life.open(self._connect)

    async def _connect(self) -> None:
        self._connections.open()
        await self._send(("PING",))

    async def close(self) -> None:
        """Disconnect everything at the same time, and abandon what takes longer than CLOSE_S seconds."""
        await self._life.close(self._disconnect)

    async def _disconnect(self) -> None:
        self._connections.shut()  # even if this task is cancelled
        await close_all(self._tick_connection.close(), self._connections.close())

    async def run_tracked(self, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = await self._guard(self._tick_connection.run_tracked(calls))
        for i, reply in enumerate(replies):
            if isinstance(reply, Exception):
                replies[i] = translate(reply, self._where)
        return replies

    async def run_scripts(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        replies: list[Any] = await self._guard(self._connections.use(partial(_run, calls, after)))
        if failed := next((reply for reply in replies if isinstance(reply, Exception)), None):
            raise translate(failed, self._where) from failed
        return replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._send(args)

    async def track_writes(self, keys: QueueKeys, changed: Changed) -> None:
        await self.listen(changed)

    async def listen(self, changed: Changed) -> None:
        await self._tick_connection.track_writes(changed)

    async def subscribe(self, changed: Changed) -> None:
        await self._tick_connection.subscribe(changed)

    @property
    def hears(self) -> bool:
        """Whether the connection for announcements exists."""
        return self._tick_connection.hears

    def hush(self) -> None:
        """Stop receiving announcements when the current connection ends."""
        self._tick_connection.hush()

    async def scan(self, match: bytes) -> AsyncIterator[Sequence[bytes]]:
        cursor: bytes | int = 0
        while True:
            cursor, page = await self._send(("SCAN", cursor, "MATCH", match, "COUNT", SCANNED))
            yield page
            if int(cursor) == 0:
                return

    async def _send(self, command: Sequence[Arg]) -> Any:
        (reply,) = await self._guard(self._connections.use(lambda link: link.send([command])))
        if isinstance(reply, Exception):
            raise translate(reply, self._where) from reply
        return reply


async def _run(calls: Sequence[Call], after: Sequence[Arg], link: Link) -> list[Any]:
    replies = await link.send([_evalsha(call) for call in calls])
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:  # those scripts have not run, so this is not a retry
        again = await link.send([_eval(calls[i]) for i in unknown])
        for i, reply in zip(unknown, again, strict=True):
            replies[i] = reply
    # WAIT can block, so call it once, for all of them.
    if after and not any(isinstance(reply, Exception) for reply in replies):
        replies += await link.send([after])
    return replies


def _evalsha(call: Call) -> list[Arg]:
    return ["EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args]


def _eval(call: Call) -> list[Arg]:
    return ["EVAL", call.script.source, len(call.keys), *call.keys, *call.args]
