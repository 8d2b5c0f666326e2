"""`ThinLink`: a connection made by redis-py, whose transport is then read and written without redis-py.

redis-py connects: it handles TLS, Unix sockets, passwords, the database and the names of errors. After that it is not
involved. A call is one write, and its replies complete one future, without a task, a timeout or a stream. The caller
limits the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import redis.exceptions as rx

from promoter_redis import link as links
from promoter_redis.link import SENT_AT_ONCE, Link
from promoter_redis.watchdog import fail
from promoter_resp.driver import Arg

hiredis: Any
try:
    hiredis = import_module("hiredis")
except ImportError:  # redis-py's parser is used instead
    hiredis = None

PUSH = getattr(hiredis, "PushNotification", ())  # pushes of RESP3, which this connection does not request
NOTHING = object()  # returned by hiredis while a reply is incomplete
CLOSED = "Connection closed by server."  # the same text as redis-py's
BUFFER = 1 << 16
MOST_UNASKED = 1000  # pushes kept until `listen` is called, which is soon on a connection that subscribes
PING = b"*1\r\n$4\r\nPING\r\n"

Heard = Callable[[Any], None]


async def thin(link: Link) -> Link:
    """Return the connection as a `ThinLink`, or unchanged if that is impossible.

    It needs hiredis 2.2, no fakeredis, and a redis-py with its transport and parser in the place that 5.0.4 to 8.1 use.
    Closes the connection on failure or cancellation.
    """
    transport: Any = getattr(getattr(link.connection, "_writer", None), "transport", None)
    parse_error = getattr(getattr(link.connection, "_parser", None), "parse_error", None)
    if not hasattr(transport, "set_protocol") or parse_error is None or not hasattr(hiredis, "pack_command"):
        return link
    try:
        if not await link.is_usable() or transport.is_closing():
            raise rx.ConnectionError(CLOSED)
        return ThinLink(link, transport, parse_error)
    except BaseException:  # no caller knows the connection yet
        await link.close()
        raise


class ThinLink(Link, asyncio.BufferedProtocol):
    """Makes one call at a time. Pushes go to `listen`."""

    def __init__(self, link: Link, transport: Any, parse_error: Callable[[str], Exception]) -> None:
        super().__init__(link.connection, link.epoch, link.client_id)
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader = hiredis.Reader(protocolError=rx.InvalidResponse, replyError=parse_error, notEnoughData=NOTHING)
        self._awaited = 0  # number of outstanding replies
        self._replies: list[Any] = []
        self._answer: asyncio.Future[list[Any]] | None = None  # resolved when all replies have arrived
        self._packed: tuple[Sequence[Sequence[Arg]], bytes] = ((), b"")
        self._unasked: list[Any] = []
        self._heard: Heard = self._keep
        self._heard_s = 0.0  # time of the last push
        self._end: asyncio.Future[None] | None = None  # the future of a `listen`
        self._lost: Exception | None = None
        self._buffer = bytearray(BUFFER)  # otherwise asyncio allocates 256 kB for each read
        self._view = memoryview(self._buffer)
        self._before = transport.get_protocol()  # redis-py's protocol, which is only notified of the end
        transport.pause_reading()  # uvloop reads into the buffer only after a pause
        transport.set_protocol(self)
        transport.resume_reading()

    def call(self, commands: Sequence[Sequence[Arg]]) -> asyncio.Future[list[Any]]:
        """Send a call, and return a future of its replies, like those of `send`."""
        answer = self._answer = self._loop.create_future()
        if self._lost is not None:
            fail(answer, self._lost)
            return answer
        if not commands:
            answer.set_result([])
            return answer
        self._awaited, self._replies = len(commands), []
        if commands is self._packed[0]:
            self._transport.write(self._packed[1])
        else:
            self._write(commands)
        return answer

    def _write(self, commands: Sequence[Sequence[Arg]]) -> None:
        """Send a call, and keep it packed if it is small: the next one is often the same."""
        packed, size = list[bytes](), 0
        for command in commands:
            one = hiredis.pack_command(tuple(command))
            packed.append(one)
            size += len(one)
            if size >= SENT_AT_ONCE:  # the server starts on these while the next are packed
                self._transport.write(b"".join(packed))
                commands, packed, size = (), [], 0
        rest = b"".join(packed)
        self._packed = commands, rest
        if rest:
            self._transport.write(rest)

    async def send(self, commands: Sequence[Sequence[Arg]]) -> list[Any]:
        return await self.call(commands)

    async def listen(self, heard: Heard) -> None:
        """Pass pushes to `heard`.

        Raises when the connection is lost, or when a PING after PROBE_S silent seconds stays unanswered.
        """
        unasked, self._unasked, self._heard, self._heard_s = self._unasked, [], heard, self._loop.time()
        for push in unasked:
            heard(push)
        end = self._end = self._loop.create_future()
        if self._lost is not None:
            end.set_result(None)
        probed_s = 0.0  # when the last PING was sent
        while True:
            since_s = max(self._heard_s, probed_s)
            await asyncio.wait((end,), timeout=since_s + links.PROBE_S - self._loop.time())
            if self._lost is not None:
                raise self._lost
            if self._loop.time() < max(self._heard_s, probed_s) + links.PROBE_S:
                continue
            if probed_s > self._heard_s:
                raise TimeoutError("the listening connection does not answer")
            probed_s = self._loop.time()
            self._transport.write(PING)

    async def close(self) -> None:
        self._lose(rx.ConnectionError("the connection was given up"))
        await super().close()

    @property
    def at_eof(self) -> bool:
        return self._lost is not None

    async def is_usable(self) -> bool:
        return self._lost is None and not self._awaited

    # Called by the transport.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return a view: asyncio's TLS reads into slices of it, and a slice of a bytearray is a copy."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._reader.feed(self._buffer, 0, nbytes)
            while (reply := self._reader.gets()) is not NOTHING:
                self._take(reply)
        except rx.InvalidResponse as exc:
            self._lose(exc)
            self._transport.abort()

    def _keep(self, reply: Any) -> None:
        """Keep a push until somebody listens. Raises InvalidResponse when there are too many."""
        if len(self._unasked) >= MOST_UNASKED:
            raise rx.InvalidResponse("the server goes on sending what it was not asked for")
        self._unasked.append(reply)

    def _take(self, reply: Any) -> None:
        if not self._awaited or isinstance(reply, PUSH):
            self._heard_s = self._loop.time()
            self._heard(reply)
            return
        self._replies.append(reply)
        self._awaited -= 1
        if self._awaited:
            return
        answer, self._answer = self._answer, None
        replies, self._replies = self._replies, []  # replies may be large, so keep no reference
        if answer is None or answer.done():  # the call and the connection were given up
            return
        refused = next((one for one in replies if isinstance(one, rx.ConnectionError)), None)
        if refused is not None:  # for example, the server is loading, or has reached its maximum of clients
            fail(answer, refused)
        else:
            answer.set_result(replies)

    def eof_received(self) -> None:
        self._lose(rx.ConnectionError(CLOSED))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(rx.ConnectionError(str(exc) if exc else CLOSED))
        self._before.connection_lost(exc)

    def _lose(self, exc: Exception) -> None:
        """End all waits."""
        self._lost = self._lost or exc
        if self._answer is not None and not self._answer.done():
            fail(self._answer, exc)
        if self._end is not None and not self._end.done():
            self._end.set_result(None)
