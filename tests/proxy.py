"""A TCP proxy between client and server that can go wrong in the ways a network does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """`mode`: "pass", "delay" (50 ms each way), "blackhole" (nothing comes through, nothing is closed), "swallow"
    (requests arrive, replies do not). `drop` closes all connections, `reset` with a RST; `refuse` takes no new ones.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.refuse = False
        self.port = 0
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, server_writer}
        for source, sink, replies in ((reader, server_writer, False), (server_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, replies))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, replies: bool) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(65536):
                if self.mode == "delay":
                    await asyncio.sleep(0.05)
                if self.mode == "blackhole" or (self.mode == "swallow" and replies):
                    continue
                sink.write(data)
                await sink.drain()
        sink.close()

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def move(self, port: int) -> None:
        """New connections go to another server; those that there are stay where they are."""
        self._target = port

    def silence(self, *ports: int) -> None:
        """The connections that there are die without a word: all, or those from these ports of ours. New ones pass."""
        for writer in self._writers:
            if not ports or writer.get_extra_info("sockname")[1] in ports:
                writer.transport.pause_reading()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    it = Proxy(port)
    listening = await asyncio.start_server(it._accept, "127.0.0.1", 0)
    it.port = listening.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        listening.close()
        it.reset()
        for task in list(it._tasks):
            task.cancel()
        await asyncio.gather(*it._tasks, return_exceptions=True)
