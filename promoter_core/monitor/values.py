"""The values that reading queues returns: data, and figures derived from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from promoter_core.spi import BackendError, QueueStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """Jobs that become due in the time ahead.

    Each number includes the previous one; jobs that are due now are excluded.
    """

    minute: int
    hour: int
    day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSnapshot:
    """One queue, at the time it was read."""

    name: str
    pattern: str  # the pattern that found the queue; its name if it was given by name
    stats: QueueStats | None = None  # from the last successful read; None before the first
    coming: Coming | None = None  # None if the backend has no ManagementSupport
    read_s: float | None = None  # when `stats` was read, on the reader's monotonic clock
    error: BackendError | None = None  # the error of the last read; None if it succeeded
    leader_changes: int = 0  # samples that found another holder than the one before
    added_per_s: float | None = None  # entries added to the stream since the previous read; None if unknown

    @property
    def overdue_s(self) -> float:
        """How long the oldest waiting job has been due, in seconds; 0 when none is due."""
        return 0.0 if self.stats is None else self.stats.oldest_pending_lag_ms / 1000

    @property
    def led(self) -> bool:
        """Whether a promoter holds the lock."""
        return self.stats is not None and self.stats.holder is not None

    @property
    def unled_jobs(self) -> int:
        """The number of waiting jobs without a leader to promote them, except parked ones; 0 with a leader."""
        return 0 if self.stats is None or self.led else self.stats.depth - self.stats.parked

    @property
    def lease_s(self) -> float | None:
        """The rest of the leader's lease in seconds; None without a leader, or when the lock does not expire."""
        left_ms = None if self.stats is None else self.stats.lease_remaining_ms
        return None if left_ms is None else left_ms / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of many queues, read once."""

    queues: Sequence[QueueSnapshot]  # by name
    more: bool = False  # more queues match than `max_queues`


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerState:
    """The current samples of a `Sampler`."""

    queues: Sequence[QueueSnapshot] = ()  # shown individually, at most `max_queues`, in a stable order
    rest: Mapping[str, Sequence[QueueSnapshot]] = field(default_factory=dict)  # all others, by pattern
    now_s: float = 0.0  # on the sampler's monotonic clock, like `QueueSnapshot.read_s`
    reached: bool = False  # the store answered the last read
    error: BackendError | None = None  # the error of the last read, if the store did not answer
    last_read_s: float | None = None  # when any queue was last read successfully; None before the first
    pass_s: float | None = None  # duration of the last pass over all queues; None before the first ends
    discovery_s: float | None = None  # of the last search for queues; None before the first ends, or without a search
    reads: int = 0  # total since the start
    failed_reads: int = 0
    failed_discoveries: int = 0
