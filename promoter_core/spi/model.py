"""The frozen values that cross a contract. They hold data and no behaviour.

Times are integers of Unix milliseconds on the *store's* clock (`_ms`); intervals are milliseconds (`_ms`) or
seconds (`_s`). Ids and names are text; bytes that are not UTF-8 travel as surrogate escapes and come back
byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, StrEnum

MAX_DUE_MS = 253_402_300_799_999  # the end of the year 9999, UTC: the last due time of a job
KEEP_ID_MS = 3_600_000  # how long an id stays taken after a promotion, unless the request says otherwise


class LockOutcome(StrEnum):
    """A transition of the leader lock."""

    ACQUIRED = "acquired"
    HELD = "held"
    RELEASED = "released"  # by us, at the end


class Overflow(StrEnum):
    """How due jobs are treated when the stream has reached `max_stream_len`."""

    HOLD = "hold"  # keep them in the sorted set until there is room: nothing unread is ever dropped
    TRIM = "trim"  # add them and drop the oldest entries of the stream, read or not


class JobOutcome(StrEnum):
    """The outcome of a job, or of a request for one."""

    CREATED = "created"  # it is scheduled
    KEPT = "kept"  # a job with this id waits, and stays as it is
    REPLACED = "replaced"  # another job is in its place
    MOVED = "moved"  # it has another due time
    PROMOTED = "promoted"  # it is in the stream now
    REMOVED = "removed"  # it will never be promoted, and its id is free again
    ALREADY_PROMOTED = "already-promoted"  # it is in the stream, or was; its id is still taken
    NOT_FOUND = "not-found"  # never scheduled, or promoted longer ago than anything tells


class StreamName(StrEnum):
    """The append-only streams of a queue."""

    JOBS = (
        "stream"  # promoted jobs: fields `d` (envelope), and where there is one `n` (name), `traceparent`, `tracestate`
    )
    EVENTS = "events"  # fields `e`, `id`, `ts`, `n`, `traceparent`, `tracestate`
    DLQ = "dlq"  # malformed members: fields `source_id`, `reason`, `detail`, `d`


class Wake(StrEnum):
    """How a backend's `wait` learns that something changed."""

    ANY_WRITE = "any-write"  # from every writer, in any language
    ANNOUNCED = "announced"  # from writers that announce, as this library does
    POLL = "poll"  # not at all, beyond its own process: the promoter polls


class ChangeKind(Enum):
    """Which part of a queue has changed, or that the members of a group have."""

    JOBS = "jobs"  # the sorted set: a new head, or a job taken out
    LOCK = "lock"  # it was released
    MEMBERS = "members"  # of a group, which stands in the place of the queue


class Phase(StrEnum):
    """The two phases after promotion that a backend may fuse into `promote`."""

    CLEANUP = "cleanup"
    EMIT = "emit"


class Ties(StrEnum):
    """The order of jobs that are due in the same millisecond."""

    INSERTION = "insertion"
    MEMBER = "member"  # byte order of the stored member, as a Redis sorted set has it


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The abilities of a backend, as data. `wake` may change while it runs; the rest may not."""

    wake: Wake
    _: KW_ONLY
    fused: frozenset[Phase] = frozenset()
    ties: Ties = Ties.INSERTION
    durable: bool = False  # jobs outlive the process that scheduled them
    shared: bool = False  # several processes can work on one queue
    traces: bool = False  # keeps the producers' trace contexts, and hands them on at the promotion


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to promote one queue until the lock expires. Fenced: a stale lease promotes nothing."""

    queue: str
    holder: str
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """The lock is another's. `remaining_ms` is what is left of its lease; None when it never ends by itself."""

    remaining_ms: int | None
    holder: str | None = None  # whose it is; None when the backend does not say
    oldest_pending_lag_ms: int = 0  # how late the oldest job still pending is; 0 when none is due


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The lock is not ours any more. Nothing was promoted."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that was started anew, and what its queue's sorted set showed at that moment."""

    now_ms: int  # the store's clock
    due: bool  # something is due now
    next_due_ms: int | None  # of the oldest job pending; None when there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRequest:
    """The argument of `Backend.promote` for one tick."""

    limit: int  # jobs at most
    max_stream_len: int  # entries in the stream
    overflow: Overflow = Overflow.HOLD
    events: bool = True  # a backend that fuses EMIT writes `waiting` events
    events_max_stream_len: int = 100_000
    renew: bool = True  # extend the lease to its full `ttl_ms`
    want_jobs: bool = True  # fill `Promotion.jobs`
    want_traces: bool = False  # fill `Promotion.traces` and `trace_ids`
    want_work: bool = False  # fill `Promotion.work_ms`


@dataclass(frozen=True, slots=True)
class PromotedJob:
    """One job that went from the sorted set to the stream. Lateness is `promoted_ms - due_ms`."""

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
    oldest_pending_lag_ms: int = 0  # how late the oldest job still pending is; 0 when none is due
    next_due_ms: int | None = None  # of the oldest job still pending; None when there is none (QueueStats.parked)
    now_ms: int = 0  # the store's clock when it promoted
    malformed: int = 0  # malformed members moved to the DLQ
    held_back: int = 0  # due jobs that stayed because the stream is full
    jobs: Sequence[PromotedJob] = ()
    lateness_counts: tuple[int, ...] = ()  # promoted jobs later than each of LATENESS_MS; trailing zeros left out
    traces: tuple[str, ...] = ()  # the `traceparent` of those whose producers gave one
    trace_ids: tuple[str | None, ...] = ()  # the ids of those jobs, in the same order
    work_ms: float | None = None  # how long the store worked, by its own clock; None: not asked, or it cannot tell


@dataclass(frozen=True, slots=True)
class Tick:
    """A good tick, as metrics sinks see it."""

    promotion: Promotion
    duration_s: float  # of the `promote` call, by the local monotonic clock


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to schedule. Exactly one of `delay_ms` (from the store's clock) and `due_ms` (absolute) is given."""

    id: str
    envelope: bytes  # what consumers get as `d`: `wire.pack_envelope`
    _: KW_ONLY
    name: str = ""
    delay_ms: int | None = None
    due_ms: int | None = None
    unique: bool = False  # a second request with this id is a no-op
    index: bool = True  # `cancel` finds it at once
    traceparent: str = ""  # the producer's trace context (W3C)
    tracestate: str = ""  # what vendors add to it; nothing without a `traceparent`
    keep_id_ms: int = KEEP_ID_MS  # of a unique job: how long its id stays taken after its promotion


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The answer to a `JobRequest`: CREATED; KEPT or ALREADY_PROMOTED when the id was taken and nothing was done.

    `DelayedQueue.schedule` also answers REPLACED or MOVED, where its caller lets a repeat change the waiting job.
    """

    id: str
    outcome: JobOutcome = JobOutcome.CREATED

    @property
    def created(self) -> bool:
        """Whether this request is a new job. False: a job with this id waits, or was promoted lately."""
        return self.outcome is JobOutcome.CREATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """A group of consumers of the stream, and what it keeps there."""

    name: str
    pending: int  # delivered and not acknowledged
    undelivered: int | None  # not delivered yet; None when the server cannot tell
    oldest_pending_id: str | None
    oldest_pending_consumer: str | None
    oldest_pending_ms: int | None = None  # when that entry was added, by the store's clock; None when nothing tells


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """A consistent look at one queue."""

    now_ms: int
    depth: int  # jobs in the sorted set
    due: int  # those of them that are due
    oldest_pending_lag_ms: int
    next_due_ms: int | None
    stream_len: int
    events_len: int
    dlq_len: int
    holder: str | None  # who holds the lock
    lease_remaining_ms: int | None  # None when nobody holds it, or it never ends by itself
    groups: tuple[ConsumerGroup, ...] = ()  # where the store has consumer groups
    parked: int = 0  # jobs of `depth` that are due after the year 9999, and so never
    stream_added: int | None = None  # entries that the stream ever had, with those that were trimmed; None: unknown


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of a queue's stream: its id and its fields, values as bytes."""

    id: str
    fields: Mapping[str, bytes] = field(default_factory=dict)
