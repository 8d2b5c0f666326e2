"""RQ. Its jobs import `note` by name, so what it writes to is in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.scheduler import RQScheduler

from tests.frameworks import Note, jobs_of

OUT = "TESTS_FRAMEWORKS_OUT"
_note: Note | None = None


def note(id, value):
    global _note
    _note = _note or Note(os.environ[OUT])
    _note(id, value)


def produce(url, name, jobs):
    with Redis.from_url(url) as client:
        queue = Queue(name, connection=client)
        for job in jobs_of(jobs):
            at = datetime.fromtimestamp(job["due"], UTC)
            queue.enqueue_at(
                at, "tests.frameworks.with_rq.note", job["id"], job["value"], job_id=job["id"], **job.get("more", {})
            )


def work(url, name, out):
    os.environ[OUT] = out
    with Redis.from_url(url) as client:
        SimpleWorker([name], connection=client).work(logging_level="ERROR")


def schedule(url, name):
    with Redis.from_url(url) as client:
        RQScheduler([name], connection=client, logging_level="ERROR").work()


def move(url, name):
    with Redis.from_url(url) as client:
        scheduler = RQScheduler([name], connection=client, logging_level="ERROR")
        scheduler.acquire_locks()
        scheduler.enqueue_scheduled_jobs()
        scheduler.release_locks()


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"produce": produce, "work": work, "schedule": schedule, "move": move}
    commands[sys.argv[1]](*sys.argv[2:])
