"""rq: its delayed jobs and its own worker."""

import logging
import time
from datetime import UTC, datetime
from threading import Thread

import redis
from common import Run
from rq import Queue, SimpleWorker
from rq.scheduler import RQScheduler

if __name__ == "__main__":
    import jobs_of_rq

    run = jobs_of_rq.run = Run("rq")
    connection = redis.Redis.from_url(run.url)
    queue = Queue(connection=connection)
    for i in range(run.jobs):
        queue.enqueue_at(datetime.fromtimestamp(run.due(i), UTC), "jobs_of_rq.noop", i)
    run.scheduled()
    logging.disable(logging.CRITICAL)
    scheduler = RQScheduler([queue], connection=redis.Redis.from_url(run.url), interval=1)

    def schedule():
        scheduler.acquire_locks()
        while True:
            scheduler.enqueue_scheduled_jobs()
            time.sleep(scheduler.interval)

    Thread(target=schedule, daemon=True).start()
    SimpleWorker([queue], connection=connection).work(logging_level="CRITICAL")
