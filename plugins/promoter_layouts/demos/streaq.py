"""streaQ: its worker, which polls the delayed tasks twice a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.streaq_tasks import QUEUE, app
from promoter_layouts.demos.workers import Arrived, working

WORKER = ("-m", "streaq", "run", "promoter_layouts.demos.streaq_tasks:worker")


class StreaqDemo(InPlace):
    title = f"streaQ {metadata.version('streaq')}"
    layout = "streaq"
    queue = QUEUE

    def __init__(self, url: str) -> None:
        self._url = url
        self._worker, self._task = app(url)

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async def send_now(number: int) -> None:
            await self._task.enqueue(number)

        async with self._worker, working(self._url, WORKER, arrived, send_now):
            yield

    async def delay(self, number: int, due: datetime) -> None:
        task: Any = self._task.enqueue(number)
        await task.start(schedule=due)
