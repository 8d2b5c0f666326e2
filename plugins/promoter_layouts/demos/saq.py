"""SAQ: its worker, which polls the scheduled jobs every second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from saq import Queue

from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.saq_tasks import QUEUE
from promoter_layouts.demos.workers import Arrived, working

WORKER = ("-m", "saq", "--quiet", "promoter_layouts.demos.saq_tasks.settings")


class SAQDemo(InPlace):
    title = f"SAQ {metadata.version('saq')}"
    layout = "saq:early=true"
    queue = QUEUE
    whole = True
    note = (
        "SAQ's workers look once a second, and jobs are due at whole seconds: how late they are differs from run to "
        "run, by up to a second. Both rows have the same worker; the second has a promoter at its database."
    )

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: Any = Queue.from_url(url, name=QUEUE)

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async def send_now(number: int) -> None:
            await self._queue.enqueue("note", number=number)

        await self._queue.connect()
        try:
            async with working(self._url, WORKER, arrived, send_now):
                yield
        finally:
            await self._queue.disconnect()

    async def delay(self, number: int, due: datetime) -> None:
        await self._queue.enqueue("note", number=number, scheduled=int(due.timestamp()))
