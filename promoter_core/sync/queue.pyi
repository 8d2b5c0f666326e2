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
    """Schedules, shows, changes and cancels the delayed jobs of one queue. Cheap to create; share the backend."""

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
        """`index` is the default for jobs that do not set it.

        `serializer` packs their data: the name of an installed serializer or of one in `registry`, or an object.
        Consumers read with the same one. The default is that of the backend's layout: msgpack, or the format that
        another framework's consumers need. `traces`: if the program uses OpenTelemetry, a job receives the trace
        context of the span in which it is scheduled. `clock` stamps `created_at_ms`; due times follow the store's
        clock.

        Raises ConfigError; PluginError for an unavailable serializer.
        """
    @property
    def layout(self) -> Layout | None:
        """Where due jobs go, and how they are stored. None for a backend without layouts."""
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
        """Schedule a job that has failed again. Acknowledge its entry afterwards.

        `job` is the stream entry, its field `d`, or the unpacked envelope. The envelope stays the same, byte for byte,
        except for `attempt`, which is raised by one. `name` defaults to that of the entry. Give one of `delay`, `at`
        and `backoff`; without them, the job's own back-off applies, or that of ChasquiMQ's worker: 0.1 s, doubled each
        time up to 30 s, and 25 runs. Retry overrides of the job take precedence over `backoff`, and its own maximum of
        runs always counts.

        The trace continues with the given context, the current span's, or that of the entry.

        The retry does not take the id, and has an index unless the job was scheduled without. Retrying the same
        delivery twice, for example after a lost reply, moves the waiting retry instead of creating a second job. Once
        that retry has been promoted, another one is a new job with the same id and attempt: consumers that must not run
        it twice have to check both.

        Raises RetriesExhausted when the job has used up its runs, and JobError; both before anything is written. Raises
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

        Without arguments, cancel all waiting jobs; without `due_to`, parked jobs too. After an error or a cancellation,
        just call it again.
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
        """Promote all jobs that are due before `t` and have this `name`, earliest first, like `run_now`.

        When the stream has `max_stream_len` entries, the remaining jobs become due now, and a promoter moves them when
        there is room. After an error or a cancellation, just call it again.
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
        """Change the due times of all jobs that are due from `due_from` on and before `due_to`, and have this `name`.

        `delay` from now or `at` moves all jobs to one time. `by` moves each by this much later, or earlier if negative.
        No job is moved twice, even if its new time is also in the range. Jobs that need no change are matched and stay:
        jobs already at that time, jobs that are due and would still be due, and with `by`, parked jobs.

        After an error or a cancellation, a call with `at` can be repeated. A call with `by` would move jobs again, so
        continue it with `resume`.
        """
    def reschedule(self, job: JobRef, *, delay: Delay | None = None, at: datetime | None = None) -> JobOutcome:
        """Change the due time of a waiting job: to `delay` from now (by the store's clock), or to `at`.

        `delay` is a timedelta or seconds, `at` an aware datetime. MOVED: everything else stays the same. NOT_FOUND or
        ALREADY_PROMOTED: nothing changed. O(log n) for a job with an index. Raises JobError, ConfigError,
        TransientError or PermanentError, like all methods that change jobs.
        """
    def reschedule_many(
        self, jobs: Iterable[JobRef], *, delay: Delay | None = None, at: datetime | None = None
    ) -> tuple[JobOutcome, ...]:
        """Move many jobs to one due time, like `reschedule`, in few round trips."""
    def run_now(self, job: JobRef, *, max_stream_len: int = 1000000, events: bool = True) -> JobOutcome:
        """Promote a waiting job at once, whether or not a promoter is running.

        PROMOTED: it is in the stream. MOVED: the stream has `max_stream_len` entries or the job is malformed, so it is
        now due and the next promotion handles it like any other. NOT_FOUND or ALREADY_PROMOTED: nothing changed.
        `events`: write a `waiting` event, as a promoter does. O(log n) for a job with an index.

        Repeating the call after a TransientError is safe if the id is taken or `job` is a `DelayedJob`. If several jobs
        share one id, a repeat by id can run another one.
        """
    def run_now_many(
        self, jobs: Iterable[JobRef], *, max_stream_len: int = 1000000, events: bool = True
    ) -> tuple[JobOutcome, ...]:
        """Promote many jobs, like `run_now`, in the given order and in few round trips."""
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
        """Replace the waiting job that has the same id with a new one.

        REPLACED. Without `delay` and `at`, the due time stays and nothing is created: NOT_FOUND or ALREADY_PROMOTED.
        With one of them, the job is CREATED when none is waiting, even if its id is still taken. `name=None` keeps the
        name. The other arguments are those of `schedule` with a `job_id`. Nothing else of the old job stays, including
        its attempts. O(log n) for a job with an index.
        """
    def replace_many(self, jobs: Iterable[Job]) -> tuple[JobOutcome, ...]:
        """Replace many jobs, like `replace`, in few round trips: each by its `job_id`, with the other fields of `Job`.

        A `Job` without a `name` keeps the name.
        """
    def cancel(self, job: JobRef) -> JobOutcome:
        """Cancel a waiting job.

        REMOVED: it will never be promoted, and its id is free again. ALREADY_PROMOTED: it is or was in the stream, and
        its id is still taken. NOT_FOUND: it was never scheduled, or was promoted so long ago that its id is free.

        An id of a job without a cancel index (scheduled with `index=False`, or by another producer) is searched for
        among the 10,000 jobs that are due first, a thousand at a time; a job beyond those is NOT_FOUND as well. A
        `DelayedJob` is found wherever it is.
        """
    def cancel_many(self, jobs: Iterable[JobRef]) -> tuple[JobOutcome, ...]:
        """Cancel many jobs in few round trips, each atomically. The answers are in the order of `jobs`.

        If TransientError is raised midway, some may have been removed; a repeat answers NOT_FOUND for them.
        """
    def get(self, job: JobRef) -> DelayedJob | None:
        """Return the waiting job with this id, with all details; None if it was promoted, cancelled or never scheduled.

        Of several jobs with one id, return the one that `cancel` would remove. O(log n); a job without an index is
        searched for among the 10,000 that are due first.
        """
    def get_many(self, jobs: Iterable[JobRef]) -> tuple[DelayedJob | None, ...]:
        """Return many jobs, like `get`, in few round trips. The answers are in the order of `jobs`."""
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
        """Return a page of the waiting jobs, in the order in which they will be promoted; parked jobs come last.

        The page has at most `limit` (1 to 10,000) jobs that are due from `due_from` on and before `due_to`, both aware
        datetimes, and that have this `name`. Without `due_to`, it includes parked jobs. `reverse` lists the latest
        first. `after` is the `cursor` of the previous page, with otherwise the same arguments; it stays valid while
        jobs come and go, and in any process. A page before the last can have fewer jobs than `limit`, or none: continue
        until the cursor is "". With `details`, the jobs have `unique`, `keep_id_for` and `traceparent`, for a few more
        reads a job.

        O(log n + limit); with `name`, each call reads 1,000 jobs or `limit`. Raises JobError, and PermanentError when
        `after` is not a cursor.
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
        """Iterate over all waiting jobs, page by page, with the arguments of `jobs`.

        A job that waits throughout and keeps its due time occurs exactly once; one that is moved meanwhile can occur
        twice or not at all.
        """
    def count(self, due_from: datetime | None = None, due_to: datetime | None = None) -> int:
        """Count the waiting jobs due from `due_from` on and before `due_to`, both aware datetimes.

        Parked jobs are not counted; `stats` returns their number. O(log n) on a Redis-protocol store.
        """
    def histogram(self, edges: Iterable[datetime]) -> tuple[int, ...]:
        """Count the waiting jobs due between adjacent edges, all at one moment: one number fewer than edges.

        `edges` are 2 to 10,001 ascending aware datetimes. A job that is due at an edge counts to its right. Parked jobs
        are not counted. O(log n) for each edge on a Redis-protocol store.
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

        `data` is packed by the queue's serializer. `delay` is a timedelta or seconds from the store's clock; `at` is an
        aware datetime. With neither, and with a time in the past, the job is due now; it is promoted like any other.
        `name` (at most 256 bytes) tells consumers what to run. With `job_id` (1 to 512 bytes), the id is taken while
        the job waits and for `keep_id_for` after its promotion: seconds or a timedelta, 0 to 366 days, an hour by
        default. `index=False` saves one key for a job without a `job_id`, but `cancel` then has to search the set; the
        default is the queue's. Names and ids are UTF-8 text. `traceparent` and `tracestate` are the producer's trace
        context (W3C), which consumers receive with the job. The default is the context of the current span if the
        program uses OpenTelemetry; None means no context. `attempt` is the number of earlier runs.

        `on_repeat` says what to do when the `job_id` is taken:

        - `"keep"`: nothing. The outcome is KEPT or ALREADY_PROMOTED, and `created` is False. A retry after a lost reply
          is safe.
        - `"replace"`: replace the waiting job with this one. REPLACED.
        - `"extend"`: give the waiting job this due time and keep the rest. MOVED. Use it for debouncing.
        - `"error"`: raise JobExistsError.

        With "replace" and "extend", the job is CREATED when none is waiting, even if a promotion still keeps its id
        taken.

        Raises JobError before anything is written; TransientError when the store could not be reached or its reply was
        lost (the job may have been scheduled: with a `job_id`, repeat the call safely); PermanentError.
        """
    def schedule_many(self, jobs: Iterable[Job]) -> tuple[Scheduled, ...]:
        """Schedule many jobs in few round trips, each atomically. The answers are in the order of `jobs`.

        All jobs are checked before the first is written. Adjacent jobs with the same kind of `on_repeat` share round
        trips. Raises the errors of `schedule`; JobExistsError only after all jobs have been handled.
        """
    def stats(self) -> QueueStats:
        """Return depth, due and parked jobs, the leader and the lengths of the streams, all at one moment."""

def list_queues(backend: Connection, pattern: str = "*") -> Iterator[QueueInfo]:
    """Yield the queues that have delayed jobs or a leader, each once and in no particular order, with their statistics.

    `pattern` is a glob over their names: `*`, `?`, `[…]`. Makes one pass over the store in small steps, and reads the
    statistics of the queues found, some at a time. Skips names that this library cannot serve (not UTF-8, over 200
    bytes).

    Raises ConfigError, also for a backend without `DiscoverySupport`; TransientError, PermanentError. A queue that
    cannot be read for good, such as one with a key of another type, raises its error after all others were yielded.
    """
