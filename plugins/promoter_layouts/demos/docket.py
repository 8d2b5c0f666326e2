"""docket: its worker, which polls the scheduled tasks four times a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from docket import Docket

from promoter_layouts.demos.docket_tasks import note
from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.workers import Arrived, working

WORKER = ("-m", "docket", "worker", "--tasks", "promoter_layouts.demos.docket_tasks:tasks")


class DocketDemo(InPlace):
    title = f"docket {metadata.version('pydocket')}"
    layout = "docket"
    queue = "promoter-demo"

    def __init__(self, url: str) -> None:
        self._url = url
        self._docket: Any = Docket(name=self.queue, url=url)

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async def send_now(number: int) -> None:
            await self._docket.add(note)(number)

        async with self._docket:
            self._docket.register(note)
            worker = (*WORKER, "--docket", self.queue, "--url", self._url)
            async with working(self._url, worker, arrived, send_now):
                yield

    async def delay(self, number: int, due: datetime) -> None:
        await self._docket.add(note, when=due)(number)
