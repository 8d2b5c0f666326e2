"""A WSGI application that schedules jobs, for gunicorn and its kinds of workers."""

import os
import traceback
from urllib.parse import parse_qs

from promoter_core.sync import DelayedQueue, connect

backend = connect(os.environ["PROMOTER_TEST_URL"])
queue = DelayedQueue(backend, "mails")
if os.environ.get("PROMOTER_TEST_EARLY"):
    queue.stats()  # with --preload this opens connections before any worker is forked


def app(environ, start_response):
    """Answers `pid id outcome`, or the text of an error."""
    job_id = parse_qs(environ["QUERY_STRING"])["id"][0]
    try:
        job = queue.schedule({"n": job_id}, delay=3600, job_id=job_id)
        status, text = "200 OK", f"{os.getpid()} {job.id} {job.outcome.name}"
    except Exception:
        status, text = "500 Error", traceback.format_exc()
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
