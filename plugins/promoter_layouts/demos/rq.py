"""RQ: a worker, and RQ's scheduler, as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from redis import Redis
from rq import Queue

from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.workers import Arrived, note, process, working

PROGRAM = ("-m", "promoter_layouts.demos.rq_program")


class RQDemo(InPlace):
    title = f"RQ {metadata.version('rq')}"
    layout = "rq:early=true"
    queue = "promoter-demo"
    own = "its scheduler"
    whole = True
    note = (
        "RQ's scheduler looks once a second, and jobs are due at whole seconds: how late it is differs from run to "
        "run, by up to a second. The workers are RQ's SimpleWorker, which starts no process for a job."
    )

    def __init__(self, url: str) -> None:
        self._url = url
        client: Any = Redis.from_url(url)
        self._queue: Any = Queue(self.queue, connection=client)
        self._running = AsyncExitStack()
        self._running.callback(client.close)

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async def send_now(number: int) -> None:
            await asyncio.to_thread(self._queue.enqueue, note, number)

        async with self._running, working(self._url, (*PROGRAM, "work", self.queue), arrived, send_now):
            yield

    async def delay(self, number: int, due: datetime) -> None:
        await asyncio.to_thread(self._queue.enqueue_at, due, note, number)

    async def begin(self) -> None:
        await self._running.enter_async_context(process(self._url, (*PROGRAM, "schedule", self.queue)))
