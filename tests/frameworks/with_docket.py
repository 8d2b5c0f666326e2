"""docket. Each worker moves what is due, by a loop that cannot be switched off."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from docket import Docket, Worker
from docket.worker import _stream_due_tasks

from tests.frameworks import Note, jobs_of

SELDOM = timedelta(hours=1)


def noting(out=None):
    async def note(id: str, value: object) -> None:
        Note(out)(id, value)

    return note


async def produce(url, name, jobs):
    async with Docket(name=name, url=url) as docket:
        docket.register(noting(), names=["note"])
        for job in jobs_of(jobs):
            await docket.add("note", when=datetime.fromtimestamp(job["due"], UTC), key=job["id"])(
                job["id"], job["value"]
            )


async def work(url, name, out, **options):
    async with Docket(name=name, url=url) as docket:
        docket.register(noting(out), names=["note"])
        async with Worker(docket, **(options or {"scheduling_resolution": SELDOM})) as worker:
            await worker.run_forever()


async def work_own(url, name, out):
    await work(url, name, out, scheduling_resolution=timedelta(milliseconds=250))


async def move(url, name):
    async with Docket(name=name, url=url) as docket, docket.redis() as client:
        await _stream_due_tasks(
            client,
            queue_key=docket.queue_key,
            stream_key=docket.stream_key,
            now_timestamp=datetime.now(UTC).timestamp(),
            docket_prefix=docket.prefix,
        )


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"produce": produce, "work": work, "work-own": work_own, "move": move}
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
