"""The worker and the task of the demo's streaQ process."""

from __future__ import annotations

from typing import Any

from streaq import Worker

from promoter_layouts.demos import workers

QUEUE = "promoter-demo"


async def note(number: int) -> None:
    """The task."""
    workers.note(number)


def app(url: str) -> tuple[Any, Any]:
    """A worker on the server at `url`, and its task."""
    worker: Any = Worker(redis_url=url, queue_name=QUEUE, concurrency=10)
    return worker, worker.task(name="note")(note)


worker, _ = app(workers.URL)
