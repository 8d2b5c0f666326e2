"""taskiq: a worker on a stream broker, and taskiq's scheduler on its Redis source, as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any

from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from promoter_layouts.demos.workers import Arrived, note, process, working
from promoter_layouts.for_taskiq import schedule

TASKS = "promoter_layouts.demos.taskiq_tasks"


class TaskiqDemo:
    title = f"taskiq {metadata.version('taskiq')}"
    layout = "taskiq"
    whole = False
    lead_s = 6.0
    queue = "taskiq"
    own = "its scheduler"
    note = "Its scheduler looks for new schedules once a minute by default; these were there before it started."

    def __init__(self, url: str) -> None:
        self._url = url
        self._broker = RedisStreamBroker(url)
        self._source = ListRedisScheduleSource(url)
        self._task: Any = self._broker.register_task(note, task_name="note")
        self._running = AsyncExitStack()

    @asynccontextmanager
    async def consuming(self, arrived: Arrived) -> AsyncIterator[None]:
        worker = ("-m", "taskiq", "worker", f"{TASKS}:broker", "--workers", "1")
        async with self._running:
            await self._broker.startup()
            self._running.push_async_callback(self._broker.shutdown)
            self._running.push_async_callback(self._source.shutdown)
            async with working(self._url, worker, arrived, self._task.kiq):
                yield

    async def delay(self, number: int, due: datetime) -> None:
        await self._task.schedule_by_time(self._source, due, number)

    async def begin(self) -> None:
        command = ("-m", "taskiq", "scheduler", f"{TASKS}:scheduler")
        await self._running.enter_async_context(process(self._url, command))

    async def hand_over(self, queue: Any, number: int, due: datetime) -> None:
        await schedule(queue, self._task, number, at=due)
