"""Schedules and changes waiting jobs: each statement calls a function of jobs.sql."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from promoter_core.spi import (
    JobChange,
    JobRequest,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
    chunked,
    pack_trace,
    to_bytes,
)

CHUNK = 500  # jobs in one transaction
CHUNK_BYTES = 4_000_000  # of envelopes

REQUESTS = "%b::bytea[], %b::bytea[], %b::bytea[], %s::bigint[], %s::bigint[], %s::boolean[], %b::bytea[], %s::bigint[]"
SCHEDULE = f"SELECT schedule(%s, {REQUESTS}) AS outcomes"
MOVE = "SELECT move_jobs(%s, %b::bytea[], %s::bigint[], %s::bigint[], %s::bigint[]) AS outcomes"
RUN_NOW = "SELECT run_jobs_now(%s, %b::bytea[], %s::bigint[], %s, %s, %s) AS outcomes"
REMOVE = "SELECT remove_jobs(%s, %b::bytea[], %s::bigint[]) AS outcomes"
REPLACE = f"SELECT replace_jobs(%s, {REQUESTS}, %s::boolean[], %s::boolean[], %s::boolean[]) AS outcomes"

Statement = tuple[str, tuple[object, ...]]  # and its arguments; its one row has `outcomes`


def to_schedule(queue: str, jobs: Sequence[JobRequest]) -> Iterator[Statement]:
    for some in chunked(jobs, CHUNK, size=lambda job: len(job.envelope), max_size=CHUNK_BYTES):
        yield SCHEDULE, (queue, *_requests(some))


def to_change(queue: str, changes: Sequence[JobChange]) -> Iterator[Statement]:
    """Yield a statement for each run of changes of one kind, so that they take effect in the requested order."""
    for _, alike in groupby(changes, _kind):
        for some in chunked(list(alike), CHUNK, size=_size, max_size=CHUNK_BYTES):
            yield _change(queue, some)


def _change(queue: str, alike: Sequence[JobChange]) -> Statement:
    if isinstance(alike[0], Replace):
        replacements = [change for change in alike if isinstance(change, Replace)]
        return REPLACE, (
            queue,
            *_requests([change.request for change in replacements]),
            [change.keep_data for change in replacements],
            [change.keep_name for change in replacements],
            [change.keep_due for change in replacements],
        )
    asked = [change.job for change in alike if not isinstance(change, Replace)]
    jobs = (queue, [_id(job) for job in asked], [_number(job) for job in asked])
    match alike[0]:
        case Reschedule():
            moves = [change for change in alike if isinstance(change, Reschedule)]
            return MOVE, (*jobs, [move.due_ms for move in moves], [move.delay_ms for move in moves])
        case RunNow(max_stream_len=most, events=events, events_max_stream_len=most_events):
            return RUN_NOW, (*jobs, most, events, most_events)
        case Remove():
            return REMOVE, jobs


def _requests(jobs: Sequence[JobRequest]) -> tuple[list[object], ...]:
    return (
        [to_bytes(job.id) for job in jobs],
        [to_bytes(job.name) for job in jobs],
        [job.envelope for job in jobs],
        [job.due_ms for job in jobs],
        [job.delay_ms for job in jobs],
        [job.unique for job in jobs],
        [to_bytes(pack_trace(job.traceparent, job.tracestate)) for job in jobs],
        [job.keep_id_ms for job in jobs],
    )


def _kind(change: JobChange) -> tuple[object, ...]:
    """Equal for changes that one statement can carry out."""
    if isinstance(change, RunNow):
        return RunNow, change.max_stream_len, change.events, change.events_max_stream_len
    return (type(change),)


def _size(change: JobChange) -> int:
    return len(change.request.envelope) if isinstance(change, Replace) else 0


def _id(job: str | StoredJob) -> bytes:
    id = job if isinstance(job, str) else job.id
    return to_bytes(id) if id is not None else b""


def _number(job: str | StoredJob) -> int | None:
    """Of a row, which is the handle of its job; 0, which no row has, for a handle of another store."""
    if isinstance(job, str):
        return None
    return int(job.handle) if job.handle.isdigit() and len(job.handle) <= 18 else 0
