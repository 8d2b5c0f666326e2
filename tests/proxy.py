"""A TCP proxy between client and server that can go wrong in the ways a network does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast


class Link:
    """The state of one connection."""

    subscribes = False


class Proxy:
    """`mode`: "pass", "delay" (50 ms each way, and at most one piece under way), "blackhole" (nothing comes through,
    nothing is closed), "swallow" (requests arrive, replies do not), "mute" (what is pushed to subscribers does not
    arrive). `drop` closes all connections, `reset` with a RST; `refuse` takes no new ones. `freeze` lets nothing
    through on the connections there are, and closes none. `target` is the port of the server for new connections.

    `way_s` gives the seconds that each piece is on its way, in either direction, whatever the mode: as on a long link,
    any number of pieces are under way at once, and they arrive in order.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.way_s: Callable[[], float] = lambda: 0.0
        self.refuse = False
        self.port = 0
        self.target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: set[asyncio.Task[None]] = set()
        self._frozen = asyncio.Event()  # of the connections since the last `freeze`

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server is away
            writer.close()
            return
        self._writers |= {writer, server_writer}
        link = Link()
        for source, sink, replies in ((reader, server_writer, False), (server_reader, writer, True)):
            under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            sending = self._send(source, under_way, link, replies, self._frozen)
            for work in (sending, self._arrive(under_way, sink)):
                task = asyncio.create_task(work)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Close all connections, also those that are only being made."""
        self.refuse = True
        for _ in range(3):  # turns of the event loop until `_accept` is called for what has been accepted
            await asyncio.sleep(0)
        while self._accepting:
            await asyncio.gather(*self._accepting, return_exceptions=True)
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(
        self,
        source: asyncio.StreamReader,
        under_way: asyncio.Queue[tuple[float, bytes]],
        link: Link,
        replies: bool,
        frozen: asyncio.Event,
    ) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(65536):
                link.subscribes = link.subscribes or (not replies and b"SUBSCRIBE" in data)
                if self.mode == "delay":
                    await asyncio.sleep(0.05)
                if frozen.is_set() or self.mode == "blackhole" or (replies and self._loses_replies(link)):
                    continue
                under_way.put_nowait((asyncio.get_running_loop().time() + self.way_s(), data))
        under_way.put_nowait((0.0, b""))

    def _loses_replies(self, link: Link) -> bool:
        return self.mode == "swallow" or (self.mode == "mute" and link.subscribes)

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while (piece := await under_way.get())[1]:
                await asyncio.sleep(max(piece[0] - asyncio.get_running_loop().time(), 0))
                sink.write(piece[1])
                await sink.drain()
        sink.close()

    def freeze(self) -> None:
        self._frozen.set()
        self._frozen = asyncio.Event()

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
        self.target = port

    def silence(self, *ports: int) -> None:
        """The connections that there are die without a word: all, or those from these ports of ours. New ones pass."""
        for writer in self._writers:
            if not ports or writer.get_extra_info("sockname")[1] in ports:
                cast("asyncio.Transport", writer.transport).pause_reading()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    it = Proxy(port)
    listening = await asyncio.start_server(it._accept, "127.0.0.1", 0)
    it.port = listening.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        listening.close()
        await it.end()
