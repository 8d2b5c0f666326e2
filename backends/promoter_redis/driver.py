"""`RedisDriver`: `promoter_resp.driver.Driver` for one server, on redis-py's asyncio client, versions 5 and newer.

A pool of connections serves schedule, cancel and the like; ticks have a connection and a watcher of their own, in
`ticker.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError

from promoter_core.ending import all_ended
from promoter_core.errors import BackendError
from promoter_core.model import Wake
from promoter_redis.errors import translate
from promoter_redis.ticker import Ticker
from promoter_resp.driver import SCANNED, Arg, Call, Changed
from promoter_resp.errors import closed_error, timeout_error
from promoter_resp.keys import QueueKeys


class RedisDriver:
    """One server, or the primary that sentinels name, through redis-py.

    `pool` makes connections that speak RESP2, decode nothing, retry nothing and have timeouts; `where` names the
    server in messages. `tracks=False` for servers without client tracking.
    """

    durable = True
    shared = True
    clustered = False

    def __init__(
        self, pool: Any, *, where: str, timeout_s: float, tracks: bool = True, owns: Sequence[Any] = ()
    ) -> None:
        """`owns`: further clients to close with this driver, such as those of sentinels."""
        self._pool = pool
        self._owns = owns
        self._where = where
        self._timeout_s = timeout_s
        self._client = Redis(connection_pool=pool)
        self._ticker = Ticker(pool.make_connection, tracks=tracks)
        self._closed = False

    @property
    def wake(self) -> Wake:
        return self._ticker.wake

    async def open(self) -> None:
        self._closed = False
        await self._guard(self._client.ping())

    async def close(self) -> None:
        """Disconnects at the same time what it has, and leaves what does not end in CLOSE_S seconds."""
        self._closed = True
        await all_ended(
            self._ticker.close(), self._client.aclose(), self._pool.disconnect(), *(c.aclose() for c in self._owns)
        )

    async def ticks(self, calls: Sequence[Call]) -> list[Any]:
        replies = await self._guard(self._ticker.ticks(calls))
        return [await self._error(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def run(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        replies: list[Any] = await self._guard(self._run(calls, after))
        return replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._guard(self._client.execute_command(*args))

    async def watch(self, keys: QueueKeys, changed: Changed) -> None:
        await self.listen(changed)

    async def listen(self, changed: Changed) -> None:
        await self._ticker.watch(changed)

    async def hear(self, changed: Changed) -> None:
        await self._ticker.hear(changed)

    async def scan(self, match: bytes, type: str) -> AsyncIterator[Sequence[bytes]]:
        cursor: bytes | int = 0
        while True:
            command = self._client.execute_command("SCAN", cursor, "MATCH", match, "COUNT", SCANNED, "TYPE", type)
            cursor, page = await self._guard(command)
            yield page
            if int(cursor) == 0:
                return

    async def _guard(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Bound `call` in time, and raise what redis-py raises as our errors."""
        if self._closed:
            call.close()
            raise closed_error()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except BackendError:
            raise
        except TimeoutError:
            raise timeout_error(self._where) from None
        except Exception as exc:
            raise await self._error(exc) from exc

    async def _error(self, exc: Exception) -> BackendError:
        if isinstance(exc, ReadOnlyError):  # demoted: have the next call connect anew
            await self._pool.disconnect(inuse_connections=False)
        return translate(exc, self._where)

    async def _run(self, calls: Sequence[Call], after: Sequence[Arg]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
            if after:
                pipeline.execute_command(*after)
            replies = await pipeline.execute(raise_on_error=False)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:  # those have not run, so running them now is no repetition
                for i in unknown:
                    call = calls[i]
                    pipeline.execute_command("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)
                if after:
                    pipeline.execute_command(*after)
                again = await pipeline.execute(raise_on_error=False)
                for i, reply in zip([*unknown, len(calls)], again, strict=False):
                    replies[i] = reply
        if failed := next((reply for reply in replies if isinstance(reply, Exception)), None):
            raise failed
        return list(replies)
