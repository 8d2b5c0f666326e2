"""Huey: its consumer, which polls the schedule every second."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from importlib import metadata
from typing import Any

from promoter_layouts.demos.huey_tasks import QUEUE, app
from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.workers import Arrived, working

WORKER = ("-m", "huey.bin.huey_consumer", "promoter_layouts.demos.huey_tasks.huey", "--workers", "2")


class HueyDemo(InPlace):
    title = f"Huey {metadata.version('huey')}"
    layout = "huey"
    queue = QUEUE
    own = "its scheduler"

    def __init__(self, url: str) -> None:
        self._url = url
        self._task: Any = app(url)[1]

    def consuming(self, arrived: Arrived) -> AbstractAsyncContextManager[None]:
        async def send_now(number: int) -> None:
            await asyncio.to_thread(self._task, number)

        return working(self._url, WORKER, arrived, send_now)

    async def delay(self, number: int, due: datetime) -> None:
        await asyncio.to_thread(self._task.schedule, (number,), eta=due)
