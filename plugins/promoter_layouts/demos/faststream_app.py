"""The demo's FastStream application: a subscriber of a stream, in a group."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

from promoter_layouts.demos.workers import URL, note

QUEUE = "promoter-demo"


async def handle(number: int) -> None:
    note(number)


if __name__ == "__main__":
    broker = RedisBroker(URL)
    subscriber: Any = broker.subscriber(stream=StreamSub(QUEUE, group="demo", consumer="demo"))
    subscriber(handle)
    asyncio.run(FastStream(broker).run())
