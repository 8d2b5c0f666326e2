"""`ManagementSupport`: a backend whose waiting jobs can be listed and changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promoter_core.spi.model import JobOutcome, JobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A waiting job, as stored in the sorted set."""

    id: str | None  # None when the envelope cannot be decoded
    name: str
    envelope: bytes  # byte for byte; the whole member if it is malformed
    due_ms: int | None  # None when parked: due after the year 9999, and so never
    malformed: bool = False  # not a job: the next promotion moves it to the DLQ
    handle: bytes = b""  # opaque; lets a change find exactly this job, whatever its id
    unique: bool | None = None  # its id is taken while it waits; None without `want_details`
    keep_id_ms: int | None = None  # how long its id stays taken after its promotion; None for a job that is not unique
    traceparent: str = ""  # the producer's trace context (W3C), with `want_details`
    tracestate: str = ""  # vendor-specific part of the trace context


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """The argument of `ManagementSupport.list_jobs`."""

    limit: int = 100  # maximum number of jobs on a page
    after: str = ""  # the cursor of the previous page; "" for the first page
    due_from_ms: int | None = None  # earliest due time, inclusive
    due_to_ms: int | None = None  # latest due time, exclusive; None: no limit, parked jobs included
    name: str | None = None  # only jobs with this name
    reverse: bool = False  # latest first
    want_details: bool = False  # fill `unique`, `keep_id_ms`, `traceparent` and `tracestate`


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """The answer to a `JobQuery`."""

    jobs: Sequence[StoredJob]
    cursor: str  # for the next page; "" on the last page
    now_ms: int  # the store's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Change a job's due time: to `delay_ms` from now, by the store's clock, or to `due_ms`. Give exactly one.

    Outcomes: MOVED, NOT_FOUND or ALREADY_PROMOTED.
    """

    job: str | StoredJob
    delay_ms: int | None = None
    due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """Promote a job at once, regardless of whether or where a leader runs.

    Outcomes: PROMOTED; MOVED when the stream is full or the job is malformed, so that it is now due and the promoter
    handles it like any other; NOT_FOUND or ALREADY_PROMOTED. A MOVED job that was already due keeps its due time.
    """

    job: str | StoredJob
    max_stream_len: int = 1_000_000  # maximum number of entries in the stream
    events: bool = True  # append a `waiting` event
    events_max_stream_len: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a job from the sorted set. Outcomes: REMOVED, NOT_FOUND or ALREADY_PROMOTED."""

    job: str | StoredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Replace the waiting job that has the id of `request`; if there is none, schedule `request`.

    Outcomes: REPLACED; MOVED with `keep_data`; or CREATED, even if a promotion still keeps the id taken. With
    `keep_due` nothing is created: NOT_FOUND or ALREADY_PROMOTED instead. With `keep_data` the waiting job stays the
    same job, and so does how long its id stays taken.
    """

    request: JobRequest
    keep_data: bool = False  # keep the waiting job's envelope, name and trace context: it only moves
    keep_name: bool = False  # keep its name
    keep_due: bool = False  # keep its due time and ignore `delay_ms` and `due_ms`
    search: bool = True  # also search for a job without an index, as `Backend.cancel` does


JobChange = Reschedule | RunNow | Remove | Replace  # a change for `change_jobs`


@runtime_checkable
class ManagementSupport(Protocol):
    """Lists and changes waiting jobs. Optional: most methods of `DelayedQueue` need it.

    A job is found by its id, or by a `StoredJob` that this backend returned. An id finds the job that `Backend.cancel`
    would remove: of several, the unique one, or the last if the store can tell. A job without an index is found only
    among the 10,000 that are due first. A `StoredJob` finds its job wherever it has moved since, and no other job with
    its id. No call blocks the store for long: calls that read many jobs read some at a time.
    """

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        """Return the waiting jobs with these ids, with all details; None for an id without a waiting job.

        O(log n) for a job with an index. A job without one is searched for among at least the 10,000 that are due
        first.
        """
        ...

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        """Return a page of the waiting jobs, in promotion order; parked jobs come last.

        `reverse` reverses the order. Malformed members are listed too, without a name.

        A page before the last one can have fewer jobs than `limit`, or none: with a large set or large jobs, a call
        reads only some. It reads at least one job, so that the cursors come to an end.

        A cursor continues after the last job that was read, even if that job no longer waits. A job that waits
        throughout and keeps its due time is on exactly one page. A job that is promoted or cancelled meanwhile can be
        on one or none, and a moved one even on two. Cursors are opaque text, valid for the same queue and the same
        query, in any process. Raises PermanentError when `after` is not a cursor of this store.

        O(log n + limit) without `name`; with it, O(log n + jobs read): at most 1,000 or `limit`, whichever is more.
        """
        ...

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        """Count the jobs due before each of these times, all at one moment. Times can be in any order.

        A job that is due exactly at a time is not counted for it; a parked job never is.
        """
        ...

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        """Make changes, each atomically, also against `promote`. Outcomes are in the order of `changes`.

        Changes of the same job take effect in the order of the call.

        - A job is moved, promoted, replaced or removed while it waits, or not at all: it is never lost or promoted
          twice. NOT_FOUND and ALREADY_PROMOTED change nothing.
        - ALREADY_PROMOTED: the job no longer waits, and its promotion still keeps its id taken. NOT_FOUND if nothing
          shows that. For a `StoredJob`, its id counts.
        - A moved job keeps its envelope and name byte for byte, its index and its trace context. Its id stays taken as
          if it had been scheduled with the new due time. A due time in the past counts as now, one after the year 9999
          as the end of that year. Its position among jobs with the same due time is unspecified.
        - `RunNow` writes what a promotion writes: the stream entry, a `waiting` event, and the cleanup of the index.
          The id stays taken as after a promotion. The stream does not grow beyond `max_stream_len`.
        - `Replace` takes the request's envelope, name, index, `unique` and `keep_id_ms`, and keeps of the old job only
          what `keep_…` says. Its trace context is that of the request, unless `keep_data`.
        - A change that gives the set an earlier head, or removes its head, ends a wait for JOBS.
        - With many changes, some may have been made when TransientError is raised.

        O(log n) for each change of a job with an index.
        """
        ...
