"""Delayed mails behind a Flask application: `flask --app flask_app run`, or `gunicorn --preload flask_app:app`."""

import os
from datetime import timedelta

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from promoter_core import JobError, JobOutcome, TransientError
from promoter_core.sync import DelayedQueue, connect

backend = connect(os.environ.get("PROMOTER_URL", "redis://localhost:6379"))  # the first call opens it
mails = DelayedQueue(backend, "mails")
app = Flask(__name__)


@app.post("/mails")
def schedule() -> ResponseReturnValue:
    mail = request.get_json()
    # With the caller's id, a request can be repeated after a lost reply: there is one job.
    delay = timedelta(seconds=mail.get("delay", 300))
    job = mails.schedule({"to": mail["to"]}, name="welcome", delay=delay, job_id=request.headers.get("Idempotency-Key"))
    return {"id": job.id}, 201 if job.created else 200


@app.get("/mails")
def list_mails() -> ResponseReturnValue:
    page = mails.jobs(limit=50, after=request.args.get("after", ""))
    waiting = [
        {"id": job.id, "to": job.data()["to"], "due": job.due and job.due.isoformat()}
        for job in page.jobs
        if not job.malformed
    ]
    return jsonify(mails=waiting, next=page.cursor)


@app.delete("/mails/<id>")
def cancel(id: str) -> ResponseReturnValue:
    outcome = mails.cancel(id)
    return ("", 204) if outcome is JobOutcome.REMOVED else ({"error": outcome.value}, 404)


@app.errorhandler(JobError)
def refused(error: JobError) -> ResponseReturnValue:
    return {"error": str(error)}, 400


@app.errorhandler(TransientError)
def away(error: TransientError) -> ResponseReturnValue:
    return {"error": "the store of mails does not answer"}, 503, {"Retry-After": "5"}
