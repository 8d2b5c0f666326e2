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
    """A waiting job, as it was when it was looked at. Given back to its queue, it means this very job."""

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
        """None when it cannot be read."""
        return self.stored.id

    @property
    def name(self) -> str:
        """The name that tells consumers what to run; "" when it has none."""
        return self.stored.name

    @property
    def due(self) -> datetime | None:
        """When it is due, in UTC; None when it is parked."""
        return None if self.stored.due_ms is None else as_datetime(self.stored.due_ms)

    @property
    def parked(self) -> bool:
        """Whether it is due after the year 9999, and so never: another program's doing. It can be rescheduled."""
        return self.stored.due_ms is None

    @property
    def malformed(self) -> bool:
        """Whether it is no job: its promotion moves it to the dead-letter stream."""
        return self.stored.malformed

    @property
    def created(self) -> datetime | None:
        """When its producer made it, in UTC and by the producer's clock; None when that cannot be read."""
        envelope = self.envelope
        return None if envelope is None else _datetime_or_none(envelope.created_at_ms)

    @property
    def attempt(self) -> int:
        """How many times it has run."""
        return 0 if self.envelope is None else self.envelope.attempt

    @property
    def unique(self) -> bool | None:
        """Whether its id is taken while it waits; None when details were not asked for."""
        return self.stored.unique

    @property
    def keep_id_for(self) -> timedelta | None:
        """Of a unique job: how long its id stays taken after its promotion; None when details were not asked for."""
        keep_ms = self.stored.keep_id_ms
        return None if keep_ms is None else timedelta(milliseconds=keep_ms)

    @property
    def traceparent(self) -> str:
        """Its producer's trace context; "" when there is none, or details were not asked for."""
        return self.stored.traceparent

    @property
    def tracestate(self) -> str:
        """Vendors' additions to `traceparent`."""
        return self.stored.tracestate

    @property
    def envelope(self) -> Envelope | None:
        """The payload that consumers get; None when it cannot be read."""
        if not self._unpacked:  # a look at many jobs needs few of them
            self._unpacked = True
            with suppress(ValueError):
                self._envelope = unpack_envelope(self.stored.envelope)
        return self._envelope

    def data(self, type: Any = None) -> Any:
        """The data that it was scheduled with; an object of `type` where the queue's serializer is typed.

        Raises JobError, a ValueError, when that cannot be read.
        """
        if (envelope := self.envelope) is None:
            raise JobError(f"{self!r} has no envelope that can be read")
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


JobRef = str | Scheduled | DelayedJob  # a job: its id, what `schedule` answered, or as it was seen


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the jobs that wait, in the order in which they will be promoted."""

    jobs: Sequence[DelayedJob]
    cursor: str  # gives the next page as `after=`; "" when this is the last one
    now: datetime  # by the store's clock, in UTC


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The outcome of many changes."""

    matched: int = 0  # jobs that were meant
    outcomes: Mapping[JobOutcome, int] = field(default_factory=dict)  # how many times each; nothing in a dry run


Progress = Callable[[BulkResult], object]  # gets the result so far after each step


class BulkInterrupted(TransientError):
    """A step of many changes failed; `result` is what the steps before it did.

    Of the step that failed, some changes may have been carried out. `position` is an opaque value: given as `resume=`
    to the method that raised this, with the same arguments and in the same process, it goes on with that step, and
    moves no job twice.
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
    """Unix milliseconds as UTC, exactly."""
    return EPOCH + timedelta(milliseconds=ms)


def _datetime_or_none(ms: int) -> datetime | None:
    try:
        return as_datetime(ms)
    except OverflowError:  # another producer's
        return None
