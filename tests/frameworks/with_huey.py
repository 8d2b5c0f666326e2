"""Huey. Its consumer looks at the schedule when it starts, and then at intervals of 1 to 60 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from huey import RedisHuey
from huey.consumer import Scheduler

from tests.frameworks import Note, jobs_of


def app(url, name, out=None):
    huey = RedisHuey(name, url=url, results=False, utc=True)

    @huey.task(name="note")
    def note(id, value):
        Note(out)(id, value)

    return huey, note


def produce(url, name, jobs):
    huey, note = app(url, name)
    for job in jobs_of(jobs):
        eta = datetime.fromtimestamp(job["due"], UTC).replace(tzinfo=None)
        task = note.s(job["id"], job["value"])
        task.id, task.eta = job["id"], eta
        huey.add_schedule(task)


def work(url, name, out, interval_s=60):
    huey, _ = app(url, name, out)
    huey.create_consumer(workers=2, periodic=False, scheduler_interval=interval_s).run()


def move(url, name):
    huey, _ = app(url, name)
    scheduler = Scheduler(huey, None, 1, False)
    scheduler._next_loop = time.monotonic()
    scheduler.sleep_for_interval = lambda *_: None
    scheduler.loop()


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "produce": produce,
        "work": work,
        "work-own": partial(work, interval_s=1),
        "move": move,
    }
    commands[sys.argv[1]](*sys.argv[2:])
