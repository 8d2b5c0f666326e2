"""streaQ. Each worker moves what is due every half second, by a loop that cannot be switched off."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from streaq import Worker
from streaq.types import Streaq
from streaq.utils import now_ms

from tests.frameworks import Note, jobs_of


def app(url, name, out=None):
    worker = Worker(redis_url=url, queue_name=name, concurrency=10)

    @worker.task(name="note")
    async def note(id, value):
        Note(out)(id, value)

    return worker, note


async def produce(url, name, jobs):
    worker, note = app(url, name)
    async with worker:
        for job in jobs_of(jobs):
            task = note.enqueue(job["id"], job["value"])
            task.id = job["id"]
            await task.start(schedule=datetime.fromtimestamp(job["due"], UTC))


async def work(url, name, out, *, own=False):
    worker, _ = app(url, name, out)
    if not own:
        worker.queue_key += "nothing:"  # its loop looks at sets that nobody fills
    await worker.run_async()


async def move(url, name):
    worker, _ = app(url, name)
    async with worker:
        lib = Streaq(worker.redis)
        await lib.publish_delayed_tasks(worker.queue_key + "normal", worker.stream_key + "normal", now_ms())


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "produce": produce,
        "work": work,
        "work-own": lambda *words: work(*words, own=True),
        "move": move,
    }
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
