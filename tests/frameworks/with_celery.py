"""Celery, whose workers hold what is not due, and ours, from which a worker gets what is due."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from celery import Celery

from promoter_core.sync import DelayedQueue, connect
from promoter_layouts.for_celery import message
from tests.frameworks import Note, jobs_of


def app(url, name, out=None):
    app = Celery("with_celery", broker=url)
    app.conf.update(
        task_default_queue=name,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=0,
    )

    @app.task(name="note")
    def note(id, value):
        Note(out)(id, value)

    return app, note


def produce(url, name, jobs):
    _, note = app(url, name)
    for job in jobs_of(jobs):
        note.apply_async((job["id"], job["value"]), eta=datetime.fromtimestamp(job["due"], UTC))


def produce_ours(url, name, jobs):
    _, note = app(url, name)
    with connect(url, layout="celery") as backend:
        queue = DelayedQueue(backend, name)
        for job in jobs_of(jobs):
            queue.schedule(message(note, (job["id"], job["value"])), at=datetime.fromtimestamp(job["due"], UTC))


def work(url, name, out):
    worker, _ = app(url, name, out)
    worker.worker_main(["worker", "--pool=solo", "--loglevel=CRITICAL", "--without-gossip"])


if __name__ == "__main__":
    {"produce": produce, "produce-ours": produce_ours, "work": work, "work-own": work}[sys.argv[1]](*sys.argv[2:])
