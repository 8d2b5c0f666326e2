"""Mails sent by taskiq's workers, delayed and retried by Promoter: `taskiq worker taskiq_app:broker`.

`python taskiq_app.py ada@example.com 60` sends a mail in a minute.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
from typing import Annotated, Any

from redis.asyncio import Redis
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqMessage, TaskiqMiddleware, TaskiqResult, TaskiqState
from taskiq_redis import RedisStreamBroker

from promoter_core import Backoff, DelayedQueue, PromoterError, connect
from promoter_layouts.for_taskiq import schedule

URL = os.environ.get("PROMOTER_URL", "redis://localhost:6379")
DATABASE = os.environ.get("DATABASE", "mails.db")
QUEUE = "mails"
RUNS = 5  # of a failing task, including the first
BACKOFF = Backoff.exponential(1, factor=4, max=3600, jitter=1)

log = logging.getLogger("mails")


class RetryLater(TaskiqMiddleware):
    """Schedule a failed task again. Any worker runs it after a delay, and none is blocked meanwhile."""

    async def startup(self) -> None:
        self.open = contextlib.AsyncExitStack()
        self.tasks = DelayedQueue(await self.open.enter_async_context(connect(URL, layout="taskiq")), QUEUE)

    async def shutdown(self) -> None:
        await self.open.aclose()

    async def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        runs = int(message.labels.get("runs", 0)) + 1
        if runs >= RUNS:
            log.error("task %s has failed %d times, and is given up: %r", message.task_id, runs, exception)
            return
        message.labels["runs"] = runs
        payload = self.broker.formatter.dumps(message).message
        # The worker acknowledges after this. If it dies in between, the task runs, fails and arrives here again. The id
        # makes the second call keep the job of the first.
        await self.tasks.schedule(payload, delay=BACKOFF.delay_s(runs), job_id=f"{message.task_id}:{runs}")


# "0": with the default, "$", a worker misses tasks that were promoted before its first start. Set `idle_timeout` to
# more than the longest task, because a worker that has not finished by then is considered dead.
broker = RedisStreamBroker(URL, queue_name=QUEUE, consumer_id="0", idle_timeout=60_000).with_middlewares(RetryLater())


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def end_a_dead_workers_lock(state: TaskiqState) -> None:
    """Expire the lock that a worker leaves if it is killed during a takeover; otherwise no worker takes over tasks."""
    async with Redis.from_url(URL) as client:
        await client.expire(f"autoclaim:{broker.consumer_group_name}:{QUEUE}", 60)


@broker.task(task_name="send_mail")
async def send_mail(to: str, context: Annotated[Context, TaskiqDepends()]) -> None:
    """Replace this with your task. It must be idempotent, because it can run twice: here the stored id ensures it."""
    if "@" not in to:
        raise ValueError(f"{to} is no address")
    await asyncio.to_thread(write, context.message.task_id, to)


def write(task_id: str, to: str) -> None:
    with contextlib.closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS mails (task_id TEXT PRIMARY KEY, recipient TEXT)")
        database.execute("INSERT OR IGNORE INTO mails VALUES (?, ?)", (task_id, to))


async def main(to: str, seconds: str) -> None:
    async with connect(URL, layout="taskiq") as backend:
        job = await schedule(DelayedQueue(backend, QUEUE), send_mail, to, delay=float(seconds))
    print(job.id)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except PromoterError as error:
        sys.exit(f"nothing was scheduled: {error}")
