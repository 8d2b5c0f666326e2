"""taskiq: its delayed jobs and its own worker."""

import asyncio
from datetime import UTC, datetime

from common import Run
from taskiq import TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

run = Run("taskiq-redis")
broker = RedisStreamBroker(url=run.url)
source = ListRedisScheduleSource(url=run.url)
scheduler = TaskiqScheduler(broker, [source])


@broker.task
async def noop(i: int) -> None:
    run.started(i)


async def main():
    await broker.startup()
    await source.startup()
    for i in range(run.jobs):
        await noop.schedule_by_time(source, datetime.fromtimestamp(run.due(i), UTC), i)
    run.scheduled()
    await asyncio.gather(run_receiver_task(broker), run_scheduler_task(scheduler))


asyncio.run(main())
