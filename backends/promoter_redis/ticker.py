"""`Ticker`: the connection that runs `lock` and `promote`, and the watcher that hears of changes to what they read.

Both talk to the same server. The tick connection is one of its own, for NOLOOP hides a connection's own writes: nothing
else may write on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from promoter_core.ending import ended
from promoter_core.model import Wake
from promoter_redis.watcher import Watcher, peer_of
from promoter_resp.driver import Call, Changed

log = logging.getLogger("promoter.redis")

MIND_S = 0.1  # how often the idle tick connection is looked at


class Ticker:
    """`make` gives a redis-py connection that is not connected yet. `tracks=False` for servers without tracking."""

    def __init__(self, make: Callable[[], Any], *, tracks: bool = True) -> None:
        self._make = make
        self._tracks = tracks
        self._connection: Any = None
        self._lock = asyncio.Lock()
        self._hears = False  # the watcher subscribes to announcements too
        self._tracked_by: int | None = None  # the watcher that this connection's reads are announced to
        self._watcher: Watcher | None = None
        self._minder: asyncio.Task[None] | None = None

    @property
    def wake(self) -> Wake:
        """ANY_WRITE before the first tick; then whether the server announces what that read."""
        if not self._tracks:
            return Wake.POLL
        if self._watcher is None or self._connection is None:
            return Wake.ANY_WRITE
        tracked = self._watcher.client_id is not None and self._watcher.client_id == self._tracked_by
        return Wake.ANY_WRITE if tracked else Wake.POLL

    async def watch(self, changed: Changed) -> None:
        """Start to listen for changes; returns once that has succeeded or failed. Quick when it is set up."""
        if self._tracks and self._watcher is None:
            self._watcher = Watcher(self._make, changed)
            self._watcher.hears = self._hears
            self._minder = asyncio.create_task(self._mind(changed), name="promoter-tick-minder")
            await self._watcher.start()

    async def hear(self, changed: Changed) -> None:
        """As `watch`, and for announcements too."""
        self._hears = True
        await self.watch(changed)
        if self._watcher is not None and not self._watcher.hears:
            self._watcher.hears = True
            self._watcher.reconnect()

    async def close(self) -> None:
        if self._watcher is not None:
            await self._watcher.stop()
            self._watcher = None
        if self._minder is not None:
            await ended(self._minder)
            self._minder = None
        await self._disconnect()
        self._connection = None

    async def ticks(self, calls: Sequence[Call]) -> list[Any]:
        """The replies, in order; that of a call which failed is a ResponseError."""
        async with self._lock:
            if self._connection is None:
                self._connection = self._make()
            try:
                replies = await self._run(self._connection, calls)
            except ResponseError:
                raise
            except BaseException:  # a reply may still be on its way: never read it as the next call's
                await self._disconnect()
                raise
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await self._disconnect()  # demoted: what took its place may answer at the same address
            return replies

    async def _run(self, connection: Any, calls: Sequence[Call]) -> list[Any]:
        if not connection.is_connected:
            self._tracked_by = None
            await connection.connect()
        await self._track(connection)
        commands = [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = [await _reply(connection) for _ in calls]
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError):  # it has not run, so running it now is no repetition
                arguments = (len(call.keys), *call.keys, *call.args)
                await connection.send_command("EVAL", call.script.source, *arguments, check_health=False)
                replies[i] = await _reply(connection)
        return replies

    async def _track(self, connection: Any) -> None:
        """Have the server announce what this connection reads to the watcher, if that is not so already."""
        watcher = self._watcher
        if watcher is None or watcher.client_id in (None, self._tracked_by):
            return
        if watcher.peer != peer_of(connection):  # after a fail-over: the watcher is still with the old primary
            watcher.reconnect()
            return
        try:
            await ask(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", watcher.client_id, "NOLOOP")
        except ResponseError as exc:
            if "redirect" in str(exc).lower():  # that watcher has gone in the meantime
                watcher.reconnect()
                return
            log.warning("the server does not allow client tracking (%s): polling instead", exc)
            self._tracks = False
            await watcher.stop()
            return
        self._tracked_by = watcher.client_id

    async def _mind(self, changed: Changed) -> None:
        """Notice that the server has closed the idle tick connection, and with it forgotten what to announce.

        Looks at local state only and sends nothing. A connection that dies without a word is found by the next tick.
        """
        while True:
            await asyncio.sleep(MIND_S)
            reader = getattr(self._connection, "_reader", None)  # redis-py has no public way to ask without reading
            if reader is not None and reader.at_eof() and not self._lock.locked():
                await self._disconnect()
                changed(None)

    async def _disconnect(self) -> None:
        self._tracked_by = None
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def ask(connection: Any, *args: Any) -> Any:
    await connection.send_command(*args, check_health=False)
    return await connection.read_response()
