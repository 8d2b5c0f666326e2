"""The application and the task of the demo's Celery worker."""

from __future__ import annotations

from celery import Celery

from promoter_layouts.demos.workers import URL, note

app = Celery("promoter-demo", broker=URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
app.task(name="note")(note)
