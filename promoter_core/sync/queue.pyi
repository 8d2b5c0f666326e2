"""Written by `python -m tests.unit.sync_stub --write`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from promoter_core.client.backoff import Backoff
from promoter_core.client.requests import Delay, Job, OnRepeat
from promoter_core.client.values import BulkResult, DelayedJob, JobRef, Page, Progress, QueueInfo
from promoter_core.registry import Registry
from promoter_core.spi.clock import Clock
from promoter_core.spi.layouts import Layout
from promoter_core.spi.model import JobOutcome, QueueStats, Scheduled, StreamEntry
from promoter_core.spi.serializers import Serializer
from promoter_core.spi.wire import Envelope
from promoter_core.sync.connection import Connection

class DelayedQueue:
    """Schedules, shows, changes and cancels the delayed jobs of one queue. Cheap to make; share the backend."""

    name: str
    def __init__(
        self,
        backend: Connection,
        queue: str,
        *,
        index: bool = True,
        serializer: str | Serializer | None = None,
        traces: bool = True,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`index` is that of jobs which do not give it. `serializer` packs their data: the name of an installed one, or
        of one in `registry`, or your own; consumers read with the same. By default it is that of the backend's layout:
        msgpack, or what the consumers of another framework need. `traces`: in a program that uses OpenTelemetry, a job
        gets the trace context of the span in which it is scheduled. `clock` stamps `created_at_ms`; due times are by
        the store's.

        Raises ConfigError; PluginError for a serializer that is not available.
        """
    @property
    def layout(self) -> Layout | None:
        """Where due jobs go, and how they wait. None for a backend without layouts."""
    def retry(
        self,
        job: Envelope | StreamEntry | bytes,
        *,
        name: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
        backoff: Backoff | None = None,
        traceparent: str | None = "",
        tracestate: str | None = "",
    ) -> Scheduled:
        """Schedule a job that has run and failed once more. Then acknowledge its entry.

        `job` is the stream's entry, its field `d`, or that unpacked. Its envelope stays byte for byte, but for
        `attempt`, which is one more. `name` is by default that of the entry. One of `delay`, `at` and `backoff` says
        when; without them it is the job's own back-off, or that of ChasquiMQ's worker: 0.1 s, doubled each time up to
        30 s, and 25 runs. Retry overrides of the job win over `backoff`, and its own number of runs counts in any case.

        Its trace goes on: with the context that is given, the current span's, or that of the entry.

        Its id is not taken by it, and it has an index unless the job was scheduled without. A second retry of the same
        delivery, after a lost reply say, is no second job while the first one waits, but moves it. When that has been
        promoted, it is another job with the same id and attempt: consumers that must not run it twice look at both.

        Raises RetriesExhausted when the job has used up its runs, and JobError; nothing is written then.
        TransientError, PermanentError.
        """
    def cancel_where(
        self,
        *,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Cancel all jobs that are due from `due_from` on and before `due_to`, and have this `name`.

        Without any of them it is all that waits, and without `due_to` parked jobs too. After an error or a cancellation
        it can simply be called again.
        """
    def run_due_before(
        self,
        t: datetime,
        *,
        name: str | None = None,
        max_stream_len: int = 1000000,
        events: bool = True,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Promote all jobs that are due before `t` and have this `name`, the earliest first, as `run_now` does.

        When the stream has `max_stream_len` entries, the rest becomes due now and a promoter moves it as there is room.
        After an error or a cancellation it can simply be called again.
        """
    def reschedule_where(
        self,
        *,
        delay: Delay | None = None,
        at: datetime | None = None,
        by: timedelta | None = None,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Give other due times to all jobs that are due from `due_from` on and before `due_to`, and have this `name`.

        `delay` from now or `at`: all to one time. `by`: each by this much later, or earlier when it is negative. No job
        is moved twice, even if its new time is in the range as well. Jobs that need no change are matched and stay:
        those at that time already, those that are due and would be so after it, and with `by` parked jobs.

        After an error or a cancellation, a call with `at` can simply be made again. One with `by` would move jobs anew,
        so go on with `resume`.
        """
    def reschedule(self, job: JobRef, *, delay: Delay | None = None, at: datetime | None = None) -> JobOutcome:
        """Give a waiting job another due time: in `delay` by the store's clock, or `at` an aware datetime.

        MOVED: all else of it stays. NOT_FOUND or ALREADY_PROMOTED: nothing has changed. O(log n) for a job with an
        index. Raises JobError, ConfigError, TransientError, PermanentError, as all methods do that change jobs.
        """
    def reschedule_many(
        self, jobs: Iterable[JobRef], *, delay: Delay | None = None, at: datetime | None = None
    ) -> tuple[JobOutcome, ...]:
        """`reschedule` for many jobs, to one due time, in few round trips."""
    def run_now(self, job: JobRef, *, max_stream_len: int = 1000000, events: bool = True) -> JobOutcome:
        """Promote a waiting job at once, whether or not a promoter runs.

        PROMOTED: it is in the stream. MOVED: the stream has `max_stream_len` entries, or the job is malformed; it is
        due now, and the next promotion treats it as any other. NOT_FOUND or ALREADY_PROMOTED: nothing has changed.
        `events`: write a `waiting` event, as a promoter does. O(log n) for a job with an index.

        To repeat it after a TransientError is safe where the id is taken, or the job is given as it was seen. Of
        several jobs with one id, a repeat by id may run another one.
        """
    def run_now_many(
        self, jobs: Iterable[JobRef], *, max_stream_len: int = 1000000, events: bool = True
    ) -> tuple[JobOutcome, ...]:
        """`run_now` for many jobs, in the order given and in few round trips."""
    def replace(
        self,
        job: JobRef,
        data: object,
        *,
        name: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
        traceparent: str | None = "",
        tracestate: str | None = "",
        keep_id_for: Delay | None = None,
    ) -> JobOutcome:
        """Put a new job in the place of the waiting one with the same id.

        REPLACED. Without `delay` and `at`, the due time stays, and nothing is created: NOT_FOUND or ALREADY_PROMOTED.
        With one of them, CREATED when none waits, even when its id is still taken. `name=None` keeps the name. All else
        is as in `schedule` with a `job_id`; of the old job nothing stays, not its attempts either. O(log n) for a job
        with an index.
        """
    def replace_many(self, jobs: Iterable[Job]) -> tuple[JobOutcome, ...]:
        """`replace` for many jobs in few round trips: each by its `job_id`, with the other fields of `Job`.

        One without a `name` keeps the name.
        """
    def cancel(self, job: JobRef) -> JobOutcome:
        """REMOVED: it will never be promoted, and its id is free again. ALREADY_PROMOTED: it is in the stream, or was,
        and its id is still taken. NOT_FOUND: never scheduled, or promoted so long ago that its id is free.

        A job without a cancel index (scheduled with `index=False`, or by another producer) that is given by its id is
        looked for in the set itself: among the 10,000 that are due first, a thousand at a time. One beyond those is
        NOT_FOUND as well. As it was seen, it is found wherever it is.
        """
    def cancel_many(self, jobs: Iterable[JobRef]) -> tuple[JobOutcome, ...]:
        """Cancel many jobs in few round trips; each is atomic for itself, the answers are in order.

        When TransientError is raised midway, some may have been removed: a repeat answers NOT_FOUND for them.
        """
    def get(self, job: JobRef) -> DelayedJob | None:
        """The waiting job with this id, with all details; None when none waits: it was promoted, cancelled or never
        was.

        Of several with one id, the one that `cancel` would remove. O(log n); a job without an index is looked for among
        the 10,000 that are due first.
        """
    def get_many(self, jobs: Iterable[JobRef]) -> tuple[DelayedJob | None, ...]:
        """`get` for many jobs in few round trips; the answers are in order."""
    def jobs(
        self,
        *,
        limit: int = 100,
        after: str = "",
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        reverse: bool = False,
        details: bool = False,
    ) -> Page:
        """A page of the waiting jobs, in the order in which they will be promoted; parked ones come last.

        At most `limit` (1 to 10,000) jobs that are due from `due_from` on and before `due_to`, both aware datetimes,
        and that have this `name`. Without `due_to`, parked jobs too. `reverse`: the latest first. `after` is the
        `cursor` of the page before, with the same other arguments; it stays good while jobs come and go, and in any
        process. A page may have fewer jobs than `limit`, even none, before the last: go on until the cursor is "". With
        `details`, the jobs say whether they are `unique`, their `keep_id_for` and `traceparent`: a few more reads a
        job.

        O(log n + limit); with `name`, 1,000 jobs or `limit` are looked at a call. Raises JobError, and PermanentError
        when `after` is no cursor.
        """
    def scan(
        self,
        *,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        reverse: bool = False,
        details: bool = False,
    ) -> Iterator[DelayedJob]:
        """All waiting jobs, page by page, with the arguments of `jobs`.

        A job that waits all the while and keeps its due time comes exactly once; one that is moved meanwhile may come
        twice or not at all.
        """
    def count(self, due_from: datetime | None = None, due_to: datetime | None = None) -> int:
        """How many waiting jobs are due from `due_from` on and before `due_to`, both aware datetimes.

        Parked jobs are not counted; `stats` has their number. O(log n) on a Redis-protocol store.
        """
    def histogram(self, edges: Iterable[datetime]) -> tuple[int, ...]:
        """How many waiting jobs are due between each two of the edges, all at one moment: one number fewer than edges.

        `edges` are 2 to 10,001 ascending aware datetimes. A job that is due at an edge counts to the right of it.
        Parked jobs are not counted. O(log n) an edge on a Redis-protocol store.
        """
    def schedule(
        self,
        data: object,
        *,
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
    ) -> Scheduled:
        """Schedule one job.

        `data` is what the serializer packs. `delay` is a timedelta or seconds from the store's clock, `at` an aware
        datetime; a job that is due already is due now, and is promoted as any other. `name` (≤ 256 bytes) tells
        consumers what to run. With `job_id` (1 to 512 bytes) the id is taken while the job waits and for `keep_id_for`
        after its promotion: seconds or a timedelta, 0 to 366 days, an hour by default. `index=False` saves a key per
        job without a `job_id`; `cancel` then has to look for the job in the set. By default it is the queue's. Names
        and ids are UTF-8 text. `traceparent` and `tracestate` are the producer's trace context (W3C), which consumers
        get with the job; by default that of the current span, where the program uses OpenTelemetry, and none for None.
        `attempt` is how often the job has run.

        `on_repeat` says what a call does whose `job_id` is taken:

        - `"keep"`: nothing. The outcome is KEPT or ALREADY_PROMOTED, and `created` is False: safe to try again after a
          lost reply.
        - `"replace"`: this job takes the place of the one that waits. REPLACED.
        - `"extend"`: the one that waits gets this due time, and keeps all else. MOVED. This is debouncing.
        - `"error"`: JobExistsError.

        With "replace" and "extend" the job is CREATED when none waits, even if its id is still taken by a promotion.

        Raises JobError before anything is written; TransientError when the store could not be asked (it may have
        taken the job: give a `job_id` to be able to repeat safely); PermanentError.
        """
    def schedule_many(self, jobs: Iterable[Job]) -> tuple[Scheduled, ...]:
        """Schedule many jobs in few round trips; each is atomic for itself, the answers are in order.

        All jobs are checked before the first is written. Neighbours with the same kind of `on_repeat` share round
        trips. Raises as `schedule` does; JobExistsError after all jobs have had their turn.
        """
    def stats(self) -> QueueStats:
        """Depth, due and parked jobs, who leads, the lengths of the streams: all at one moment."""

def list_queues(backend: Connection, pattern: str = "*") -> Iterator[QueueInfo]:
    """The queues that have delayed jobs or a leader, each once and in no order, with their statistics.

    `pattern` is a glob over their names: `*`, `?`, `[…]`. One pass over the store in small steps, and a look at each
    queue that is found, some at a time. A name that this library cannot serve (not UTF-8, over 200 bytes) is left out.

    Raises ConfigError, also for a backend without `DiscoverySupport`; TransientError, PermanentError.
    """
