"""`TickConnection`: runs `lock` and `promote`, beside the listener that receives changes to what they read.

Both use the same server. The tick connection is separate because NOLOOP hides a connection's own writes, so nothing
else may write on it.

A new tick connection tracks only what has ticked on it, so all waits end whenever one is lost for any reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, ResponseError

from promoter_core.spi import CHASQUIMQ, Wake, cancel_and_wait
from promoter_redis.connections import Connections
from promoter_redis.errors import is_refused
from promoter_redis.invalidation_listener import InvalidationListener
from promoter_redis.link import Link
from promoter_redis.thin_link import ThinLink, thin
from promoter_resp.driver import Arg, Call, Changed, Timed, between_ms

TIME = ("TIME",)
MIND_S = 0.1  # interval of checks of the idle tick connection


class TickConnection:
    """`channels` is the pattern of the channels of announcements.

    `tracks=False` is for servers without client tracking.
    """

    def __init__(self, connections: Connections, channels: str = CHASQUIMQ.channels, *, tracks: bool = True) -> None:
        self._connections = connections
        self._channels = channels
        self._tracks = tracks
        self._link: Link | None = None
        self._lock = asyncio.Lock()
        self._latest: tuple[Call | None, list[tuple[Arg, ...]]] = (None, [])  # the last call, cached as commands
        self._ticked = False
        self._hears = False  # whether the watcher also subscribes to announcements
        self._tracked_by: int | None = None  # the client id of the watcher that this connection's tracking redirects to
        self._listener: InvalidationListener | None = None
        self._changed: Changed | None = None
        self._minder: asyncio.Task[None] | None = None
        connections.when_given_up(self._given_up)

    @property
    def wake(self) -> Wake:
        """ANY_WRITE before the first tick; then whether the server announces changes to what it read."""
        if not self._tracks:
            return Wake.POLL
        if self._listener is None or not self._ticked:
            return Wake.ANY_WRITE
        tracked = self._listener.client_id is not None and self._listener.client_id == self._tracked_by
        return Wake.ANY_WRITE if tracked else Wake.POLL

    async def track_writes(self, changed: Changed) -> None:
        """Start listening for changes, and return once that has succeeded or failed. Fast once it is set up."""
        if self._tracks and self._listener is None:
            self._changed = changed
            self._listener = InvalidationListener(self._connections, self._channels, changed)
            self._listener.hears = self._hears
            self._minder = asyncio.create_task(self._mind(), name="promoter-tick-minder")
            await self._listener.start()

    async def subscribe(self, changed: Changed) -> None:
        """Like `track_writes`, and also for announcements."""
        self._hears = True
        await self.track_writes(changed)
        if self._listener is not None and not self._listener.hears:
            self._listener.hears = True
            self._listener.reconnect()

    @property
    def hears(self) -> bool:
        """Whether the listener has a connection, or will never have one."""
        return not self._tracks or (self._listener is not None and self._listener.client_id is not None)

    def hush(self) -> None:
        self._hears = False
        if self._listener is not None:
            self._listener.hears = False

    async def close(self) -> None:
        watcher, self._listener = self._listener, None
        minder, self._minder = self._minder, None
        self._changed = None
        if watcher is not None:
            await watcher.stop()
        if minder is not None:
            await cancel_and_wait(minder)
        self._lose()
        self._ticked = False

    async def run_tracked(self, calls: Sequence[Call]) -> list[Any]:
        """Return the replies, in order. That of a failed call is a ResponseError."""
        async with self._lock:
            try:
                await self._connections.settled()
                link = self._link
                if isinstance(link, ThinLink) and self._is_ready(link):
                    replies = await self._run_at_once(link, calls)
                else:
                    async with self._connections.timed():
                        link = await self._connected()
                        await self._track(link)
                        replies = await self._load(link, calls, _replies(await link.send(_commands(calls)), calls))
            except BaseException as exc:  # a reply may still arrive: never read it as the reply to the next call
                self._lose()
                if isinstance(exc, TimeoutError) and self._listener is not None:
                    self._listener.reconnect()  # its connection may be dead as well
                raise
            self._connections.judge(link.epoch, replies)
            if link.epoch != self._connections.epoch:
                self._lose()
            return replies

    async def _connected(self) -> Link:
        """Return the tick connection, replacing one that is lost or belongs to another server."""
        if self._link is not None and (self._link.epoch != self._connections.epoch or self._link.at_eof):
            self._lose()
        again, self._ticked = self._ticked, True
        if self._link is None:
            self._link = await thin(await self._connections.connect())
            if again and self._listener is not None and not self._connections.identified:
                self._listener.reconnect()  # it may be connected to a different server than this connection
        return self._link

    def _is_ready(self, link: Link) -> bool:
        """Whether the connection can tick without further setup."""
        watcher = self._listener
        tracked = watcher is None or watcher.client_id in (None, self._tracked_by)
        return tracked and link.epoch == self._connections.epoch and not link.at_eof

    async def _run_at_once(self, link: ThinLink, calls: Sequence[Call]) -> list[Any]:
        if len(calls) != 1 or calls[0] is not self._latest[0]:
            self._latest = calls[0] if len(calls) == 1 else None, _commands(calls)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        replies = _replies(await self._connections.answer(link.call(self._latest[1])), calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            async with self._connections.timed(spent_s=loop.time() - began_s):
                if link.epoch != self._connections.epoch:
                    raise ConnectionLost("the connection was given up")
                return await self._load(link, calls, replies)
        return replies

    async def _load(self, link: Link, calls: Sequence[Call], replies: list[Any]) -> list[Any]:
        """Return the replies, after loading the scripts that the server did not have."""
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError):  # the script has not run, so this is not a retry
                (replies[i],) = await link.send([("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)])
        return replies

    async def _track(self, link: Link) -> None:
        """Have the server announce what this connection reads to the listener, if it does not yet."""
        watcher = self._listener
        if watcher is None or watcher.client_id in (None, self._tracked_by):
            return
        if watcher.epoch != link.epoch:  # it is connected to a different server
            watcher.reconnect()
            return
        client_id = watcher.client_id
        try:
            await link.ask("CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "NOLOOP")
        except ResponseError as exc:
            if "redirect" in str(exc).lower():  # that watcher has disconnected meanwhile
                watcher.reconnect()
            elif is_refused(exc):
                watcher.refused("CLIENT TRACKING", "+client|tracking", exc)
            return  # any other error also hits the tick, and the next tick retries
        if self._link is link:
            self._tracked_by = client_id

    async def _mind(self) -> None:
        """Notice that the server has closed the idle tick connection, and so forgotten what to announce.

        Sends nothing. The next tick finds a connection that died silently.
        """
        while True:
            await asyncio.sleep(MIND_S)
            if self._link is not None and self._link.at_eof and not self._lock.locked():
                self._lose()

    def _given_up(self) -> None:
        """Handle that the server is no longer ours."""
        if not self._lock.locked():  # otherwise the current tick does it
            self._lose()
        self._tracked_by = None
        if self._listener is not None:
            self._listener.reconnect()
        if self._changed is not None:
            self._changed(None)

    def _lose(self) -> None:
        """Have the next tick reconnect, and end all waits: changes may have been missed."""
        self._tracked_by = None
        link, self._link = self._link, None
        if link is not None:
            self._connections.drop(link)
            if self._changed is not None:
                self._changed(None)


def _commands(calls: Sequence[Call]) -> list[tuple[Arg, ...]]:
    commands: list[tuple[Arg, ...]] = []
    for call in calls:
        evalsha = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        commands += [TIME, evalsha, TIME] if call.timed else [evalsha]
    return commands


def _replies(answers: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
    """Return the replies to the calls, from the answers to their commands."""
    following = iter(answers)
    return [_reply_to(following, call) for call in calls]


def _reply_to(answers: Iterator[Any], call: Call) -> Any:
    if not call.timed:
        return next(answers)
    before, reply, after = next(answers), next(answers), next(answers)
    return reply if isinstance(reply, Exception) else Timed(reply, between_ms(before, after))
