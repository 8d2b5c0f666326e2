"""bullmq: its delayed jobs and its own worker."""

import asyncio

from bullmq import Queue, Worker
from common import Run

run = Run("bullmq")


async def noop(job, token):
    run.started(job.data["i"])


async def main():
    queue = Queue("peers", {"connection": run.url})
    for i in range(run.jobs):
        await queue.add("noop", {"i": i}, {"delay": int(run.delay(i) * 1000)})
    run.scheduled()
    Worker("peers", noop, {"connection": run.url, "concurrency": 100})
    await asyncio.Event().wait()


asyncio.run(main())
