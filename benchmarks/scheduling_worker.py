"""One process of `benchmarks.scheduling`: a round of bulk scheduling for each line that it reads.

    python benchmarks/scheduling_worker.py URL SERVER KIND JOBS BATCH

It runs from any tree that has `promoter_core`, so it uses nothing but the public API. The answer to a line is how long
the round took, and how much CPU this process used for it, in seconds.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgpack
from redis.asyncio import Redis

from promoter_core import Backend, DelayedQueue, Job, connect

DATA = "x" * 64
KEYS = "{chasqui:bulk}:"
Round = Callable[[int], Awaitable[None]]


def ours(backend: Backend, jobs: int, batch: int, *, made: bool) -> Round:
    """`schedule_many`, with the jobs `made` beforehand or in the round."""
    queue, at = DelayedQueue(backend, "bulk"), datetime.fromtimestamp(time.time() + 86_400, UTC)

    def some() -> list[Job]:
        return [Job(data=DATA, at=at) for _ in range(batch)]

    ready = [some() for _ in range(0, jobs, batch)] if made else []

    async def run(first: int) -> None:
        answers = await queue.schedule_many(ready[first // batch] if ready else some())
        assert len({answer.id for answer in answers if answer.created}) == batch

    return run


def bare(client: Redis, jobs: int, batch: int) -> Round:
    """A pipelined loop that does the same writes: a ZADD and a SET each. Ids and members are there before it begins."""
    due_ms = int((time.time() + 86_400) * 1000)

    def member(id: str) -> bytes:
        return struct.pack("<I", 0) + bytes(msgpack.packb([id, msgpack.packb(DATA), due_ms, 0]))

    ids = [f"01M85SFPTNPWAT758QM{i:07d}" for i in range(jobs)]
    writes = [(f"{KEYS}didx:{id}", member(id)) for id in ids]

    async def run(first: int) -> None:
        pipeline = client.pipeline(transaction=False)
        for key, packed in writes[first : first + batch]:
            pipeline.zadd(KEYS + "delayed", {packed: due_ms})
            pipeline.set(key, packed)
        await pipeline.execute()

    return run


async def main(url: str, server: str, kind: str, jobs: int, batch: int) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Redis.from_url(server))
        if kind == "bare":
            run = bare(client, jobs, batch)
        else:
            run = ours(await stack.enter_async_context(connect(url)), jobs, batch, made=kind == "made")
        for _ in sys.stdin:
            await client.flushdb()
            began, used = time.perf_counter(), time.process_time()
            for first in range(0, jobs, batch):
                await run(first)
            figures = time.perf_counter() - began, time.process_time() - used
            assert await client.zcard(KEYS + "delayed") == jobs
            assert await client.dbsize() == jobs + 1
            print(*figures, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))  # type: ignore[arg-type]
