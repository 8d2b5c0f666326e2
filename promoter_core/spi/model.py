"""The frozen values that cross a contract. They hold data and no behaviour.

Times are integers of Unix milliseconds on the *store's* clock (`_ms`). Intervals are milliseconds (`_ms`) or seconds
(`_s`). Ids and names are text. Bytes that are not UTF-8 become surrogate escapes and are returned byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, StrEnum

MAX_DUE_MS = 253_402_300_799_999  # the end of the year 9999, UTC: the last due time of a job
KEEP_ID_MS = 3_600_000  # default for how long an id stays taken after a promotion


class LockOutcome(StrEnum):
    """A transition of the leader lock."""

    ACQUIRED = "acquired"
    HELD = "held"  # by another holder
    RELEASED = "released"  # by this promoter, at the end


class Overflow(StrEnum):
    """The handling of due jobs when the stream has reached `max_stream_len`."""

    HOLD = "hold"  # keep them in the sorted set until there is room; never drop an unread entry
    TRIM = "trim"  # add them and drop the oldest entries, read or not


class JobOutcome(StrEnum):
    """The outcome of a request, for one job."""

    CREATED = "created"  # the job is scheduled
    KEPT = "kept"  # a job with this id is waiting and was left unchanged
    REPLACED = "replaced"  # another job has taken its place
    MOVED = "moved"  # the job has a new due time
    PROMOTED = "promoted"  # the job is now in the stream
    REMOVED = "removed"  # the job will never be promoted, and its id is free again
    ALREADY_PROMOTED = "already-promoted"  # the job is or was in the stream; its id is still taken
    NOT_FOUND = "not-found"  # never scheduled, or promoted too long ago to be known


class StreamName(StrEnum):
    """The append-only streams of a queue."""

    JOBS = "stream"  # promoted jobs: fields `d` (envelope) and, unless empty, `n` (name), `traceparent`, `tracestate`
    EVENTS = "events"  # fields `e`, `id`, `ts`, `n`, `traceparent`, `tracestate`
    DLQ = "dlq"  # malformed members: fields `source_id`, `reason`, `detail`, `d`


class Wake(StrEnum):
    """How a backend's `wait` notices changes."""

    ANY_WRITE = "any-write"  # changes by any writer, in any language; by a fast poll of the backend's own, too
    ANNOUNCED = "announced"  # changes by writers that announce them, such as this library
    POLL = "poll"  # none for sure, not even the backend's own: the promoter polls


class ChangeKind(Enum):
    """A kind of change: to a part of a queue, or to the members of a group."""

    JOBS = "jobs"  # the sorted set: a new head, or a job removed
    LOCK = "lock"  # the lock was released
    MEMBERS = "members"  # the members of a group, given instead of the queue


class Phase(StrEnum):
    """The two phases after promotion that a backend can fuse into `promote`."""

    CLEANUP = "cleanup"
    EMIT = "emit"


class Ties(StrEnum):
    """The order of jobs that are due in the same millisecond."""

    INSERTION = "insertion"
    MEMBER = "member"  # byte order of the stored member, as in a Redis sorted set


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The abilities of a backend, as data. `wake` can change while the backend is open; the others cannot."""

    wake: Wake
    _: KW_ONLY
    fused: frozenset[Phase] = frozenset()
    ties: Ties = Ties.INSERTION
    durable: bool = False  # jobs outlive the process that scheduled them
    shared: bool = False  # several processes can work on one queue
    traces: bool = False  # keeps the producers' trace contexts and passes them on at promotion


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to promote one queue until the lock expires. Fenced: a stale lease promotes nothing."""

    queue: str
    holder: str
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """Another holder has the lock. `remaining_ms` is the rest of its lease; None when the lock does not expire."""

    remaining_ms: int | None
    holder: str | None = None  # the other holder; None when unknown
    oldest_pending_lag_ms: int = 0  # how late the oldest pending job is; 0 when none is due


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The lease is no longer ours. Nothing was promoted."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A restarted lease, and the state of its queue's sorted set at that moment."""

    now_ms: int  # the store's clock
    due: bool  # a job is due now
    next_due_ms: int | None  # of the oldest pending job; None without one


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRequest:
    """The argument of `Backend.promote` for one tick."""

    limit: int  # maximum number of jobs
    max_stream_len: int  # maximum number of entries in the stream
    overflow: Overflow = Overflow.HOLD
    events: bool = True  # a backend that fuses EMIT writes `waiting` events
    events_max_stream_len: int = 100_000
    renew: bool = True  # restart the lease, for its full `ttl_ms`
    want_jobs: bool = True  # fill `Promotion.jobs`
    want_traces: bool = False  # fill `Promotion.traces` and `trace_ids`
    want_work: bool = False  # fill `Promotion.work_ms`


@dataclass(frozen=True, slots=True)
class PromotedJob:
    """A job moved from the sorted set to the stream. Its lateness is `promoted_ms - due_ms`."""

    id: str | None  # None when the envelope could not be decoded
    name: str
    _: KW_ONLY
    due_ms: int
    promoted_ms: int
    stream_id: str
    traceparent: str = ""  # the producer's trace context (W3C); "" without one
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """The result of one tick. `promoted`, `depth` and `oldest_pending_lag_ms` are those of ChasquiMQ's promoter."""

    promoted: int = 0
    _: KW_ONLY
    depth: int = 0  # jobs still in the sorted set
    oldest_pending_lag_ms: int = 0  # how late the oldest pending job is; 0 when none is due
    next_due_ms: int | None = None  # of the oldest pending job; None without one (parked jobs do not count)
    now_ms: int = 0  # the store's clock at the promotion
    malformed: int = 0  # malformed members moved to the DLQ
    held_back: int = 0  # due jobs that stayed because the stream is full
    jobs: Sequence[PromotedJob] = ()
    lateness_counts: tuple[int, ...] = ()  # promoted jobs later than each of LATENESS_MS, without trailing zeros
    traces: tuple[str, ...] = ()  # the `traceparent` of each promoted job that has one
    trace_ids: tuple[str | None, ...] = ()  # the ids of those jobs, in the same order
    work_ms: float | None = None  # how long the store worked, by its own clock; None: not requested, or unknown


@dataclass(frozen=True, slots=True)
class Tick:
    """A successful tick, as metrics sinks receive it."""

    promotion: Promotion
    duration_s: float  # duration of the `promote` call, by the local monotonic clock


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to schedule. Give exactly one of `delay_ms` (from the store's clock) and `due_ms` (absolute)."""

    id: str
    envelope: bytes  # what consumers receive as `d`; see `pack_envelope`
    _: KW_ONLY
    name: str = ""
    delay_ms: int | None = None
    due_ms: int | None = None
    unique: bool = False  # a repeated request with this id is a no-op
    index: bool = True  # `cancel` finds it at once
    traceparent: str = ""  # the producer's trace context (W3C)
    tracestate: str = ""  # vendor-specific part of the trace context; needs a `traceparent`
    keep_id_ms: int = KEEP_ID_MS  # how long the id of a unique job stays taken after its promotion


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The answer to a `JobRequest`: CREATED; KEPT or ALREADY_PROMOTED when the id was taken and nothing was done.

    `DelayedQueue.schedule` also answers REPLACED or MOVED if its caller lets a repeat change the waiting job.
    """

    id: str
    outcome: JobOutcome = JobOutcome.CREATED

    @property
    def created(self) -> bool:
        """Whether this request created a job. False: a job with this id is waiting or was recently promoted."""
        return self.outcome is JobOutcome.CREATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """A consumer group of the stream, and the entries that it holds there."""

    name: str
    pending: int  # delivered but not acknowledged
    undelivered: int | None  # not delivered yet; None when unknown
    oldest_pending_id: str | None
    oldest_pending_consumer: str | None
    oldest_pending_ms: int | None = None  # when that entry was added, by the store's clock; None when unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """A consistent snapshot of one queue."""

    now_ms: int
    depth: int  # jobs in the sorted set
    due: int  # jobs of `depth` that are due
    oldest_pending_lag_ms: int
    next_due_ms: int | None
    stream_len: int
    events_len: int
    dlq_len: int
    holder: str | None  # the holder of the lock
    lease_remaining_ms: int | None  # None when nobody holds the lock, or it does not expire
    groups: tuple[ConsumerGroup, ...] = ()  # if the store has consumer groups
    parked: int = 0  # jobs of `depth` that are due after the year 9999, and so never
    stream_added: int | None = None  # entries ever added to the stream, including trimmed ones; None: unknown


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of a queue's stream: its id, and its fields with values as bytes."""

    id: str
    fields: Mapping[str, bytes] = field(default_factory=dict)
