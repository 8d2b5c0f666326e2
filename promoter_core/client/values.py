"""The answers of `DelayedQueue`: jobs, pages of them, results of many changes; and `QueueInfo`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from promoter_core.spi.errors import JobError, TransientError
from promoter_core.spi.model import JobOutcome, QueueStats, Scheduled
from promoter_core.spi.optional.management import StoredJob
from promoter_core.spi.serializers import Serializer
from promoter_core.spi.wire import Envelope, unpack_envelope

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DelayedJob:
    """A snapshot of a waiting job. Passed back to its queue, it identifies exactly this job."""

    __slots__ = ("_envelope", "_serializer", "_unpacked", "queue", "stored")

    def __init__(self, stored: StoredJob, queue: str, serializer: str | Serializer = "msgpack") -> None:
        """`stored` is a backend's answer about the queue of this name; `serializer` is the queue's."""
        self.stored = stored
        self.queue = queue
        self._serializer = serializer
        self._envelope: Envelope | None = None
        self._unpacked = stored.malformed

    @property
    def id(self) -> str | None:
        """The job's id; None when it cannot be read."""
        return self.stored.id

    @property
    def name(self) -> str:
        """The name that tells consumers what to run; "" without one."""
        return self.stored.name

    @property
    def due(self) -> datetime | None:
        """The due time, in UTC; None when parked."""
        return None if self.stored.due_ms is None else as_datetime(self.stored.due_ms)

    @property
    def parked(self) -> bool:
        """Whether another program made it due after the year 9999, and so never. It can be rescheduled."""
        return self.stored.due_ms is None

    @property
    def malformed(self) -> bool:
        """Whether the member is not a valid job: its promotion moves it to the dead-letter stream."""
        return self.stored.malformed

    @property
    def created(self) -> datetime | None:
        """When its producer created it, in UTC and by the producer's clock; None when unknown."""
        envelope = self.envelope
        return None if envelope is None else _datetime_or_none(envelope.created_at_ms)

    @property
    def attempt(self) -> int:
        """The number of earlier runs."""
        return 0 if self.envelope is None else self.envelope.attempt

    @property
    def unique(self) -> bool | None:
        """Whether its id is taken while it waits; None without details."""
        return self.stored.unique

    @property
    def keep_id_for(self) -> timedelta | None:
        """How long the id of a unique job stays taken after its promotion; None without details."""
        keep_ms = self.stored.keep_id_ms
        return None if keep_ms is None else timedelta(milliseconds=keep_ms)

    @property
    def traceparent(self) -> str:
        """The producer's trace context (W3C); "" when it has none, or without details."""
        return self.stored.traceparent

    @property
    def tracestate(self) -> str:
        """The vendor-specific part of the trace context."""
        return self.stored.tracestate

    @property
    def envelope(self) -> Envelope | None:
        """The envelope that consumers receive; None when it cannot be read."""
        if not self._unpacked:  # lazily: reading many jobs needs few of these
            self._unpacked = True
            with suppress(ValueError):
                self._envelope = unpack_envelope(self.stored.envelope)
        return self._envelope

    def data(self, type: Any = None) -> Any:
        """Return the job's data; an object of `type` if the queue's serializer is typed.

        Raises JobError (a ValueError) when the data cannot be read.
        """
        if (envelope := self.envelope) is None:
            raise JobError(f"{self!r} has no readable envelope")
        return envelope.data(self._serializer, type)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DelayedJob):
            return NotImplemented
        return self.stored == other.stored and self.queue == other.queue

    def __hash__(self) -> int:
        return hash((self.stored, self.queue))

    def __repr__(self) -> str:
        due = "parked" if self.due is None else f"due {self.due.isoformat(timespec='milliseconds')}"
        return f"<DelayedJob {self.id!r} of {self.queue!r}, {'malformed, ' if self.malformed else ''}{due}>"


JobRef = str | Scheduled | DelayedJob  # a job: its id, the result of `schedule`, or a job that was read


@dataclass(frozen=True, slots=True)
class Page:
    """A page of waiting jobs, in the order in which they will be promoted."""

    jobs: Sequence[DelayedJob]
    cursor: str  # pass it as `after=` for the next page; "" on the last page
    now: datetime  # the store's clock, in UTC


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The outcomes of many changes."""

    matched: int = 0  # number of matching jobs
    outcomes: Mapping[JobOutcome, int] = field(default_factory=dict)  # number of jobs by outcome; empty in a dry run


Progress = Callable[[BulkResult], object]  # gets the result so far after each step


class BulkInterrupted(TransientError):
    """A step of many changes failed; `result` has the outcomes of the earlier steps.

    Some changes of the failed step may have been made. `position` is an opaque value. Pass it as `resume=` to the
    method that raised this, with the same arguments and in the same process, to continue with that step. No job is
    moved twice.
    """

    def __init__(self, message: str, *, code: str, result: BulkResult, position: object) -> None:
        super().__init__(message, code=code)
        self.result = result
        self.position = position


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue that `list_queues` found."""

    name: str
    stats: QueueStats


def as_datetime(ms: int) -> datetime:
    """Convert Unix milliseconds to UTC, exactly."""
    return EPOCH + timedelta(milliseconds=ms)


def _datetime_or_none(ms: int) -> datetime | None:
    try:
        return as_datetime(ms)
    except OverflowError:  # from another producer
        return None
