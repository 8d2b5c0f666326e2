"""A plain ZADD client, in a separate process, independent of Promoter.

    python -m promoter_bench.producer URL QUEUE JOBS SECONDS

sends JOBS jobs over SECONDS seconds, each due 0 to 1 s after it was sent.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from redis.asyncio import Redis

from promoter_bench.store import member_of
from promoter_core.spi import CHASQUIMQ


async def produce(url: str, queue: str, jobs: int, seconds: float) -> None:
    chance, start = random.Random(1), time.perf_counter()
    async with Redis.from_url(url) as client:
        for i in range(jobs):
            await asyncio.sleep(max(start + seconds * i / jobs - time.perf_counter(), 0))
            due_ms = int((time.time() + chance.random()) * 1000)
            await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {member_of(f"job-{i}"): due_ms})


if __name__ == "__main__":
    url, queue, jobs, seconds = sys.argv[1:]
    asyncio.run(produce(url, queue, int(jobs), float(seconds)))
