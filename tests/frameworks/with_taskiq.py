"""taskiq, whose scheduler is a process of its own, and ours, which holds the messages that its workers read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from taskiq import TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from promoter_core import DelayedQueue, connect
from promoter_layouts.for_taskiq import message
from tests.frameworks import Note, jobs_of


def app(url, name, out=None):
    broker = RedisStreamBroker(url, queue_name=name)

    @broker.task(task_name="note")
    async def note(id: str, value: object) -> None:
        Note(out)(id, value)

    return broker, note


async def produce(url, name, jobs):
    broker, note = app(url, name)
    await broker.startup()
    source = ListRedisScheduleSource(url)
    await source.startup()
    for job in jobs_of(jobs):
        await note.schedule_by_time(source, datetime.fromtimestamp(job["due"], UTC), job["id"], job["value"])
    await source.shutdown()
    await broker.shutdown()


async def produce_ours(url, name, jobs):
    _, note = app(url, name)
    async with connect(url, layout="taskiq") as backend:
        queue = DelayedQueue(backend, name)
        for job in jobs_of(jobs):
            at = datetime.fromtimestamp(job["due"], UTC)
            await queue.schedule(await message(note, job["id"], job["value"]), at=at)


async def work(url, name, out):
    broker, _ = app(url, name, out)
    await broker.startup()
    await run_receiver_task(broker)


async def schedule(url, name):
    broker, _ = app(url, name)
    await broker.startup()
    await run_scheduler_task(TaskiqScheduler(broker, [ListRedisScheduleSource(url)]))


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "produce": produce,
        "produce-ours": produce_ours,
        "work": work,
        "schedule": schedule,
    }
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
