"""FastStream: an application with a subscriber of a stream, in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from faststream.redis import RedisBroker

from promoter_layouts.demos.faststream_app import QUEUE
from promoter_layouts.demos.workers import Arrived, working
from promoter_layouts.for_faststream import DelayedPublisher


class FastStreamDemo:
    title = f"FastStream {metadata.version('faststream')}"
    layout = "faststream"
    whole = False
    lead_s = 2.0
    queue = QUEUE
    own = ""  # FastStream has no delay
    note = "FastStream has no delay, so there is nothing to compare with."

    def __init__(self, url: str) -> None:
        self._url = url
        self._broker = RedisBroker(url)

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        async with self._broker:

            async def send_now(number: int) -> None:
                await self._broker.publish(number, stream=QUEUE)

            async with working(self._url, ("-m", "promoter_layouts.demos.faststream_app"), arrived, send_now):
                yield

    async def delay(self, number: int, due: datetime) -> None:
        raise NotImplementedError("FastStream has no delay")

    async def begin(self) -> None:
        pass

    async def hand_over(self, queue: Any, number: int, due: datetime) -> None:
        await DelayedPublisher(self._broker, queue).publish(number, at=due)
