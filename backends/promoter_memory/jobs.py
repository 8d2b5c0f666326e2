"""The operations on the jobs of one queue in memory: schedule, show, list, move, run now, replace, remove."""

from __future__ import annotations

import re

from promoter_core.spi import (
    CHASQUIMQ,
    MAX_DUE_MS,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRequest,
    PermanentError,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
    StreamName,
    to_bytes,
)
from promoter_memory.store import Pending, QueueStore


def add(q: QueueStore, job: JobRequest, now_ms: int) -> bool:
    """Put a job into the set. Return True when it comes before all others."""
    pending = Pending(
        job.id,
        job.name,
        job.envelope,
        _due_ms(job.delay_ms, job.due_ms, now_ms),
        unique=job.unique,
        traceparent=job.traceparent,
        tracestate=job.tracestate if job.traceparent else "",
        keep_id_ms=job.keep_id_ms,
    )
    q.add(pending)
    return q.head() is pending


def add_event(
    q: QueueStore, id: str, name: str, promoted_ms: int, now_ms: int, traceparent: str, tracestate: str
) -> None:
    fields = {"e": b"waiting", "id": to_bytes(id), "ts": b"%d" % promoted_ms}
    more = {"n": name, "traceparent": traceparent, "tracestate": tracestate}
    fields |= {field: to_bytes(value) for field, value in more.items() if value}
    q.streams[StreamName.EVENTS].add(now_ms, fields)


def entry_of(job: Pending) -> dict[str, bytes]:
    """Return the fields of its stream entry."""
    return CHASQUIMQ.entry_fields(job.envelope, job.name, job.traceparent, job.tracestate)


def shown(job: Pending) -> StoredJob:
    """Return a waiting job with all details."""
    return StoredJob(
        id=job.id,
        name=job.name,
        envelope=job.envelope,
        due_ms=job.due_ms,
        handle=b"%d" % job.number,
        unique=job.unique,
        keep_id_ms=job.keep_id_ms if job.unique else None,
        traceparent=job.traceparent,
        tracestate=job.tracestate,
    )


def page_of(q: QueueStore, now_ms: int, query: JobQuery) -> JobPage:
    first = q.before(query.due_from_ms) if query.due_from_ms is not None else 0
    end = q.before(query.due_to_ms) if query.due_to_ms is not None else q.depth
    if query.after:
        due_ms, place = _position(query.after)
        if query.reverse:
            end = q.before(due_ms, place)
        else:
            first = q.before(due_ms, place + 1)
    left = range(first, end)[:: -1 if query.reverse else 1]
    entries, jobs, more = q.ordered(), list[StoredJob](), False
    for i in left[: max(query.limit, 1_000)]:  # jobs with another name are skipped
        due_ms, place, job = entries[i]
        if query.name is None or job.name == query.name:
            jobs.append(shown(job))
        more = i != left[-1]
        if len(jobs) == query.limit:
            break
    return JobPage(jobs=tuple(jobs), cursor=f"{due_ms}-{place}" if more else "", now_ms=now_ms)


def carry_out(q: QueueStore, change: JobChange, now_ms: int) -> JobOutcome:
    match change:
        case Replace():
            return _replace(q, change, now_ms)
        case Reschedule(job=which) | RunNow(job=which) | Remove(job=which):
            job = _find(q, which)
            if job is None:
                return _missing(q, which if isinstance(which, str) else which.id, now_ms)
    match change:
        case Reschedule():
            q.move(job, _due_ms(change.delay_ms, change.due_ms, now_ms))
            return JobOutcome.MOVED
        case RunNow():
            return _run_now(q, job, change, now_ms)
        case Remove():
            q.cancel(job)
            return JobOutcome.REMOVED


def _replace(q: QueueStore, change: Replace, now_ms: int) -> JobOutcome:
    request, job = change.request, q.waiting(change.request.id)
    if job is None:
        if change.keep_due:
            return _missing(q, request.id, now_ms)
        add(q, request, now_ms)
        return JobOutcome.CREATED
    due_ms = job.due_ms if change.keep_due else _due_ms(request.delay_ms, request.due_ms, now_ms)
    if change.keep_data:
        q.move(job, due_ms)
        return JobOutcome.MOVED
    q.cancel(job)
    q.add(
        Pending(
            job.id,
            job.name if change.keep_name else request.name,
            request.envelope,
            due_ms,
            unique=request.unique,
            traceparent=request.traceparent,
            tracestate=request.tracestate if request.traceparent else "",
            keep_id_ms=request.keep_id_ms,
        )
    )
    return JobOutcome.REPLACED


def _run_now(q: QueueStore, job: Pending, change: RunNow, now_ms: int) -> JobOutcome:
    stream = q.streams[StreamName.JOBS]
    if len(stream.entries) >= change.max_stream_len:
        q.move(job, min(job.due_ms, now_ms))
        return JobOutcome.MOVED
    stream.add(now_ms, entry_of(job))
    q.remove(job)
    q.forget(job.id)
    q.mark(job, now_ms)
    if change.events:
        add_event(q, job.id, job.name, now_ms, now_ms, job.traceparent, job.tracestate)
        q.streams[StreamName.EVENTS].trim(change.events_max_stream_len)
    return JobOutcome.PROMOTED


def _find(q: QueueStore, which: str | StoredJob) -> Pending | None:
    if isinstance(which, str):
        return q.waiting(which)
    if which.id is None:
        return None
    return next((job for job in q.all_waiting(which.id) if b"%d" % job.number == which.handle), None)


def _missing(q: QueueStore, id: str | None, now_ms: int) -> JobOutcome:
    promoted = id is not None and q.waiting(id) is None and q.marked(id, now_ms)
    return JobOutcome.ALREADY_PROMOTED if promoted else JobOutcome.NOT_FOUND


def _due_ms(delay_ms: int | None, due_ms: int | None, now_ms: int) -> int:
    due_ms = due_ms if due_ms is not None else now_ms + (delay_ms or 0)
    return min(max(due_ms, now_ms), MAX_DUE_MS)


def _position(cursor: str) -> tuple[int, int]:
    found = re.fullmatch("([0-9]{1,19})-([0-9]{1,19})", cursor)
    if found is None:
        raise PermanentError(f"{cursor[:80]!r} is not a cursor of a page of jobs", code="BADCURSOR")
    return int(found[1]), int(found[2])
