"""`Connections`: all connections of a driver to its server. They are created, lent out and dropped here, together.

"This is no longer our server" is one event, whatever shows it: READONLY or MASTERDOWN, two timeouts in a row, a
connection that reaches another server than before, or a sentinel's message. It starts a new `epoch`: connections of an
older one are not used again, and new ones resolve the address again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.exceptions as rx

from promoter_core.spi import TransientError, closed_error
from promoter_redis.credentials import Rotating
from promoter_redis.errors import is_no_primary, is_refused
from promoter_redis.link import Link
from promoter_redis.sentinel import Sentinels
from promoter_redis.watchdog import Watchdog

log = logging.getLogger("promoter.redis")

LIMIT = 32  # maximum connections in use; further calls wait for one
TIMEOUTS = 2  # consecutive time-outs before the connections are given up
SLOW_S = 1.0  # without an answer for this long, a new connection checks for another server
QUIET_S = 10.0  # minimum time between two logs about giving up a server

REPLICAS = (b"slave", b"replica")


class Connections:
    """`make` returns a redis-py connection that is not connected yet. With `sentinels`, it goes where they say.

    `identifies=False` is for servers without an identity to ask for.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        timeout_s: float,
        sentinels: Sentinels | None = None,
        identifies: bool = True,
    ) -> None:
        self.epoch = 0
        self._make = make
        self._timeout_s = timeout_s
        self._sentinels = sentinels
        self._greets = identifies
        self._identifies = identifies
        self._run_id: bytes | None = None  # identifies the server of this epoch
        self._newest_id = 0  # highest client id in this epoch; a server assigns increasing ids
        self._timeouts = 0  # consecutive time-outs
        self._quiet_until_s = 0.0
        self._room = asyncio.Semaphore(LIMIT)
        self._idle: list[Link] = []
        self._under_way: dict[asyncio.Timeout, int] = {}  # calls in progress, with the epoch in which they started
        self._watchdog = Watchdog(timeout_s, SLOW_S, self._look)
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._given_up: Callable[[], None] | None = None
        self._closed = False

    @property
    def identified(self) -> bool:
        """Whether the server reports its identity, so all connections of an epoch are known to reach the same one."""
        return self._run_id is not None

    def when_given_up(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a new epoch has begun."""
        self._given_up = call

    def open(self) -> None:
        self._closed = False
        if self._sentinels is not None:
            self._sentinels.follow(lambda: self.give_up(self.epoch, "the sentinels name another primary"))

    def shut(self) -> None:
        """Fail everything pending, and close every connection in the background."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._cut(self.epoch + 1)
        self._watchdog.close()
        idle, self._idle = self._idle, []
        for link in idle:
            self.drop(link)

    async def close(self) -> None:
        """Like `shut`, and wait until it is done."""
        self.shut()
        if self._sentinels is not None:
            await self._sentinels.close()
        ending = [*self._closing, *([self._looking] if self._looking is not None else [])]
        if ending:
            await asyncio.wait(ending)  # not cancelled together with this task
        await asyncio.sleep(0)  # let the transports close, in the next step of the loop

    async def use(self, work: Callable[[Link], Awaitable[list[Any]]]) -> list[Any]:
        """Lend a connection to `work`, which returns replies.

        Waiting for a connection does not count towards the timeout.

        Raises redis-py's errors, and TimeoutError.
        """
        async with self._room:
            async with self.timed():
                link = await self._take()
                try:
                    replies = await work(link)
                except BaseException:  # a reply may still arrive: never read it as the reply to the next call
                    await link.close()
                    raise
            self.judge(link.epoch, replies)
            if not self._closed and link.epoch == self.epoch:
                self._idle.append(link)
            else:
                await link.close()
            return replies

    async def settled(self) -> None:
        """Wait while the primary is being replaced. The epoch may be another afterwards."""
        if self._sentinels is not None:
            await self._sentinels.settled()
        if self._closed:
            raise closed_error()

    @asynccontextmanager
    async def timed(self, *, spent_s: float = 0.0) -> AsyncIterator[None]:
        """Limit `work` in time, and drop the server after repeated timeouts. Raises TimeoutError.

        `spent_s` seconds of that time have already passed.
        """
        await self.settled()
        epoch = self.epoch
        slow = asyncio.get_running_loop().call_later(SLOW_S, self._look)
        try:
            async with asyncio.timeout(self._timeout_s - spent_s) as scope:
                self._under_way[scope] = epoch
                try:
                    yield
                finally:
                    del self._under_way[scope]
        except (TimeoutError, rx.TimeoutError):
            raise self._timed_out(epoch) from None
        finally:
            slow.cancel()
        self._timeouts = 0

    async def answer(self, coming: asyncio.Future[list[Any]]) -> list[Any]:
        """Return the answer to a call of this epoch, limited like `timed` at a fraction of its cost.

        One call at a time.

        The caller has waited for `settled`.
        """
        epoch = self.epoch
        try:
            replies = await self._watchdog.wait(coming, epoch)
        except (TimeoutError, rx.TimeoutError):
            raise self._timed_out(epoch) from None
        self._timeouts = 0
        return replies

    def _timed_out(self, epoch: int) -> Exception:
        """Record a timeout, and return the error to raise."""
        if self._closed:
            return closed_error()
        if epoch == self.epoch:
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS:
                self.give_up(epoch, f"{self._timeouts} time-outs in a row")
        return TimeoutError()

    def _look(self) -> None:
        """Check, when an answer takes long, whether another server has replaced ours, so that it will never come."""

        async def look() -> None:
            with contextlib.suppress(Exception):
                self.drop(await self.connect())
                self._cut(self.epoch)

        if (self._looking is None or self._looking.done()) and not self._closed:
            self._looking = asyncio.create_task(look(), name="promoter-look")

    def _cut(self, epoch: int) -> None:
        """End what is pending since before that epoch."""
        for scope, began in self._under_way.items():
            if began < epoch and not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())
        self._watchdog.cut(epoch)

    def judge(self, epoch: int, replies: Sequence[Any]) -> None:
        """Drop the server if one of the replies of that epoch says that it is not a primary."""
        for reply in replies:
            if isinstance(reply, Exception) and is_no_primary(reply):
                self.give_up(epoch, str(reply))
                return

    def give_up(self, epoch: int, why: str) -> None:
        """Drop the server of that epoch. Does nothing if that has already happened."""
        if epoch != self.epoch:
            return
        now_s = asyncio.get_running_loop().time()
        log.log(logging.DEBUG if now_s < self._quiet_until_s else logging.INFO, "reconnecting all connections: %s", why)
        self._quiet_until_s = now_s + QUIET_S
        self.epoch += 1
        self._run_id, self._newest_id, self._timeouts = None, 0, 0
        if self._sentinels is not None:
            self._sentinels.doubt()
        idle, self._idle = self._idle, []
        for link in idle:
            self.drop(link)
        if self._given_up is not None:
            self._given_up()

    def drop(self, link: Link) -> None:
        """Close a connection in the background."""
        task = asyncio.create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def connect(self) -> Link:
        """Return a new connection.

        Raises redis-py's errors, TimeoutError, and TransientError when no primary is found.
        """
        while True:
            epoch, newest_id = self.epoch, self._newest_id
            connection = self._make()
            try:
                async with asyncio.timeout(self._timeout_s):
                    if self._sentinels is not None:
                        connection.host, connection.port = await self._sentinels.primary()
                    if isinstance(connection.credential_provider, Rotating):
                        await connection.credential_provider.before_connecting()
                    await connection.connect()
                    link = await self._greeted(Link(connection, epoch), newest_id)
            except BaseException:
                await Link(connection, epoch).close()
                if self._sentinels is not None:
                    self._sentinels.doubt()
                raise
            if self._closed:
                await link.close()
                raise closed_error()
            if link.epoch == self.epoch:
                return link
            await link.close()  # the connections were given up meanwhile

    async def _take(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            try:
                if await link.is_usable():
                    return link
            except BaseException:
                await link.close()
                raise
            await link.close()
        return await self.connect()

    async def _greeted(self, link: Link, newest_id: int) -> Link:
        """Find out which server the new connection reaches. `newest_id` was that of the newest one before it."""
        if not self._greets:
            return link
        hello, info = await link.send([("HELLO",), ("INFO", "server") if self._identifies else ("PING",)])
        facts = _facts(hello)
        if self._sentinels is not None and facts.get(b"role") in REPLICAS:
            host, port = link.connection.host, link.connection.port
            raise TransientError(f"{host}:{port}, which the sentinels name, is not the primary", code="READONLY")
        if isinstance(facts.get(b"id"), int):
            link.client_id = facts[b"id"]
        if self._identifies and isinstance(info, Exception):
            if not is_refused(info):
                raise info
            self._identifies = False
            log.info("INFO is not permitted (%s): a server that another replaces is noticed by its errors only", info)
        if link.epoch == self.epoch:
            self._recognize(link, _run_id(info) if self._identifies else None, newest_id)
        return link

    def _recognize(self, link: Link, run_id: bytes | None, newest_id: int) -> None:
        """Take the server of the newest connection as ours."""
        if run_id is not None:
            another = self._run_id not in (None, run_id)
        else:
            another = link.client_id is not None and link.client_id < newest_id
        if another:
            self.give_up(link.epoch, "another server answers")
            link.epoch = self.epoch
        self._run_id = run_id
        self._newest_id = max(self._newest_id, link.client_id or 0)


def _facts(hello: Any) -> dict[bytes, Any]:
    """Return the content of HELLO's reply; empty for an error."""
    if isinstance(hello, list):
        return dict(zip(hello[::2], hello[1::2], strict=False))
    return hello if isinstance(hello, dict) else {}


def _run_id(info: Any) -> bytes | None:
    for line in info.splitlines() if isinstance(info, bytes) else ():
        if line.startswith(b"run_id:"):
            return bytes(line[7:].strip()) or None
    return None
