"""ChasquiMQ's worker on Redis 8.2: a proxy that takes out of its reads what came with Redis 8.4.

Its consumer reads with `XREADGROUP … CLAIM`, which also gives it entries that others have left. Without, it reads new
ones alone. What it writes is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def older_server(port: int) -> AsyncIterator[str]:
    """The URL of a server on `port` as a newer client may use it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = [
            asyncio.create_task(_requests(reader, server_writer)),
            asyncio.create_task(_replies(server_reader, writer)),
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        server_writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _requests(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while True:
        words = []
        for _ in range(int((await source.readuntil(b"\r\n"))[1:])):
            size = int((await source.readuntil(b"\r\n"))[1:])
            words.append((await source.readexactly(size + 2))[:-2])
        if words[0] == b"XREADGROUP" and b"CLAIM" in words:
            at = words.index(b"CLAIM")
            del words[at : at + 2]
        sink.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        await sink.drain()


async def _replies(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
