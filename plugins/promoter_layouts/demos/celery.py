"""Celery: a worker process on Redis, and its `eta`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from importlib import metadata
from typing import Any

from celery import Celery

from promoter_layouts.demos.workers import Arrived, working
from promoter_layouts.for_celery import apply_async

WORKER = ("-m", "celery", "-A", "promoter_layouts.demos.celery_tasks", "worker", "--pool", "solo")


class CeleryDemo:
    title = f"Celery {metadata.version('celery')}"
    layout = "celery"
    whole = False
    lead_s = 2.0
    queue = "celery"
    own = "its eta"
    note = (
        "By its eta a task waits in the worker's memory, without acknowledgement: one that is due later than the "
        "visibility time-out (an hour by default) is delivered again, and runs more than once."
    )

    def __init__(self, url: str) -> None:
        self._url = url
        self._app = Celery("promoter-demo", broker=url)
        self._app.conf.task_ignore_result = True

    def consuming(self, arrived: Arrived) -> AbstractAsyncContextManager[None]:
        return working(self._url, (*WORKER, "--without-gossip", "--without-mingle"), arrived, self._apply)

    async def _apply(self, number: int, **options: Any) -> None:
        await asyncio.to_thread(self._app.signature("note", args=[number]).apply_async, **options)

    async def delay(self, number: int, due: datetime) -> None:
        await self._apply(number, eta=due)

    async def begin(self) -> None:
        pass

    async def hand_over(self, queue: Any, number: int, due: datetime) -> None:
        await apply_async(queue, self._app.signature("note", args=[number]), eta=due)
