"""Receivers of webhooks, and a clock that does not wait."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import web

from promoter_core.spi import SystemClock
from tests.servers import free_port


class Receiver:
    """An HTTP server that keeps what it is sent and answers as told."""

    def __init__(self):
        self.requests = []
        self.tries = []  # (id, body) of all requests
        self.first = []  # answers before those with `status`: a status, or a status and headers
        self.status = 204
        self.delay_s = 0.0
        self.url = f"http://127.0.0.1:{free_port()}/hook"

    @property
    def events(self):
        return [event for _, body in self.requests for event in json.loads(body)]

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", int(self.url.split(":")[2].split("/")[0])).start()
        return self

    async def __aexit__(self, *exc):
        await self._runner.cleanup()

    async def _take(self, request):
        body = await request.read()
        self.tries.append((request.headers["webhook-id"], body))
        await asyncio.sleep(self.delay_s)
        status, headers = self.status, {}
        if self.first:
            status = self.first.pop(0)
            status, headers = status if isinstance(status, tuple) else (status, {})
        if status < 300:
            self.requests.append((request.headers, body))
        return web.Response(status=status, headers=headers)


class FastClock(SystemClock):
    """Remembers how long it was asked to sleep, and sleeps for a thousandth of that."""

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(seconds / 1_000)


async def until(holds):
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


class Raw:
    """A TCP server that answers each of the first `times` connections with `reply`, and then works as HTTP."""

    def __init__(self, reply, times=3):
        self.url = f"http://127.0.0.1:{free_port()}/hook"
        self.reply, self.times, self.bodies = reply, times, []
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._take, "127.0.0.1", int(self.url.split(":")[2].split("/")[0]))
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
            self.times -= 1
            if self.times >= 0:
                if self.reply is None:
                    await asyncio.sleep(1.5)  # longer than the sink waits
                else:
                    writer.write(self.reply)
            else:
                self.bodies.append(body)
                writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
