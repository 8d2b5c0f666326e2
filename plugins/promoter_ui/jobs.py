"""List and change the jobs and dead letters of one queue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from promoter_core import (
    Backend,
    ConfigError,
    DelayedJob,
    DelayedQueue,
    Envelope,
    JobError,
    JobOutcome,
    unpack_envelope,
)
from promoter_core.spi import DeadLetterSupport, ManagementSupport, StreamEntry, StreamName, to_text
from promoter_ui import charts, text

PAGE = 50
LOOKS = 20  # calls for a page of jobs with a name; each reads about a thousand jobs
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of waiting jobs."""

    jobs: Sequence[DelayedJob]
    cursor: str
    now_ms: int
    partly: bool = False  # the search stopped early, so more jobs may match


def manageable(backend: Backend) -> bool:
    """Return whether waiting jobs can be listed."""
    return isinstance(backend, ManagementSupport)


async def find(backend: Backend, queue: str, *, id: str, name: str, after: str) -> Found:
    """Return a page of the waiting jobs: all, those with a name, or the one with an id."""
    q = DelayedQueue(backend, queue)
    if id:
        job = await q.get(id)
        page = await q.jobs(limit=1)
        return Found(jobs=() if job is None else (job,), cursor="", now_ms=_ms(page.now))
    jobs, looks = list[DelayedJob](), 0
    while True:
        page = await q.jobs(limit=PAGE - len(jobs), after=after, name=name or None)
        jobs += page.jobs
        after, looks = page.cursor, looks + 1
        if not after or len(jobs) >= PAGE or looks >= LOOKS:
            partly = bool(after) and len(jobs) < PAGE
            return Found(jobs=jobs, cursor=after, now_ms=_ms(page.now), partly=partly)


async def get(backend: Backend, queue: str, id: str, due_ms: int | None) -> tuple[DelayedJob | None, int]:
    """Return a waiting job with all details, and the store's clock. `due_ms` finds one without an index, far behind."""
    q = DelayedQueue(backend, queue)
    job = await q.get(id)
    at = None if due_ms is None else _datetime(due_ms)
    if job is None and at is not None:
        page = await q.jobs(limit=1_000, due_from=at, due_to=at + timedelta(milliseconds=1), details=True)
        return next((job for job in page.jobs if job.id == id), None), _ms(page.now)
    return job, _ms((await q.jobs(limit=1)).now)


async def future(backend: Backend, queue: str, span: str, now_ms: int, total: int) -> charts.Future | None:
    """Return when the jobs are due; None if the backend cannot count them."""
    if not isinstance(backend, ManagementSupport):
        return None
    before = await backend.count_jobs(queue, charts.bounds_ms(span, now_ms))
    return charts.future(span, before, total)


def details(job: DelayedJob, now_ms: int) -> dict[str, str]:
    """Return a job's details by label, as text that is not yet escaped for HTML."""
    stored = job.stored
    due = "parked: due after the year 9999" if job.parked else text.moment(stored.due_ms)
    kept = "no" if not job.unique else f"yes, for {text.interval((job.keep_id_for or timedelta()).total_seconds())}"
    rows = {
        "id": "unreadable" if job.id is None else job.id,
        "name": job.name or "–",
        "due": f"{due} {text.due_in(stored.due_ms, now_ms)}".strip(),
        "created": "–" if job.created is None else text.moment(_ms(job.created)),
        "attempts so far": text.number(job.attempt),
        "id kept after it ran": kept,
        "trace context": job.traceparent or "–",
        "size": f"{len(stored.envelope):,} bytes",
    }
    return rows | ({"malformed": "when it is due, it goes to the dead-letter stream"} if job.malformed else {})


def data_of(job: DelayedJob) -> str:
    """Return the data of a job, for people."""
    try:
        return text.data(job.data())
    except Exception:  # not msgpack, or any error of a custom serializer
        return text.cut(repr(job.stored.envelope[: text.MOST_DATA])) + "\n(the data is unreadable; these are its bytes)"


async def run_now(backend: Backend, queue: str, job: DelayedJob) -> JobOutcome:
    return await DelayedQueue(backend, queue).run_now(job)


async def cancel(backend: Backend, queue: str, job: DelayedJob) -> JobOutcome:
    return await DelayedQueue(backend, queue).cancel(job)


async def reschedule(backend: Backend, queue: str, job: DelayedJob, when: str) -> JobOutcome:
    """Change the due time. `when` is a delay, or a time in UTC. Raises JobError."""
    delay, at = read_when(when)
    return await DelayedQueue(backend, queue).reschedule(job, delay=delay, at=at)


def read_when(when: str) -> tuple[timedelta | None, datetime | None]:
    """Parse `90s`, `1h30m`, `2d`, or `2030-01-31 09:00`, in UTC unless it says otherwise. Raises JobError."""
    words = when.strip()
    if re.fullmatch(r"(?:\d{1,12}(?:ms|s|m|h|d)\s*)+", words):
        pairs = re.findall(r"(\d+)(ms|s|m|h|d)", words)
        try:
            return timedelta(milliseconds=sum(int(n) * UNITS[unit] for n, unit in pairs)), None
        except OverflowError:
            raise JobError(f"{words!r} is too long") from None
    try:
        at = datetime.fromisoformat(words)
    except ValueError:
        raise JobError(
            f"{text.shown(words)[:60]!r} is not a time: write 90s, 1h30m or 2d, or 2030-01-31 09:00 in UTC"
        ) from None
    return None, at if at.tzinfo is not None else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter."""

    id: str
    reason: str
    detail: str
    source: str
    size: int
    data: str
    job: str | None  # the job's id; None if the job is unreadable


async def letters(backend: Backend, queue: str, after: str) -> tuple[list[Letter], str]:
    """Return a page of the dead letters, oldest first, and the cursor of the next."""
    entries = await backend.read(queue, StreamName.DLQ, after, PAGE + 1)
    more = len(entries) > PAGE
    return [_letter(entry) for entry in entries[:PAGE]], entries[PAGE - 1].id if more else ""


async def requeue(backend: Backend, queue: str, after: str, entry_id: str) -> bool:
    """Move a dead letter to the stream. `after` is the cursor of its page. Raises ConfigError."""
    if not isinstance(backend, DeadLetterSupport):
        raise ConfigError(f"{type(backend).__name__} has no dead letters")
    entries = await backend.read(queue, StreamName.DLQ, after, PAGE)
    entry = next((entry for entry in entries if entry.id == entry_id), None)
    if entry is None:
        return False
    data = entry.fields.get("d", b"")
    if _envelope(data) is None:
        raise ConfigError("this dead letter contains no readable job, so it cannot be requeued")
    return await backend.requeue_dead_letter(queue, entry_id, data, to_text(entry.fields.get("n", b"")))


def _letter(entry: StreamEntry) -> Letter:
    fields: Mapping[str, bytes] = entry.fields
    packed = fields.get("d", b"")
    envelope = _envelope(packed)
    return Letter(
        id=entry.id,
        reason=to_text(fields.get("reason", b"")),
        detail=to_text(fields.get("detail", b"")),
        source=to_text(fields.get("source_id", b"")),
        size=len(packed),
        data=_content(packed, envelope),
        job=None if envelope is None else envelope.id,
    )


def _content(packed: bytes, envelope: Envelope | None) -> str:
    try:
        value: Any = packed if envelope is None else envelope.data()
    except Exception:  # written by another serializer
        value = packed
    return text.cut(repr(value[: text.MOST_DATA])) if isinstance(value, bytes) else text.data(value)


def _envelope(packed: bytes) -> Envelope | None:
    try:
        return unpack_envelope(packed)
    except ValueError:
        return None


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _datetime(ms: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    except OverflowError:
        return None
