"""streaq: its delayed jobs and its own worker."""

import asyncio
from datetime import UTC, datetime

from common import Run
from streaq import Worker

run = Run("streaq")
worker = Worker(redis_url=run.url, concurrency=100)


@worker.task()
async def noop(i: int) -> None:
    run.started(i)


async def main():
    async with worker:
        for i in range(run.jobs):
            await noop.enqueue(i).start(schedule=datetime.fromtimestamp(run.due(i), UTC))
    run.scheduled()
    await worker.run_async()


asyncio.run(main())
