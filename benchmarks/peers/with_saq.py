"""saq: its delayed jobs and its own worker."""

import asyncio

from common import Run
from saq import Queue, Worker

run = Run("saq")


async def noop(ctx, *, i):
    run.started(i)


async def main():
    queue = Queue.from_url(run.url)
    await queue.connect()
    for i in range(run.jobs):
        await queue.enqueue("noop", i=i, scheduled=int(run.due(i)))  # whole seconds is what it has
    run.scheduled()
    await Worker(queue, [noop], concurrency=100).start()


asyncio.run(main())
