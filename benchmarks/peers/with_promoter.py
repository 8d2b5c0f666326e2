"""Ours, with a plain consumer of the stream in the same process, so that a job is started as the others' are."""

import asyncio
from datetime import UTC, datetime

from common import Run
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Job, Promoter, connect, unpack_envelope
from promoter_core.spi import CHASQUIMQ

run = Run("promoter-core")


async def consume():
    stream = CHASQUIMQ.keys_of("peers").stream
    async with Redis.from_url(run.url) as client:
        await client.xgroup_create(stream, "workers", "0", mkstream=True)
        while True:
            for _, entries in await client.xreadgroup("workers", "w", {stream: ">"}, count=100, block=1000) or ():
                for _, fields in entries:
                    run.started(unpack_envelope(fields[b"d"]).data())
                await client.xack(stream, "workers", *(id for id, _ in entries))


async def main():
    async with connect(run.url) as backend:
        queue = DelayedQueue(backend, "peers")
        for first in range(0, run.jobs, 1000):
            numbers = range(first, min(first + 1000, run.jobs))
            await queue.schedule_many([Job(data=i, at=datetime.fromtimestamp(run.due(i), UTC)) for i in numbers])
        run.scheduled()
        await asyncio.gather(consume(), Promoter(backend, "peers").run())


asyncio.run(main())
