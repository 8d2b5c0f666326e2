"""The vocabulary of the state machine and its runner: actions, their outcomes, and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from promoter_core.spi.errors import BackendError, PermanentError
from promoter_core.spi.model import (
    ChangeKind,
    Lease,
    LeaseHeld,
    LeaseLost,
    LockOutcome,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Tick,
)


class Reason(StrEnum):
    """Why the machine waits."""

    NEXT_DUE = "next-due"  # leader: the next job becomes due
    RENEW = "renew"  # leader: the lease must be renewed before the next job is due
    POLL = "poll"  # leader or follower: the backend cannot report changes
    FULL = "full"  # leader: the stream is full, and due jobs are held back
    HELD = "held"  # follower: until the other holder's lease can end
    BACKOFF = "backoff"  # after a transient error
    DEBOUNCE = "debounce"  # after a wake that found nothing due: collect more wakes


# Requests to the runner, which passes each outcome to `handle`.


@dataclass(frozen=True, slots=True)
class Lock:
    """Call `Backend.lock`. Outcome: Lease or LeaseHeld."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Call `Backend.promote`. Outcome: Promotion or LeaseLost."""

    lease: Lease
    request: PromotionRequest


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Call `SeparateCleanup.cleanup`. Outcome: Done."""

    jobs: Sequence[PromotedJob]


@dataclass(frozen=True, slots=True)
class Emit:
    """Call `SeparateEmit.emit`. Outcome: Done."""

    jobs: Sequence[PromotedJob]


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep. A shutdown ends it at once, and so does a `change` if it is `interruptible`. Outcome: Waited."""

    seconds: float
    reason: Reason
    change: ChangeKind  # JOBS for a leader, LOCK for a follower

    @property
    def interruptible(self) -> bool:
        """Whether a change ends the wait."""
        return self.reason not in (Reason.BACKOFF, Reason.DEBOUNCE)


@dataclass(frozen=True, slots=True)
class CheckIdle:
    """Call `Backend.stats` (a follower that runs until idle). Outcome: QueueStats."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Call `Backend.unlock`. Outcome: Done, LeaseLost when we no longer held the lock, or Failed. Stop follows."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run. `error` is None after a shutdown. It has no outcome."""

    error: PermanentError | None


Action = Lock | Promote | Cleanup | Emit | Wait | CheckIdle | Unlock | Stop


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of Cleanup, Emit or Unlock."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The outcome of a Wait. `changed`: a change ended it."""

    changed: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The action raised."""

    error: BackendError


@dataclass(frozen=True, slots=True)
class NotReleased:
    """The lock could not be released at the end. If it is ours, it expires in at most `left_s` seconds."""

    error: BackendError
    left_s: float


Outcome = Lease | LeaseHeld | Promotion | LeaseLost | QueueStats | Done | Waited | Failed
Report = LockOutcome | Tick | BackendError | NotReleased


@dataclass(frozen=True, slots=True)
class Decision:
    """The next action, and the reports to pass on before it."""

    action: Action
    reports: tuple[Report, ...] = ()
