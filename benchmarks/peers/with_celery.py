"""celery: its delayed jobs and its own worker."""

from datetime import UTC, datetime

from celery import Celery
from common import Run

run = Run("celery")
app = Celery("with_celery", broker=run.url)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=0)


@app.task(name="noop", ignore_result=True)
def noop(i):
    run.started(i)


for i in range(run.jobs):
    noop.apply_async((i,), eta=datetime.fromtimestamp(run.due(i), UTC))
run.scheduled()
app.worker_main(["worker", "--pool=threads", "--concurrency=8", "--loglevel=CRITICAL", "--without-gossip"])
