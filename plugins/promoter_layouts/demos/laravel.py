"""Laravel: a worker that blocks for up to 5 seconds and then polls the delayed jobs, and a PHP producer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.programs import FOLDER, Producer, producing, title
from promoter_layouts.demos.workers import Arrived, working

PROGRAM = str(FOLDER / "laravel_program.php")


class LaravelDemo(InPlace):
    layout = "laravel:early=true"
    queue = "promoter-demo"
    whole = True
    note = "Both rows have the same worker, with a block_for of 5 seconds; the second has a promoter at its database."

    def __init__(self, url: str) -> None:
        self.title = title("laravel")
        self._url = url
        self._producer: Producer

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async with producing(self._url, (PROGRAM, "schedule", self.queue), "php") as self._producer:
            worker = (PROGRAM, "work", self.queue)
            async with working(self._url, worker, arrived, self._producer.send, "php"):
                yield

    async def delay(self, number: int, due: datetime) -> None:
        await self._producer.send(number, due.timestamp())
