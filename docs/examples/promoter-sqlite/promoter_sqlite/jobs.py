"""Waiting jobs in the file: schedule, move, run now, replace, remove. Each call is part of one transaction."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from promoter_core.spi import (
    MAX_DUE_MS,
    JobChange,
    JobOutcome,
    JobRequest,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
    StreamName,
    pack_trace,
    to_bytes,
)
from promoter_sqlite import streams

COLUMNS = "seq, id, name, envelope, due_ms, uniq, keep_ms, trace"
LARGEST = 2**63 - 1  # SQLite's largest integer


class Row(NamedTuple):
    """A row of the table `jobs`."""

    seq: int
    id: bytes
    name: bytes
    envelope: bytes
    due_ms: int
    uniq: int
    keep_ms: int
    trace: bytes  # the trace context, packed by `pack_trace`


def latest(db: sqlite3.Connection, queue: str, id: bytes) -> Row | None:
    """Return the unique waiting job with this id, or else the one that was scheduled last."""
    sql = f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND id = ? ORDER BY uniq DESC, seq DESC LIMIT 1"
    return _row(db.execute(sql, (queue, id)))


def schedule(db: sqlite3.Connection, queue: str, job: JobRequest, now_ms: int) -> JobOutcome:
    id = to_bytes(job.id)
    if job.unique and (outcome := _taken(db, queue, id, now_ms)) is not None:
        return outcome
    _insert(db, queue, job, to_bytes(job.name), due_at(job.delay_ms, job.due_ms, now_ms))
    return JobOutcome.CREATED


def mark(db: sqlite3.Connection, queue: str, job: Row, now_ms: int) -> None:
    """Move a job to its stream. From now on its id is taken for a while, or free."""
    if job.uniq and job.keep_ms > 0:
        sql = "INSERT OR REPLACE INTO markers VALUES (?, ?, ?)"
        db.execute(sql, (queue, job.id, min(now_ms + job.keep_ms, LARGEST)))
    elif job.uniq:
        _unmark(db, queue, job.id)


def due_at(delay_ms: int | None, due_ms: int | None, now_ms: int) -> int:
    due_ms = due_ms if due_ms is not None else now_ms + (delay_ms or 0)
    return min(max(due_ms, now_ms), MAX_DUE_MS)


class Changes:
    """Changes the jobs of one queue at one moment, in one transaction. Call `finish` at the end.

    The stream is counted once, for the first `RunNow`: O(its length). Every other change is O(log n).
    """

    def __init__(self, db: sqlite3.Connection, queue: str, now_ms: int) -> None:
        self._db = db
        self._queue = queue
        self._now_ms = now_ms
        self._stream_len: int | None = None
        self._most_events: int | None = None

    def carry_out(self, change: JobChange) -> JobOutcome:
        if isinstance(change, Replace):
            return self._replace(change)
        job = self._find(change.job)
        if job is None:
            return self._missing(change.job if isinstance(change.job, str) else change.job.id)
        match change:
            case Reschedule():
                return self._move(job, due_at(change.delay_ms, change.due_ms, self._now_ms))
            case RunNow():
                return self._run_now(job, change)
            case Remove():
                return self._remove(job)

    def finish(self) -> None:
        if self._most_events is not None:
            streams.trim(self._db, self._queue, StreamName.EVENTS, self._most_events)

    def _find(self, job: str | StoredJob) -> Row | None:
        if isinstance(job, str):
            return latest(self._db, self._queue, to_bytes(job))
        if job.id is None or not job.handle.isdigit() or len(job.handle) > 18:
            return None
        sql = f"SELECT {COLUMNS} FROM jobs WHERE seq = ? AND queue = ? AND id = ?"
        return _row(self._db.execute(sql, (int(job.handle), self._queue, to_bytes(job.id))))

    def _missing(self, id: str | None) -> JobOutcome:
        taken = _taken(self._db, self._queue, to_bytes(id), self._now_ms) if id is not None else None
        waits = id is not None and latest(self._db, self._queue, to_bytes(id)) is not None
        gone = taken is JobOutcome.ALREADY_PROMOTED and not waits
        return JobOutcome.ALREADY_PROMOTED if gone else JobOutcome.NOT_FOUND

    def _move(self, job: Row, due_ms: int) -> JobOutcome:
        self._db.execute("UPDATE jobs SET due_ms = ? WHERE seq = ?", (due_ms, job.seq))
        return JobOutcome.MOVED

    def _run_now(self, job: Row, change: RunNow) -> JobOutcome:
        if self._stream_len is None:
            self._stream_len = streams.length(self._db, self._queue, StreamName.JOBS)
        if self._stream_len >= change.max_stream_len:
            return self._move(job, min(job.due_ms, self._now_ms))
        self._stream_len += 1
        streams.add_job(self._db, self._queue, self._now_ms, job.envelope, job.name, job.trace)
        self._db.execute("DELETE FROM jobs WHERE seq = ?", (job.seq,))
        mark(self._db, self._queue, job, self._now_ms)
        if change.events:
            streams.add_event(self._db, self._queue, self._now_ms, job.id, job.name, job.trace)
            self._most_events = min(self._most_events or LARGEST, change.events_max_stream_len)
        return JobOutcome.PROMOTED

    def _remove(self, job: Row) -> JobOutcome:
        self._db.execute("DELETE FROM jobs WHERE seq = ?", (job.seq,))
        _unmark(self._db, self._queue, job.id)
        return JobOutcome.REMOVED

    def _replace(self, change: Replace) -> JobOutcome:
        request = change.request
        job = latest(self._db, self._queue, to_bytes(request.id))
        if job is None and change.keep_due:
            return self._missing(request.id)
        due_ms = due_at(request.delay_ms, request.due_ms, self._now_ms)
        if job is None:
            _insert(self._db, self._queue, request, to_bytes(request.name), due_ms)
            return JobOutcome.CREATED
        due_ms = job.due_ms if change.keep_due else due_ms
        if change.keep_data:
            return self._move(job, due_ms)
        self._remove(job)
        name = job.name if change.keep_name else to_bytes(request.name)
        _insert(self._db, self._queue, request, name, due_ms)  # a new row: the handle of the old job is no longer valid
        return JobOutcome.REPLACED


def _row(cursor: sqlite3.Cursor) -> Row | None:
    found = cursor.fetchone()
    return Row(*found) if found is not None else None


def _insert(db: sqlite3.Connection, queue: str, job: JobRequest, name: bytes, due_ms: int) -> None:
    trace = to_bytes(pack_trace(job.traceparent, job.tracestate))
    sql = "INSERT INTO jobs (queue, id, name, envelope, due_ms, uniq, keep_ms, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    db.execute(sql, (queue, to_bytes(job.id), name, job.envelope, due_ms, job.unique, job.keep_id_ms, trace))


def _unmark(db: sqlite3.Connection, queue: str, id: bytes) -> None:
    db.execute("DELETE FROM markers WHERE queue = ? AND id = ?", (queue, id))


def _taken(db: sqlite3.Connection, queue: str, id: bytes, now_ms: int) -> JobOutcome | None:
    """KEPT: a unique job with this id waits. ALREADY_PROMOTED: one was promoted recently. None: the id is free."""
    waiting = "SELECT 1 FROM jobs WHERE queue = ? AND id = ? AND uniq"
    if db.execute(waiting, (queue, id)).fetchone() is not None:
        return JobOutcome.KEPT
    marked = "SELECT 1 FROM markers WHERE queue = ? AND id = ? AND expires_ms > ?"
    found = db.execute(marked, (queue, id, now_ms)).fetchone()
    return JobOutcome.ALREADY_PROMOTED if found is not None else None
