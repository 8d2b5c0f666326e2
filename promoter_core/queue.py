"""`DelayedQueue`: what an application uses to schedule and cancel delayed jobs of one queue."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ulid import ULID

from promoter_core.clock import SystemClock
from promoter_core.contracts import Backend, Clock, check_backend
from promoter_core.envelope import pack_data
from promoter_core.errors import JobError
from promoter_core.model import MAX_DUE_MS, CancelOutcome, JobRequest, QueueStats, Scheduled
from promoter_core.settings import check_queue_name

MAX_NAME_BYTES = 256
MAX_ID_BYTES = 512

Delay = timedelta | float  # seconds, when it is a number

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job for `schedule_many`: the arguments of `schedule`. With neither `delay` nor `at` it is due at once."""

    data: object
    delay: Delay | None = None
    at: datetime | None = None
    name: str = ""
    job_id: str | None = None
    index: bool = True
    traceparent: str | None = ""


class DelayedQueue:
    """Schedules and cancels the delayed jobs of one queue. Cheap to make; share the backend."""

    def __init__(self, backend: Backend, queue: str, *, clock: Clock | None = None) -> None:
        """`clock` stamps `created_at_ms`; due times are by the store's clock. Raises ConfigError."""
        self.name = check_queue_name(queue)
        self._backend: Backend = check_backend(backend)
        self._clock = clock or SystemClock()

    async def schedule(
        self,
        data: object,
        *,
        delay: Delay | None = None,
        at: datetime | None = None,
        name: str = "",
        job_id: str | None = None,
        index: bool = True,
        traceparent: str | None = "",
    ) -> Scheduled:
        """Schedule one job.

        `data` is anything that msgpack packs. `delay` is a timedelta or seconds from the store's clock, `at` an aware
        datetime; a job that is due already is due now, and is promoted as any other. `name` (≤ 256 bytes) tells
        consumers what to run. With `job_id` (1 to 512 bytes) a repeat is a no-op that answers `created=False`, while
        the job waits and for an hour after: safe to try again after a lost reply. `index=False` saves a key per job
        without a `job_id`; `cancel` then has to look for the job in the set. Names and ids are UTF-8 text.
        `traceparent` is the producer's trace context (W3C), which the promotion's span links to.

        Raises JobError before anything is written; TransientError when the store could not be asked (it may have
        taken the job: give a `job_id` to be able to repeat safely); PermanentError.
        """
        job = Job(data=data, delay=delay, at=at, name=name, job_id=job_id, index=index, traceparent=traceparent)
        return (await self.schedule_many([job]))[0]

    async def schedule_many(self, jobs: Iterable[Job]) -> tuple[Scheduled, ...]:
        """Schedule many jobs in few round trips; each is atomic for itself, the answers are in order.

        All jobs are checked before the first is written. Raises as `schedule` does.
        """
        now_ms = self._clock.time_ms()
        if isinstance(jobs, Job | str | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"schedule_many takes several Job(data=…, delay=…), not {_a(jobs)}")
        requests = [_request(job, now_ms) for job in jobs]
        return await self._backend.schedule(self.name, requests) if requests else ()

    async def cancel(self, job: str | Scheduled) -> CancelOutcome:
        """REMOVED: it will never be promoted, and its id is free again. NOT_FOUND: it is not there; never scheduled, or
        promoted already.

        A job without a cancel index (scheduled with `index=False`, or by another producer) is looked for in the set
        itself: among the 10,000 that are due first, a thousand at a time. One beyond those is NOT_FOUND as well.
        """
        return (await self.cancel_many([job]))[0]

    async def cancel_many(self, jobs: Iterable[str | Scheduled]) -> tuple[CancelOutcome, ...]:
        """Cancel many jobs in few round trips; each is atomic for itself, the answers are in order.

        When TransientError is raised midway, some may have been removed: a repeat answers NOT_FOUND for them.
        """
        if isinstance(jobs, str | bytes | Scheduled | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"cancel_many takes a list of job ids, not {_a(jobs)}: cancel() takes one")
        # An id of another producer may be no UTF-8: events tell it with surrogate escapes, and so it can be given here.
        ids = [_check_id(job.id if isinstance(job, Scheduled) else job, foreign=True) for job in jobs]
        return await self._backend.cancel(self.name, ids) if ids else ()

    async def stats(self) -> QueueStats:
        return await self._backend.stats(self.name)


def _request(job: Job, now_ms: int) -> JobRequest:
    if not isinstance(job, Job):
        raise JobError(f"schedule_many takes Job(data=…, delay=…), not {_a(job)}")
    delay_ms, due_ms = _when(job.delay, job.at, now_ms)
    return JobRequest(
        id=str(ULID()) if job.job_id is None else _check_id(job.job_id),
        payload=pack_data(job.data),
        name=_check_name(job.name),
        delay_ms=delay_ms,
        due_ms=due_ms,
        unique=job.job_id is not None,
        index=job.index,
        created_at_ms=now_ms,
        traceparent=_check_traceparent(job.traceparent),
    )


def _when(delay: Delay | None, at: datetime | None, now_ms: int) -> tuple[int | None, int | None]:
    if at is not None:
        if delay is not None:
            raise JobError("give either delay= or at=, not both")
        if not isinstance(at, datetime):
            raise JobError(f"at must be a datetime with a time zone, not {type(at).__name__}")
        if at.utcoffset() is None:
            raise JobError(f"at={at.isoformat()} has no time zone: use an aware datetime, such as datetime.now(UTC)")
        due_ms = math.ceil(at.timestamp() * 1000 - 1e-3)  # never early; the float's own error is below a µs
        if not 0 <= due_ms <= MAX_DUE_MS:
            raise JobError(f"at={at.isoformat()} is out of range: from 1970 to the end of the year 9999")
        return None, due_ms
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else 0 if delay is None else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise JobError(f"delay must be a timedelta or a number of seconds, not {type(delay).__name__}")
    if not 0 <= seconds <= (MAX_DUE_MS - now_ms) / 1000:  # false for NaN as well
        raise JobError(f"delay of {seconds} s is out of range: from 0 to the end of the year 9999")
    return math.ceil(seconds * 1000 - 1e-6), None


def _a(value: object) -> str:
    return f"{value!r:.60}" if isinstance(value, str | bytes) else f"a {type(value).__name__}"


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise JobError(f"name must be text, not {type(name).__name__}")
    size = len(_bytes(name, "name"))
    if size > MAX_NAME_BYTES:
        raise JobError(f"name is {size} bytes long, at most {MAX_NAME_BYTES} are allowed")
    return name


def _check_traceparent(text: object) -> str:
    if text is None or text == "":
        return ""
    if not (isinstance(text, str) and TRACEPARENT.fullmatch(text)):
        raise JobError(f"traceparent must be as in W3C Trace Context, 00-…-…-01, not {text!r}")
    return text


def _check_id(job_id: object, *, foreign: bool = False) -> str:
    if not isinstance(job_id, str):
        raise JobError(f"job id must be text, not {type(job_id).__name__}")
    size = len(_bytes(job_id, "job id", "surrogateescape" if foreign else "strict"))
    if not 0 < size <= MAX_ID_BYTES or not job_id.strip():
        raise JobError(f"job id must be text of 1 to {MAX_ID_BYTES} bytes and more than white space, not {size} bytes")
    return job_id


def _bytes(text: str, what: str, errors: str = "strict") -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError:
        raise JobError(f"{what} {text!r} is not valid Unicode text: consumers could not read it as UTF-8") from None
