"""The thin connection: one call at a time, pushes in between, and an end for every wait."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.exceptions as rx
from redis.asyncio import Connection

from promoter_redis import link as links
from promoter_redis import thin_link
from promoter_redis.connect import plain
from promoter_redis.link import Link
from promoter_redis.thin_link import ThinLink, thin


@asynccontextmanager
async def connected():
    """A thin link, and the server's end of it, on which nothing is answered by itself."""
    ends: asyncio.Queue[Any] = asyncio.Queue()
    server = await asyncio.start_server(lambda *end: ends.put_nowait(end), "127.0.0.1", 0)
    connection = Connection(port=server.sockets[0].getsockname()[1], **plain(10))
    connecting = asyncio.create_task(connection.connect())
    reader, writer = await ends.get()
    connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
    answering = asyncio.create_task(_agree(reader, writer, connecting))
    await connecting
    answering.cancel()
    await asyncio.wait((answering,))
    link = await thin(Link(connection))
    assert isinstance(link, ThinLink)
    try:
        yield link, reader, writer
    finally:
        await link.close()
        writer.close()
        server.close()


async def until(true):
    while not true():
        await asyncio.sleep(0.001)


async def _agree(reader, writer, until):
    while not until.done():
        sent = await reader.read(1000)
        writer.write(b"+OK\r\n" * sent.count(b"*"))


async def test_replies_come_in_order_and_in_pieces_and_errors_in_their_place():
    async with connected() as (link, reader, writer):
        answer = link.call([("ONE",), ("TWO", b"x", 3)])
        assert b"TWO" in await reader.read(1000)
        for piece in (b":1", b"\r\n-NOSCRIPT no", b" such\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.01)
        one, two = await answer
        assert one == 1
        assert isinstance(two, rx.NoScriptError)


async def test_what_comes_unasked_before_somebody_listens_is_kept():
    async with connected() as (link, _, writer):
        writer.write(b"*1\r\n$1\r\na\r\n")
        await until(lambda: link._unasked)
        heard: list[object] = []
        listening = asyncio.create_task(link.listen(heard.append))
        writer.write(b"*1\r\n$1\r\nb\r\n")
        await until(lambda: heard == [[b"a"], [b"b"]])
        writer.close()
        with pytest.raises(rx.ConnectionError):
            await listening
        assert link.at_eof


async def test_a_silent_connection_is_probed_and_given_up(monkeypatch):
    monkeypatch.setattr(links, "PROBE_S", 0.1)
    async with connected() as (link, reader, writer):
        listening = asyncio.create_task(link.listen(lambda push: None))
        assert b"PING" in await reader.read(1000)
        writer.write(b"+PONG\r\n")
        assert b"PING" in await reader.read(1000)  # the answer was heard
        with pytest.raises(TimeoutError):
            await listening


async def test_a_lost_connection_ends_the_call_under_way_and_the_next():
    async with connected() as (link, _, writer):
        answer = link.call([("ONE",)])
        writer.close()
        with pytest.raises(rx.ConnectionError):
            await answer
        with pytest.raises(rx.ConnectionError):
            await link.call([("TWO",)])


async def test_a_connection_is_closed_when_it_is_given_up_while_it_becomes_thin():
    closed: list[object] = []

    class Slow(Link):
        async def is_usable(self):
            await asyncio.sleep(10)

        async def close(self):
            closed.append(self)

    class Transport:
        def set_protocol(self, protocol): ...

    class Made:
        class _writer:  # noqa: N801  # as redis-py calls it
            transport = Transport()

        class _parser:  # noqa: N801
            parse_error = staticmethod(Exception)

    task = asyncio.create_task(thin(Slow(Made())))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(closed) == 1


@pytest.mark.parametrize("missing", ["_writer", "_parser", "transport", "set_protocol", "parse_error", "pack_command"])
async def test_a_connection_that_cannot_be_thin_stays_as_it_is(monkeypatch, missing):
    """A redis-py that keeps these elsewhere, a transport of another kind, a hiredis that is old."""
    transport, writer, parser, made = (type("Made", (), {})() for _ in range(4))
    parts = [(made, "_writer", writer), (made, "_parser", parser), (writer, "transport", transport)]
    parts += [(transport, "set_protocol", print), (parser, "parse_error", Exception)]
    for owner, name, part in parts:
        if name != missing:
            setattr(owner, name, part)
    if missing == "pack_command":
        monkeypatch.delattr(thin_link.hiredis, "pack_command")
    link = Link(made)
    assert await thin(link) is link
