"""The tasks of a Celery worker, for test_layout_consumers.py."""

from __future__ import annotations

import os

from celery import Celery
from redis import Redis

URL = os.environ.get("LAYOUT_TASKS_URL", "redis://localhost:1/0")

app = Celery("layouts", broker=URL)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 2, "unacked_restore_limit": 1},
)


@app.task(name="note", shared=False)
def note(*args, **kwargs):
    with Redis.from_url(URL) as client:
        client.rpush("noted", repr((args, kwargs)))
