"""A worker of RQ, or its scheduler: `work QUEUE`, `schedule QUEUE`."""

from __future__ import annotations

import sys
from typing import Any

from redis import Redis
from rq import SimpleWorker
from rq.scheduler import RQScheduler

from promoter_layouts.demos.workers import URL

if __name__ == "__main__":
    command, queue = sys.argv[1:]
    client: Any = Redis.from_url(URL)
    if command == "work":
        worker: Any = SimpleWorker([queue], connection=client)
        worker.work(logging_level="ERROR")
    else:
        scheduler: Any = RQScheduler([queue], connection=client, logging_level="ERROR")
        scheduler.work()
