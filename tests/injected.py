"""A server that answers every script with an error of the test's choice, and everything else as a client needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

INFO = b"# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n"


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


class InjectedServer:
    """`error` is what EVALSHA, EVAL and FCALL are answered, without the leading dash."""

    def __init__(self) -> None:
        self.error = "ERR"
        self.port = 0
        self._resp3 = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readline():
                words = []
                for _ in range(int(header[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                writer.write(self._answer([w.upper() for w in words]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
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
    listening = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
