"""`ManagementSupport`: a backend whose waiting jobs can be seen and changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promoter_core.spi.model import JobOutcome, JobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A job that waits in the sorted set, as it stands there."""

    id: str | None  # None when the envelope cannot be decoded
    name: str
    envelope: bytes  # byte for byte; of a malformed member all of it
    due_ms: int | None  # None when it is parked: due after the year 9999, and so never
    malformed: bool = False  # no job: the next promotion moves it to the DLQ
    handle: bytes = b""  # opaque; with it a change finds this very job, whatever its id
    unique: bool | None = None  # its id is taken while it waits; None when it was not asked for
    keep_id_ms: int | None = None  # of a unique job: how long the id stays taken after the promotion
    traceparent: str = ""  # the producer's trace context, when it was asked for
    tracestate: str = ""  # what vendors add to it


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """The argument of `ManagementSupport.list_jobs`."""

    limit: int = 100  # jobs on a page at most
    after: str = ""  # the cursor of the page before; "" for the first page
    due_from_ms: int | None = None  # the first due time that counts
    due_to_ms: int | None = None  # the first one that does not; None: all later ones, and parked jobs
    name: str | None = None  # jobs with this name only
    reverse: bool = False  # the latest first
    want_details: bool = False  # fill `unique`, `keep_id_ms`, `traceparent` and `tracestate`


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """The answer to a `JobQuery`."""

    jobs: Sequence[StoredJob]
    cursor: str  # for the next page; "" when this is the last one
    now_ms: int  # the store's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Give a job another due time: in `delay_ms` by the store's clock, or at `due_ms`. Exactly one is given.

    MOVED, NOT_FOUND or ALREADY_PROMOTED.
    """

    job: str | StoredJob
    delay_ms: int | None = None
    due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """Promote a job at once, whoever leads the queue, or nobody.

    PROMOTED; MOVED when the stream is full or the job is malformed: it is due now and the promoter treats it as any
    other; NOT_FOUND or ALREADY_PROMOTED. A job that is MOVED and was due before keeps its due time.
    """

    job: str | StoredJob
    max_stream_len: int = 1_000_000  # entries in the stream
    events: bool = True  # append a `waiting` event
    events_max_stream_len: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Take a job out of the sorted set. REMOVED, NOT_FOUND or ALREADY_PROMOTED."""

    job: str | StoredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Put `request` in the place of the waiting job with its id; without one, schedule it.

    REPLACED, MOVED with `keep_data`, or CREATED, even when the id is still taken by a promotion. With `keep_due`
    nothing is created: NOT_FOUND or ALREADY_PROMOTED instead. With `keep_data` the job that waits is still the one that
    was there: how long its id stays taken is as it was.
    """

    request: JobRequest
    keep_data: bool = False  # the envelope, the name and the trace context of the waiting job stay: it only moves
    keep_name: bool = False  # its name stays
    keep_due: bool = False  # its due time stays; `delay_ms` and `due_ms` do not count
    search: bool = True  # look for a job without an index, too, as `Backend.cancel` does


JobChange = Reschedule | RunNow | Remove | Replace  # what `change_jobs` carries out


@runtime_checkable
class ManagementSupport(Protocol):
    """Sees and changes the jobs that wait. Optional: most methods of `DelayedQueue` need it.

    A job is found by its id or, as a `StoredJob` that this backend gave, by itself. By id, it is the job that
    `Backend.cancel` would remove: of several, the unique one, or the last where the store can tell; and one without
    an index only among the 10,000 that are due first. A `StoredJob` finds its job wherever that has moved since, and no
    other job with its id. No call is a long one for the store: what looks at many jobs looks at some of them a step.
    """

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        """The waiting jobs with these ids, with all details; None for an id with which none waits.

        O(log n) a job with an index. One without is looked for among 10,000 jobs at least, the earliest first.
        """
        ...

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        """A page of the waiting jobs, in the order in which they are promoted; parked jobs come last.

        With `reverse` it is the same order from its end. Malformed members are listed too; they have no name.

        A page may have fewer jobs than `limit`, even none, before the last one: of a large set, or of large jobs, one
        call looks at some only. It looks at one job at least, so that the cursors come to an end.

        A cursor goes on behind the last job that was looked at, whether or not that job still waits. A job that waits
        all the while and keeps its due time is on exactly one of the pages; one that is promoted, cancelled or moved
        in between may be on one or none, and a moved one on two. Cursors are opaque text, good for the same queue and
        the same query, in any process. PermanentError when `after` is no cursor of this store.

        O(log n + limit) without `name`; with it, as many as are looked at: at most 1,000 or `limit`, whichever is more.
        """
        ...

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        """How many jobs are due before each of these times, all at one moment. Times may be in any order.

        A job that is due at exactly that time is not counted; a parked one never is.
        """
        ...

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        """Carry out changes, each atomic for itself and against `promote`; outcomes in the order asked.

        Of two changes of one job the first of the call takes effect first.

        - A job is moved, promoted, replaced or removed while it waits, or not at all: never is one lost, never is one
          promoted twice. NOT_FOUND and ALREADY_PROMOTED change nothing.
        - ALREADY_PROMOTED: it waits no more, and its id is taken since its promotion. NOT_FOUND where nothing tells.
          With a `StoredJob`, of the id of that job.
        - A moved job keeps its envelope and its name byte for byte, its index and its trace context; its id stays taken
          as if it had been scheduled with the new due time. A due time in the past counts as now, one after the year
          9999 as the end of it. Its place among jobs of the same due time is left open.
        - `RunNow` writes what a promotion writes: the stream's entry, a `waiting` event, and the cleanup of the index.
          The id stays taken as after a promotion. The stream does not grow beyond `max_stream_len`.
        - `Replace` takes the request's envelope, name, trace context, index and `keep_id_ms`; of the job that was there
          nothing stays but what `keep_…` says. With the trace context of the request, unless `keep_data`.
        - Whatever gives the set an earlier head, or takes its head away, is a change that ends a wait for JOBS.
        - Of many changes, some may have been carried out when TransientError is raised.

        O(log n) a change of a job with an index.
        """
        ...
