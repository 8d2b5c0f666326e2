"""Celery tasks that schedule jobs. The connection is opened before the worker forks its processes."""

import os
import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from promoter_core.sync import DelayedQueue, connect

URL = os.environ["PROMOTER_TEST_URL"]
app = Celery("tasks", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True

backend = connect(URL)
queue = DelayedQueue(backend, "mails")
queue.stats()


@app.task
def schedule(job_id):
    job = queue.schedule(1, delay=3600, job_id=job_id)
    return [os.getpid(), job.id, job.outcome.name]


@app.task(soft_time_limit=1)
def too_long(job_id):
    async def forever(_):
        import asyncio

        await asyncio.sleep(3600)

    begun = time.monotonic()
    try:
        backend.call(forever)
    except SoftTimeLimitExceeded:
        return [time.monotonic() - begun < 60, queue.schedule(1, delay=3600, job_id=job_id).outcome.name]
