"""SAQ. Each worker moves what is due, by a timer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from saq import Queue, Worker

from tests.frameworks import Note, jobs_of
from tests.typed import untyped


async def produce(url, name, jobs):
    queue = Queue.from_url(url, name=name)
    await queue.connect()
    for job in jobs_of(jobs):
        await queue.enqueue("note", key=job["id"], id=job["id"], value=job["value"], scheduled=int(job["due"]))
    await queue.disconnect()


async def work(url, name, out, every_s=3600):
    do = Note(out)

    async def note(ctx, *, id, value):
        do(id, value)

    queue = Queue.from_url(url, name=name)
    await Worker(queue, [("note", note)], concurrency=10, timers=untyped({"schedule": every_s})).start()


async def move(url, name):
    queue = Queue.from_url(url, name=name)
    await queue.connect()
    await queue.schedule()
    await queue.disconnect()


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "produce": produce,
        "work": work,
        "work-own": partial(work, every_s=1),
        "move": move,
    }
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
