"""A server that answers every script with an error of the test's choice, and everything else as a client needs it; and
a sentinel that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

INFO = b"# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n"


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[list[bytes]], bytes]
) -> None:
    try:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            writer.write(answer(words))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


class InjectedServer:
    """`error` is what EVALSHA, EVAL and FCALL are answered, without the leading dash."""

    def __init__(self) -> None:
        self.error = "ERR"
        self.port = 0
        self._resp3 = False

    def answer(self, words: list[bytes]) -> bytes:
        words = [word.upper() for word in words]
        match words[0]:
            case b"EVALSHA" | b"EVAL":
                return b"-" + self.error.encode() + b"\r\n"
            case b"HELLO" if words[1:2] != [b"3"]:
                return b"*4\r\n" + _bulk(b"id") + b":7\r\n" + _bulk(b"role") + _bulk(b"master")
            case b"HELLO":
                self._resp3 = True
                pairs = {b"server": b"redis", b"version": b"7.2.4", b"mode": b"standalone", b"role": b"master"}
                return (
                    b"%%%d\r\n" % (len(pairs) + 1)
                    + b"".join(_bulk(k) + _bulk(v) for k, v in pairs.items())
                    + _bulk(b"proto")
                    + b":3\r\n"
                )
            case b"INFO":
                return _bulk(INFO)
            case b"PING":
                return b"+PONG\r\n"
            case b"CLIENT" if words[1:2] == [b"ID"]:
                return b":7\r\n"
            case b"SUBSCRIBE" | b"PSUBSCRIBE":
                return (
                    (b">" if self._resp3 else b"*")
                    + b"3\r\n"
                    + _bulk(words[0].lower())
                    + _bulk(words[1].lower())
                    + b":1\r\n"
                )
            case _:
                return b"+OK\r\n"


@asynccontextmanager
async def injected_server() -> AsyncIterator[InjectedServer]:
    server = InjectedServer()
    listening = await asyncio.start_server(lambda r, w: _serve(r, w, server.answer), "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@asynccontextmanager
async def injected_sentinel(primary: int, epoch: int) -> AsyncIterator[int]:
    """A sentinel that takes 127.0.0.1:`primary` for the primary, of that config-epoch; its port."""

    def answer(words: list[bytes]) -> bytes:
        match words:
            case [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", _]:
                return b"*2\r\n" + _bulk(b"127.0.0.1") + _bulk(b"%d" % primary)
            case [b"SENTINEL", b"MASTER", _]:
                return b"*2\r\n" + _bulk(b"config-epoch") + _bulk(b"%d" % epoch)
            case [b"SUBSCRIBE", *channels]:
                return b"".join(b"*3\r\n" + _bulk(b"subscribe") + _bulk(c) + b":1\r\n" for c in channels)
            case _:
                return b"+OK\r\n"

    listening = await asyncio.start_server(lambda r, w: _serve(r, w, answer), "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
