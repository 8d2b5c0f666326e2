"""Sidekiq: its worker, which polls the scheduled jobs every 5 seconds on average, and a Ruby producer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from promoter_layouts.demos.in_place import InPlace
from promoter_layouts.demos.programs import FOLDER, Producer, producing, title
from promoter_layouts.demos.workers import Arrived, working

JOBS = str(FOLDER / "sidekiq_jobs.rb")


class SidekiqDemo(InPlace):
    layout = "sidekiq"
    queue = "schedule"
    own = "its poller"
    lead_s = 16.0  # it first polls 10 to 15 seconds after its start

    def __init__(self, url: str) -> None:
        self.title = title("sidekiq")
        self._url = url
        self._producer: Producer

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async with producing(self._url, (JOBS,), "ruby") as self._producer:
            worker = ("-S", "sidekiq", "-r", JOBS, "-c", "5")
            async with working(self._url, worker, arrived, self._producer.send, "ruby"):
                yield

    async def delay(self, number: int, due: datetime) -> None:
        await self._producer.send(number, due.timestamp())
