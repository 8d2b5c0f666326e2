"""`RedisDriver`: `promoter_resp.driver.Driver` on redis-py's asyncio client, versions 5 and newer.

Three kinds of connections: a pool for schedule, cancel and the like; one of its own for ticks, whose reads the server
remembers (NOLOOP hides a connection's own writes, so nothing else may write on it); and the watcher's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from promoter_core.model import Wake
from promoter_redis.errors import translate
from promoter_redis.watcher import Watcher
from promoter_resp.driver import Arg, Call, Changed
from promoter_resp.errors import closed_error, timeout_error
from promoter_resp.keys import QueueKeys

log = logging.getLogger("promoter.redis")

MIND_S = 0.1  # how often the idle tick connection is looked at


class RedisDriver:
    """One server through redis-py.

    `pool` makes connections that speak RESP2, decode nothing, retry nothing and have timeouts; `where` names the
    server in messages. `tracks=False` for servers without client tracking.
    """

    durable = True
    shared = True

    def __init__(self, pool: Any, *, where: str, timeout_s: float, tracks: bool = True) -> None:
        self._pool = pool
        self._where = where
        self._timeout_s = timeout_s
        self._client = Redis(connection_pool=pool)
        self._ticker: Any = None  # the tick connection
        self._ticker_lock = asyncio.Lock()
        self._tracked_by: int | None = None  # the watcher that the tick connection's reads are announced to
        self._changed: Changed | None = None
        self._watcher: Watcher | None = None
        self._minder: asyncio.Task[None] | None = None
        self._tracks = tracks
        self._closed = False

    @property
    def wake(self) -> Wake:
        up = self._watcher is None or self._watcher.client_id is not None
        return Wake.ANY_WRITE if self._tracks and up else Wake.POLL

    async def open(self) -> None:
        self._closed = False
        await self._guard(self._client.ping())

    async def close(self) -> None:
        self._closed = True
        if self._watcher is not None:
            await self._watcher.stop()
            self._watcher = None
        if self._minder is not None:
            self._minder.cancel()
            await asyncio.gather(self._minder, return_exceptions=True)
            self._minder = None
        if self._ticker is not None:
            await self._ticker.disconnect(nowait=True)
            self._ticker = None
        await self._client.aclose()
        await self._pool.disconnect()

    async def tick(self, call: Call) -> Any:
        return await self._guard(self._tick(call))

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = await self._guard(self._run(calls))
        return replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._guard(self._client.execute_command(*args))

    async def watch(self, keys: QueueKeys, changed: Changed) -> None:
        if not self._tracks or self._watcher is not None:
            return
        self._changed = changed
        self._watcher = Watcher(self._make_connection, changed)
        self._minder = asyncio.create_task(self._mind_ticker(changed), name="promoter-tick-minder")
        await self._watcher.start()

    async def _mind_ticker(self, changed: Changed) -> None:
        """Notice that the server has closed the idle tick connection, and with it forgotten what to announce.

        Looks at local state only and sends nothing. A connection that dies without a word is found by the next tick.
        """
        while True:
            await asyncio.sleep(MIND_S)
            reader = getattr(self._ticker, "_reader", None)  # redis-py has no public way to ask without reading
            if reader is not None and reader.at_eof() and not self._ticker_lock.locked():
                await self._ticker.disconnect(nowait=True)
                self._tracked_by = None
                changed(None)

    async def _guard(self, call: Any) -> Any:
        """Bound `call` in time, and raise what redis-py raises as our errors."""
        if self._closed:
            call.close()
            raise closed_error()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            raise timeout_error(self._where) from None
        except Exception as exc:
            raise translate(exc, self._where) from exc

    async def _make_connection(self) -> Any:
        return self._pool.connection_class(**self._pool.connection_kwargs)

    async def _tick(self, call: Call) -> Any:
        async with self._ticker_lock:
            if self._ticker is None:
                self._ticker = await self._make_connection()
            try:
                return await self._tick_on(self._ticker, call)
            except ResponseError:
                raise
            except BaseException:  # a reply may still be on its way: never read it as the next call's
                self._tracked_by = None
                await self._ticker.disconnect(nowait=True)
                raise

    async def _tick_on(self, connection: Any, call: Call) -> Any:
        if not connection.is_connected:
            self._tracked_by = None
            await connection.connect()
        await self._track(connection)
        script, arguments = call.script, (len(call.keys), *call.keys, *call.args)
        try:
            return await _ask(connection, "EVALSHA", script.sha, *arguments)
        except NoScriptError:
            return await _ask(connection, "EVAL", script.source, *arguments)

    async def _track(self, connection: Any) -> None:
        """Have the server announce what this connection reads to the watcher, if that is not so already."""
        watcher = self._watcher
        if watcher is None or watcher.client_id in (None, self._tracked_by):
            return
        try:
            await _ask(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", watcher.client_id, "NOLOOP")
        except ResponseError as exc:
            if "redirect" in str(exc).lower():  # that watcher has gone in the meantime; the next one will come
                return
            log.warning("the server does not allow client tracking (%s): polling instead", exc)
            self._tracks = False
            watcher.refused = True
            await watcher.stop()
            return
        self._tracked_by = watcher.client_id

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
            replies = await pipeline.execute(raise_on_error=False)
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError):  # it has not run, so running it now is no repetition
                replies[i] = await self._client.execute_command(
                    "EVAL", call.script.source, len(call.keys), *call.keys, *call.args
                )
            elif isinstance(reply, Exception):
                raise reply
        return list(replies)


async def _ask(connection: Any, *args: Any) -> Any:
    await connection.send_command(*args, check_health=False)
    return await connection.read_response()
