"""`Job`, a caller's request, and how it is checked and packed into a `JobRequest`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from promoter_core.client.traces import NONE, check_trace
from promoter_core.client.ulids import ULIDS
from promoter_core.spi.errors import JobError
from promoter_core.spi.model import KEEP_ID_MS, MAX_DUE_MS, JobRequest
from promoter_core.spi.names import check_job_id, check_job_name
from promoter_core.spi.serializers import MSGPACK, Serializer
from promoter_core.spi.wire import EnvelopePacker

Delay = timedelta | float  # a number is in seconds
OnRepeat = Literal["keep", "replace", "extend", "error"]  # what to do when the id is taken

ON_REPEAT: tuple[OnRepeat, ...] = ("keep", "replace", "extend", "error")
MAX_KEEP_ID_MS = 366 * 86_400_000
MAX_ATTEMPT = 2**32 - 1  # the limit of ChasquiMQ's workers


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Job:
    """One job for `schedule_many`: the arguments of `schedule`. Without `delay` and `at`, it is due at once."""

    data: object
    delay: Delay | None = None
    at: datetime | None = None
    name: str = ""
    job_id: str | None = None
    index: bool | None = None  # None: use the queue's default
    traceparent: str | None = ""  # "": the current span's; None: no trace context
    tracestate: str | None = ""
    attempt: int = 0
    on_repeat: OnRepeat = "keep"
    keep_id_for: Delay | None = None

    def __init__(
        self,
        *,
        data: object,
        delay: Delay | None = None,
        at: datetime | None = None,
        name: str = "",
        job_id: str | None = None,
        index: bool | None = None,
        traceparent: str | None = "",
        tracestate: str | None = "",
        attempt: int = 0,
        on_repeat: OnRepeat = "keep",
        keep_id_for: Delay | None = None,
    ) -> None:
        """Takes two thirds of the time of the `__init__` that dataclass generates for a frozen class."""
        cls = type(self)
        job: Any = self if cls is Job else _OpenJob()
        if cls is Job:
            object.__setattr__(job, "__class__", _OpenJob)
        job.data = data
        job.delay = delay
        job.at = at
        job.name = name
        job.job_id = job_id
        job.index = index
        job.traceparent = traceparent
        job.tracestate = tracestate
        job.attempt = attempt
        job.on_repeat = on_repeat
        job.keep_id_for = keep_id_for
        if cls is Job:
            job.__class__ = Job
        else:
            for name in Job.__slots__:
                object.__setattr__(self, name, getattr(job, name))


class _OpenJob:
    """A Job to be: its attributes can be set."""

    __slots__ = Job.__slots__


class RequestMaker:
    """Checks and packs the jobs of one call. Not thread-safe."""

    def __init__(
        self,
        now_ms: int,
        *,
        index: bool = True,
        foreign: bool = False,
        serializer: Serializer = MSGPACK,
        trace: tuple[str, str] = NONE,
    ) -> None:
        """`now_ms` becomes `created_at_ms` of the envelopes; `index` is the default for jobs that do not set it.

        `foreign`: ids can be those of other producers' jobs. `trace`: the default trace context.
        """
        self._trace = trace
        self._now_ms = now_ms
        self._index = index
        self._foreign = foreign
        self.keeps = True  # whether every job so far has on_repeat="keep"
        self._packer = EnvelopePacker(serializer)

    def make(self, jobs: Sequence[Job]) -> list[JobRequest]:
        """Return the requests to a backend, in order. Raises JobError."""
        now_ms, pack = self._now_ms, self._packer.pack
        ids = ULIDS.take(len(jobs))
        requests: list[JobRequest] = []
        # Jobs that are created together often share these objects, so check an object only if it differs from the last
        # one.
        name = ""
        delay: object = object()
        at: object = delay
        due: tuple[int | None, int | None]
        keep: Delay | None = None
        keep_ms = KEEP_ID_MS
        repeat: OnRepeat = "keep"
        attempt = 0
        for id, job in zip(ids, jobs, strict=True):
            if not isinstance(job, Job):
                raise JobError(f"schedule_many takes Job(data=…, delay=…), not {shown_value(job)}")
            if job.delay is not delay or job.at is not at:
                due = due_of(job.delay, job.at, now_ms)
                delay, at = job.delay, job.at
            if job.keep_id_for is not keep:
                keep_ms = keep_id_ms_of(job.keep_id_for)
                keep = job.keep_id_for
            if job.on_repeat is not repeat:
                repeat = check_on_repeat(job.on_repeat)
                self.keeps &= repeat == "keep"
            if job.attempt is not attempt:
                attempt = check_attempt(job.attempt)
            if unique := job.job_id is not None:
                id = check_job_id(job.job_id, foreign=self._foreign)
            elif keep is not None or repeat != "keep":
                raise JobError("on_repeat= and keep_id_for= need an id: give a job_id= as well")
            index = self._index if job.index is None else job.index
            packed = pack(id, job.data, now_ms, index=unique or index, attempt=attempt)
            if job.name is not name:
                name = check_job_name(job.name)
            trace = self._trace
            if job.traceparent != "" or job.tracestate:
                trace = check_trace(job.traceparent, job.tracestate)
            request: Any = _Open(id, packed, name, *due, unique, index, *trace, keep_ms)
            request.__class__ = JobRequest
            requests.append(request)
        return requests


class _Open:
    """A JobRequest to be: its `__init__` takes a fifth of the time of a frozen dataclass's."""

    __slots__ = JobRequest.__slots__

    def __init__(
        self,
        id: str,
        envelope: bytes,
        name: str,
        delay_ms: int | None,
        due_ms: int | None,
        unique: bool,
        index: bool,
        traceparent: str,
        tracestate: str,
        keep_id_ms: int,
    ) -> None:
        self.id = id
        self.envelope = envelope
        self.name = name
        self.delay_ms = delay_ms
        self.due_ms = due_ms
        self.unique = unique
        self.index = index
        self.traceparent = traceparent
        self.tracestate = tracestate
        self.keep_id_ms = keep_id_ms


def due_of(delay: Delay | None, at: datetime | None, now_ms: int) -> tuple[int | None, int | None]:
    """Return `(delay_ms, due_ms)`, one of them None. Raises JobError for an invalid `delay` or `at`."""
    if at is not None:
        if delay is not None:
            raise JobError("give either delay= or at=, not both")
        if not isinstance(at, datetime):
            raise JobError(f"at must be a datetime with a time zone, not {type(at).__name__}")
        if at.utcoffset() is None:
            raise JobError(f"at={at.isoformat()} has no time zone: use an aware datetime, such as datetime.now(UTC)")
        due_ms = math.ceil(at.timestamp() * 1000 - 1e-3)  # round up, never early; the float's own error is below a µs
        if not 0 <= due_ms <= MAX_DUE_MS:
            raise JobError(f"at={at.isoformat()} is out of range: from 1970 to the end of the year 9999")
        return None, due_ms
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else 0 if delay is None else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise JobError(f"delay must be a timedelta or a number of seconds, not {type(delay).__name__}")
    if not 0 <= seconds <= (MAX_DUE_MS - now_ms) / 1000:  # false for NaN as well
        raise JobError(f"delay of {seconds} s is out of range: from 0 to the end of the year 9999")
    return math.ceil(seconds * 1000 - 1e-6), None


def new_due_of(delay: Delay | None, at: datetime | None, now_ms: int, method: str) -> tuple[int | None, int | None]:
    """Like `due_of`, for a job that already has a due time: one of the two is required. Raises JobError."""
    if delay is None and at is None:
        raise JobError(f"{method} needs delay= or at=: the new due time")
    return due_of(delay, at, now_ms)


def check_on_repeat(repeat: object) -> OnRepeat:
    """Return `repeat` if it is one of the choices. Raises JobError that names them."""
    for choice in ON_REPEAT:
        if repeat == choice:
            return choice
    raise JobError(f"on_repeat must be one of {', '.join(ON_REPEAT)}, not {repeat!r:.60}")


def keep_id_ms_of(keep: object) -> int:
    """Return milliseconds for a timedelta or seconds; the default for None. Raises JobError."""
    if keep is None:
        return KEEP_ID_MS
    seconds = keep.total_seconds() if isinstance(keep, timedelta) else keep
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise JobError(f"keep_id_for must be a timedelta or a number of seconds, not {type(keep).__name__}")
    if not 0 <= seconds <= MAX_KEEP_ID_MS / 1000:  # false for NaN as well
        raise JobError(f"keep_id_for of {seconds} s is out of range: from 0 to 366 days")
    return math.ceil(seconds * 1000 - 1e-6)


def check_attempt(attempt: object) -> int:
    """Return `attempt` if it is a valid number of runs. Raises JobError."""
    if isinstance(attempt, bool) or not isinstance(attempt, int):
        raise JobError(f"attempt must be a whole number, not {type(attempt).__name__}")
    if not 0 <= attempt <= MAX_ATTEMPT:
        raise JobError(f"attempt {attempt} is out of range: from 0 to {MAX_ATTEMPT:,}")
    return attempt


def shown_value(value: object) -> str:
    """Return short text itself, or the type of anything else, for an error message."""
    return f"{value!r:.60}" if isinstance(value, str | bytes) else f"a {type(value).__name__}"
