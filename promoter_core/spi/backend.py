"""`Backend`: what every store of delayed jobs offers."""

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

    A phase that is missing from `capabilities.fused` is a separate method: `SeparateCleanup`, `SeparateEmit`.

    One backend serves any number of queues and of concurrent callers in one event loop. Queues never see one
    another. It raises only `TransientError` and `PermanentError`, never its driver's own exceptions, and it never
    blocks the event loop. A method that raises `TransientError`, or is cancelled, may have taken effect or not (a reply
    can be lost), but never half. What is atomic is so among all processes that use the store.

    Queue names, ids, names and holders are compared and given back exactly: no case folding, no Unicode normalisation,
    no padding, nothing cut. Ids, names and holders may hold any character, NUL and surrogate escapes (bytes that are no
    UTF-8) among them. Ids and holders have up to 512 bytes, names up to 256; queue names are those that
    `check_queue_name` allows. Times, delays, leases, limits and lengths are whole numbers up to 2**53.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of this backend. Only `wake` may change, and only while the backend is open."""
        ...

    async def open(self) -> None:
        """Reach the store. After it has returned, every method works. Opening twice is harmless.

        Raises TransientError when the store cannot be reached, PermanentError when it refuses us.
        """
        ...

    async def close(self) -> None:
        """Give up all connections and tasks. A `wait` under way returns or raises TransientError.

        Afterwards every method but `open` and `close` raises TransientError. Its code is `CLOSED`. Idempotent. Other
        backends on the store work on.
        """
        ...

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        """Take or renew the queue's lock for `ttl_ms` milliseconds of the store's clock, atomically.

        Grants a `Lease` when the lock is free, has expired, or is `holder`'s already (then its lease starts anew).
        Otherwise `LeaseHeld` with what is left of the other's lease, whose it is, and how late the oldest pending job
        is. At most one holder at any time.

        A lease is the holder's in every millisecond before its end, and no holder's a millisecond after it, for all
        methods alike. A lease that starts anew ends `ttl_ms` from now, be that later or earlier than before. One that
        has ended is shown nowhere, and only `lock` gives it again.
        Source: ChasquiMQ's ACQUIRE_LOCK_SCRIPT.
        """
        ...

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        """Move due jobs from the sorted set to the stream, in one atomic step that is fenced by `lease`.

        - Fenced: unless the lock is `lease.holder`'s and has not expired, nothing changes and the answer is
          `LeaseLost`. With `request.renew` the lease starts anew.
        - Due: a job whose due time is at or before the store's clock. At most `request.limit` jobs.
          Fewer when they are so large that moving them would hold up the store: `oldest_pending_lag_ms` shows
          the rest.
        - Order: by due time; among equals, by `capabilities.ties`. INSERTION is the order in which jobs were scheduled,
          those of one call in the order of the call. So it is within a batch of any size, from one batch to the next,
          in the stream, in `jobs`, in `traces` and in the events.
        - Nothing is lost: a job is in the stream before it has left the set. If adding fails midway, just the jobs
          that were added leave the set.
        - The stream entry holds the envelope (`d`) and the name (`n`, absent when empty).
        - Where `capabilities.traces`, the entry, the event and the `PromotedJob` of a job that was scheduled with a
          trace context have it as `traceparent` and `tracestate`; in entry and event they are absent when empty.
        - `overflow="hold"`: the stream does not grow beyond `max_stream_len`; due jobs that find no room stay in the
          set. When there was less room than `limit`, `held_back` counts all due jobs that stay; otherwise it is 0.
          `"trim"`: the oldest entries go, approximately, to keep the length.
        - A member that cannot be decoded never stops the batch: without a readable id it is promoted all the same,
          with `PromotedJob.id` None; when it is malformed as a whole it goes to the DLQ, counted in `malformed`.
        - `depth`, `oldest_pending_lag_ms` and `next_due_ms` describe the set *after* the move, `now_ms` is the
          store's clock. A job that another client has put beyond the year 9999 is no next due job.
        - `jobs` is empty unless `request.want_jobs`, and in promotion order otherwise.
        - `lateness_counts` counts the promoted jobs that were later than each bound of `promoter_core.spi.LATENESS_MS`.
        - With `request.want_work`, `work_ms` is the time that the store worked on this call, by its own clock, without
          the round trip: the promoter sizes its batches by it. None where the store cannot tell: then
          `max_tick_ms` does not apply.
        - Where `capabilities.traces`: with `request.want_traces`, `traces` has the trace contexts that the promoted
          jobs were scheduled with, in promotion order, and `trace_ids` the ids of these jobs; jobs without one are
          left out. A job never has that of an earlier job with its id. Of jobs with one id that wait at the same time,
          a store may keep the last one's only.
        - Phases named in `capabilities.fused` have been done too: CLEANUP as `SeparateCleanup.cleanup` does it, EMIT as
          `SeparateEmit.emit` does, when `request.events`. Neither may fail or undo the promotion.

        Source: ChasquiMQ's PROMOTE_SCRIPT.
        """
        ...

    async def unlock(self, lease: Lease) -> bool:
        """Release the lock if it is `lease.holder`'s, by compare-and-delete. Never another holder's.

        True when it was released. A follower that waits on this queue is woken. Source: RELEASE_LOCK_SCRIPT.
        """
        ...

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for a change of this kind, JOBS (the sorted set) or LOCK.

        True when something changed, or may have; False when the time is up. A change after the caller's last
        `promote` (for JOBS) or `lock` (for LOCK) began is never missed: it ends the wait at once. It ends every wait
        for it, of all that are under way and of those to come before the next such call; one change hides no other.
        Waking for nothing is allowed now and then: while nothing changes, waits last their time sooner or later. For
        JOBS, a job that comes before all others is a change, whichever of a call's
        jobs it is; any other write may be one. For LOCK it is the release of the lock, not its end by time. How changes
        are noticed is `capabilities.wake`. Cancelling the wait is safe.
        """
        ...

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        """Put jobs into the sorted set; each is atomic for itself, the answers are in the order asked.

        - A `delay_ms` counts from the store's clock.
        - A job that is due at once, or was, is due now: it goes into the set like any other, and the next `promote`
          moves it by the same rules (bound, order, events, trace context, lateness). A due time in the past counts as
          now.
        - A due time after the year 9999 is taken as the end of it.
        - `unique`: while a unique job with this id waits, however long that is, a repeat changes nothing and answers
          `created=False`. So it does for `keep_id_ms` from the due time, and from a promotion that is late; a minute
          less is allowed, and with 0 the id is free as soon as the job is promoted. `keep_id_ms` is that of the request
          that made the job. A request that comes twice in one call counts as a repeat as well. The id is free again a
          minute after that time at the latest. Whether a job with this id that is not unique makes a request a repeat
          is left open.
        - The outcome of a repeat is KEPT while the job waits, and ALREADY_PROMOTED after it was promoted.
        - Without `unique`, a second job with the same id is another job: both wait, and both are promoted. A store may
          take a request whose envelope and name equal those of a waiting job for that job, with a new due time.
        - `index`: `cancel` finds the job at once. A store may index a unique job in any case.

        Source: ChasquiMQ's SCHEDULE_DELAYED_IDEMPOTENT_SCRIPT.
        """
        ...

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        """Take jobs out of the sorted set by id; each is atomic for itself and against `promote`.

        REMOVED: it was there, however long it had waited, will never be promoted, and its id is free again: its index
        and its dedup marker are gone. Of several
        jobs with this id one is removed: a unique one before all others, and of those the one that was scheduled last,
        where the store can tell.
        ALREADY_PROMOTED: it is not there, and its id is taken since its promotion.
        NOT_FOUND: it is not there, and nothing changed. A job without an index is looked for in the set itself, among
        10,000 jobs at least, the earliest first; of one beyond them it is NOT_FOUND too. Of many ids, some may have
        been removed when TransientError is raised. Source: ChasquiMQ's CANCEL_DELAYED_SCRIPT.
        """
        ...

    async def stats(self, queue: str) -> QueueStats:
        """A consistent look at the queue, by the store's clock. Changes nothing."""
        ...

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        """At most `limit` entries of a stream with ids after `after` ("" for the start), oldest first.

        For inspection and tests; it is no consumer and acknowledges nothing. Ids of entries are opaque text: unique in
        their stream, never used again, and good for `after`. PermanentError when `after` is no id of this store.
        """
        ...


def check_backend(backend: object) -> Backend:
    """Return `backend` if it can be one. Raises ConfigError, mostly for a forgotten `async with`."""
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
