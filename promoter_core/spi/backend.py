"""`Backend`: the contract of every store of delayed jobs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast, runtime_checkable

from promoter_core.spi.errors import ConfigError
from promoter_core.spi.model import (
    Capabilities,
    ChangeKind,
    JobOutcome,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    StreamEntry,
    StreamName,
)


@runtime_checkable
class Backend(Protocol):
    """A store of delayed jobs: per queue a sorted set, a stream, a lock, a cancel index and dedup markers.

    A phase that is missing from `capabilities.fused` needs its own method: `SeparateCleanup`, `SeparateEmit`.

    One backend serves any number of queues and concurrent callers in one event loop. Queues never see one another.
    It raises only `TransientError` and `PermanentError`, never its driver's own exceptions, and it never blocks the
    event loop. A method that raises `TransientError` or is cancelled may or may not have taken effect (a reply can be
    lost), but never partially. Atomic means atomic across all processes that use the store.

    Queue names, ids, names and holders are compared and returned exactly: without case folding, Unicode normalization,
    padding or truncation. Ids, names and holders can contain any character, including NUL and surrogate escapes (bytes
    that are not UTF-8). Ids and holders have up to 512 bytes, names up to 256; queue names are those that
    `check_queue_name` allows. Times, delays, leases, limits and lengths are whole numbers up to 2**53.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of this backend. Only `wake` can change, and only while the backend is open."""
        ...

    async def open(self) -> None:
        """Connect to the store. After it returns, every method works. Opening twice is harmless.

        Raises TransientError when the store cannot be reached, PermanentError when it refuses us.
        """
        ...

    async def close(self) -> None:
        """Release all connections and tasks. A pending `wait` returns or raises TransientError.

        Afterwards every method except `open` and `close` raises TransientError. Its code is `CLOSED`. Idempotent. Other
        backends on the same store keep working.
        """
        ...

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        """Take or renew the queue's lock for `ttl_ms` milliseconds of the store's clock, atomically.

        Grants a `Lease` when the lock is free, has expired, or already belongs to `holder` (then its lease restarts).
        Otherwise returns `LeaseHeld` with the remaining time of the other lease, its holder, and how late the oldest
        pending job is. At most one holder at any time.

        For all methods alike, a lease belongs to its holder in every millisecond before its end, and to nobody a
        millisecond after it. A lease that restarts ends `ttl_ms` from now, whether that is later or earlier than
        before. An expired lease is not reported anywhere, and only `lock` grants it again.
        Source: ChasquiMQ's ACQUIRE_LOCK_SCRIPT.
        """
        ...

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        """Move due jobs from the sorted set to the stream, in one atomic step that is fenced by `lease`.

        - Fenced: unless `lease.holder` holds the lock and it has not expired, nothing changes and the answer is
          `LeaseLost`. With `request.renew` the lease restarts.
        - Due: a job whose due time is at or before the store's clock. At most `request.limit` jobs. Fewer if jobs are
          so large that moving them would block the store: `oldest_pending_lag_ms` shows the rest.
        - Order: by due time, then by `capabilities.ties`. INSERTION is the order in which jobs were scheduled,
          including the order within a call. The order holds within a batch of any size, from one batch to the next, in
          the stream, in `jobs`, in `traces` and in the events.
        - Nothing is lost: a job is added to the stream before it leaves the set. If adding fails midway, only the jobs
          already added leave the set.
        - The stream entry holds the envelope (`d`) and the name (`n`, absent when empty).
        - With `capabilities.traces`, the entry, the event and the `PromotedJob` of a job that was scheduled with a
          trace context contain it as `traceparent` and `tracestate`. Entry and event omit empty ones. A `tracestate`
          without a `traceparent` is dropped.
        - `overflow="hold"`: the stream does not grow beyond `max_stream_len`; due jobs that find no room stay in the
          set. If there was less room than `limit`, `held_back` counts all due jobs that stay; otherwise it is 0.
          `"trim"`: the oldest entries are dropped to keep the length, approximately.
        - A member that cannot be decoded never stops the batch. Without a readable id it is still promoted, with
          `PromotedJob.id` None. A wholly malformed member goes to the DLQ and counts in `malformed`.
        - `depth`, `oldest_pending_lag_ms` and `next_due_ms` describe the set *after* the move, `now_ms` is the
          store's clock. A job that another client scheduled beyond the year 9999 never counts as the next due job.
        - `jobs` is empty unless `request.want_jobs`, and in promotion order otherwise.
        - `lateness_counts` counts, for each bound of `promoter_core.spi.LATENESS_MS`, the promoted jobs later than it.
        - With `request.want_work`, `work_ms` is how long the store worked on this call, by its own clock, without the
          round trip. The promoter sizes its batches by it. None if the store cannot measure it; `max_tick_ms` then has
          no effect.
        - With `capabilities.traces` and `request.want_traces`, `traces` has the trace contexts of the promoted jobs in
          promotion order, and `trace_ids` the ids of these jobs. Jobs without a context are left out. A job never has
          the context of an earlier job with its id. If several jobs with one id wait at the same time, a store can keep
          only the context of the last.
        - Phases in `capabilities.fused` are done as well: CLEANUP like `SeparateCleanup.cleanup`, and EMIT like
          `SeparateEmit.emit`, if `request.events`. Neither can fail or undo the promotion.

        Source: ChasquiMQ's PROMOTE_SCRIPT.
        """
        ...

    async def unlock(self, lease: Lease) -> bool:
        """Release the lock if `lease.holder` holds it, by compare-and-delete. Never another holder's.

        Returns True when it was released. This wakes a follower that waits on this queue. Source: RELEASE_LOCK_SCRIPT.
        """
        ...

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for a change of this kind, JOBS (the sorted set) or LOCK.

        Returns True on a change or a possible one, False on timeout. A change after the caller's last `promote` (for
        JOBS) or `lock` (for LOCK) began is never missed: it ends the wait at once. It ends every wait for it: all that
        are pending, and all that start before the next such call. One change never hides another. Occasional spurious
        wake-ups are allowed, but while nothing changes, waits eventually last their full time. For JOBS, a job that
        comes before all others is a change, whichever job of a call it is; any other write can be one. For LOCK, a
        change is the release of the lock, not its expiry. `capabilities.wake` says how changes are noticed. While it is
        POLL, no change has to end a wait, not even one by this backend. Cancelling the wait is safe.
        """
        ...

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        """Put jobs into the sorted set, each atomically. The answers are in the order of `jobs`.

        - A `delay_ms` counts from the store's clock.
        - A due time in the past counts as now. A job that is due now goes into the set like any other, and the next
          `promote` moves it by the same rules (bound, order, events, trace context, lateness).
        - A due time after the year 9999 becomes the end of that year.
        - `unique`: while a unique job with this id waits, for however long, a repeat changes nothing and answers
          `created=False`. The same holds for `keep_id_ms` after the due time, and after a late promotion. It may end a
          minute early; with 0, the id is free as soon as the job is promoted. At the latest, the id is free a minute
          after that time. `keep_id_ms` is that of the request that created the job. A request that occurs twice in one
          call is also a repeat. It is unspecified whether a job with this id that is not unique makes a request a
          repeat.
        - The outcome of a repeat is KEPT while the job waits, and ALREADY_PROMOTED after it was promoted.
        - Without `unique`, a second job with the same id is another job: both wait, and both are promoted. If the
          envelope and the name of a request equal those of a waiting job, a store can treat it as that job with a new
          due time.
        - `index`: `cancel` finds the job at once. A store can index a unique job in any case.
        - Dedup markers that have expired do not stay: the store deletes them, or later calls for the queue do, such as
          `schedule` of a unique job or `promote`.

        Source: ChasquiMQ's SCHEDULE_DELAYED_IDEMPOTENT_SCRIPT.
        """
        ...

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        """Remove jobs from the sorted set by id, each atomically, also against `promote`.

        REMOVED: the job was waiting, for however long. It will never be promoted, and its id is free again: its index
        and its dedup marker are gone. Of several jobs with this id, one is removed: a unique one first, and otherwise
        the last scheduled, if the store can tell.
        ALREADY_PROMOTED: the job is not waiting, and its promotion still keeps its id taken.
        NOT_FOUND: the job is not waiting, and nothing changed. A job without an index is searched for among at least
        the 10,000 jobs that are due first; a job beyond them is NOT_FOUND too.

        With many ids, some jobs may have been removed when TransientError is raised. Source: ChasquiMQ's
        CANCEL_DELAYED_SCRIPT.
        """
        ...

    async def stats(self, queue: str) -> QueueStats:
        """Return a consistent snapshot of the queue, by the store's clock. Changes nothing.

        `stream_added` counts every entry that was ever added to the stream of jobs; None if the store cannot tell.
        """
        ...

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        """Return at most `limit` entries of a stream with ids after `after` ("" for the start), oldest first.

        For inspection and tests: it is not a consumer and acknowledges nothing. Entry ids are opaque text, unique in
        their stream, never reused, and valid for `after`. Raises PermanentError when `after` is not an id of this
        store.
        """
        ...


def check_backend(backend: object) -> Backend:
    """Return `backend` if it has the methods of one. Raises ConfigError, usually for a forgotten `async with`."""
    if all(callable(getattr(backend, name, None)) for name in ("promote", "schedule")):
        return cast("Backend", backend)
    if isinstance(backend, str):
        was = "the text of a URL"
    elif isinstance(backend, AbstractAsyncContextManager):
        was = "what connect() returns before it is entered"
    else:
        was = type(backend).__name__
    raise ConfigError(
        f"expected an open backend, not {was}: write `async with connect(url) as backend:` and pass `backend`"
    )
