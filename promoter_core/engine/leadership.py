"""`Leadership`: what a leader does with its lease: promote, cleanup, emit, rest, and again.

    Promote ──▶ owed Cleanup, Emit ──▶ Promote again while a backlog drains ──▶ Wait ──▶ Promote
                                   ╰─▶ after a wake that found nothing: Wait(DEBOUNCE) ──▶ Wait

It lives as long as the lease. It has no state field: its outstanding action is its state. The `Machine` passes outcomes
to it and issues its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from promoter_core.engine.actions import Action, Cleanup, Emit, Promote, Reason, Wait
from promoter_core.engine.batch_size import BatchSize
from promoter_core.engine.pacing import MIN_WAIT_S, Debounce, LeaseTimer, leader_rest
from promoter_core.settings import PromoterSettings
from promoter_core.spi.model import ChangeKind, Lease, Phase, PromotedJob, Promotion, PromotionRequest, Renewal


@dataclass(frozen=True, slots=True)
class Duties:
    """The settings of the leaderships of a queue. Equal ones share an object, see `duties`."""

    phases: tuple[Phase, ...]  # phases that `promote` does not fuse
    want_jobs: bool
    want_traces: bool
    until_idle: bool
    renew_used: float  # the fraction of a lease after which a tick renews it


@lru_cache(maxsize=64)
def duties(**terms: Any) -> Duties:
    """Return the `Duties` of these settings."""
    return Duties(**terms)


class End(Enum):
    """Why a leadership ends by itself."""

    LEASE = "lease"  # the local deadline of the lease has passed
    IDLE = "idle"  # nothing is due, which ends a run with `until_idle`


Step = Action | End


class Leadership:
    """One lease on one queue, from its grant to its loss.

    A fleet keeps thousands of resting leaderships, and each object adds to every full garbage collection. So it keeps
    numbers instead of a `Promotion`, and a tuple or None for what is usually empty.
    """

    __slots__ = (
        "_asked_s",
        "_batch",
        "_debounce",
        "_drains",
        "_due",
        "_duties",
        "_held_back",
        "_jobs",
        "_moved",
        "_next_due_ms",
        "_now_ms",
        "_owed",
        "_settings",
        "_tick",
        "_timer",
        "_wants",
        "_woken",
        "lease",
        "poll_s",
    )

    def __init__(
        self, lease: Lease, settings: PromoterSettings, duties: Duties, batch: BatchSize, *, asked_s: float
    ) -> None:
        """The lease was requested at `asked_s`. `batch` outlives the leadership: it describes the store."""
        self.lease = lease
        self.poll_s: float | None = None  # seconds between polls, if the backend cannot report every change
        self._settings = settings
        self._duties = duties
        self._batch = batch
        self._timer = LeaseTimer(lease.ttl_ms, used=duties.renew_used)
        self._timer.began(asked_s)
        self._debounce: Debounce | None = None  # set after the first wake that found nothing
        self._asked_s = asked_s  # when the last promotion or renewal was requested
        self._now_ms = 0  # the store's clock at that request, or later
        self._next_due_ms: int | None = None
        self._moved = self._held_back = 0
        self._due = False  # the last promotion left due jobs
        self._drains = False  # the next promotion can move them
        self._jobs: Sequence[PromotedJob] = ()  # jobs for the owed phases
        self._owed: tuple[Phase, ...] = ()
        self._tick: Promote | None = None  # the last promotion request
        self._wants = (0, False, False)
        self._woken = False  # the current tick was caused by a change

    @property
    def deadline_s(self) -> float:
        """When the lease expires, unless it is renewed."""
        return self._timer.deadline_s

    def promote(self, now_s: float) -> Step:
        """Return the next tick, or End.LEASE."""
        if self._timer.ended(now_s):
            return End.LEASE
        wants = (self._batch.limit, self._timer.wants_renewal(now_s), self._batch.asks)
        if self._tick is None or wants != self._wants:  # reuse the request if nothing has changed
            self._tick, self._wants = Promote(self.lease, _request(self._settings, self._duties, *wants)), wants
        return self._tick

    def promoted(self, request: PromotionRequest, promotion: Promotion, asked_s: float, now_s: float) -> Step:
        """Record a successful tick, requested at `asked_s`."""
        self._asked_s, self._now_ms, self._next_due_ms = asked_s, promotion.now_ms, promotion.next_due_ms
        self._moved = moved = promotion.promoted + promotion.malformed
        self._held_back, self._due = promotion.held_back, promotion.oldest_pending_lag_ms > 0
        if request.renew:
            self._timer.began(asked_s)
        cut_short = moved > 0 and self._due and not promotion.held_back  # the batch reached its maximum size in bytes
        self._drains = moved >= request.limit or cut_short
        self._batch.observe_tick(moved, promotion.work_ms)
        if self._duties.phases and promotion.jobs:
            self._jobs, self._owed = promotion.jobs, self._duties.phases
        else:
            self._jobs = self._owed = ()
        return self.next_phase(now_s)

    def next_phase(self, now_s: float) -> Step:
        """Return the next phase that the last promotion owes; then the next tick of a backlog, or rest."""
        if self._owed:
            phase, *rest = self._owed
            jobs, self._owed = self._jobs, tuple(rest)
            if not rest:
                self._jobs = ()
            return (Cleanup if phase is Phase.CLEANUP else Emit)(jobs)
        if self._drains:
            return self.promote(now_s)
        if self._duties.until_idle and not self._due:
            return End.IDLE
        if self._woken and not self._moved:
            self._woken = False
            self._debounce = self._debounce or Debounce()
            pause_s = min(self._debounce.next_s(), self._wait(now_s).seconds)
            return Wait(pause_s, Reason.DEBOUNCE, ChangeKind.JOBS)
        return self.rest(now_s)

    def waited(self, wait: Wait, changed: bool, began_s: float, now_s: float) -> Step:
        """Continue after a wait that began at `began_s`."""
        if wait.reason is Reason.DEBOUNCE:
            return self.rest(now_s)
        self._woken = changed
        if not (changed and now_s - began_s < MIN_WAIT_S):
            self._debounce = None
        return self.promote(now_s)

    def failed(self) -> None:
        """Record a failed tick. The next one does not count as caused by a wake."""
        self._woken = False

    def rest(self, now_s: float) -> Wait:
        """Wait for the next due time, the lease's renewal or a change."""
        self._woken = False
        return self._wait(now_s)

    def renewed(
        self, renewal: Renewal, asked_s: float, waiting: Wait | None, began_s: float, now_s: float
    ) -> Wait | None:
        """Record a renewal from outside, requested at `asked_s`. Return a shorter wait if `waiting` would end too late.

        A wait for the renewal continues without a timeout until a renewal shows a job that is due before the next one.

        The wait is recomputed from what the renewal saw, so a lost push or a drifting local clock costs at most one
        renewal.
        """
        self._timer.began(asked_s)
        if waiting is None or began_s > asked_s:
            return None  # a later step has newer information
        self._asked_s, self._now_ms, self._next_due_ms = asked_s, renewal.now_ms, renewal.next_due_ms
        before = waiting.reason
        if before is Reason.BACKOFF or before is Reason.DEBOUNCE:
            return None
        seconds, reason = self._rest(now_s)
        if before is Reason.RENEW:  # in a fleet, only the renewal ends such a wait
            return None if reason is Reason.RENEW else Wait(seconds, reason, ChangeKind.JOBS)
        sooner = now_s + seconds <= began_s + waiting.seconds - MIN_WAIT_S
        return Wait(seconds, reason, ChangeKind.JOBS) if sooner else None

    def wants_renewal(self, now_s: float) -> bool:
        """Return whether the next tick should renew the lease."""
        return self._timer.wants_renewal(now_s)

    def _wait(self, now_s: float) -> Wait:
        return Wait(*self._rest(now_s), ChangeKind.JOBS)

    def _rest(self, now_s: float) -> tuple[float, Reason]:
        due_ms = self._next_due_ms
        return leader_rest(
            self._settings,
            held_back=self._held_back > 0,
            next_due_s=None if due_ms is None else self._asked_s - now_s + (due_ms - self._now_ms) / 1000,
            renew_s=self._timer.renew_s - now_s,
            poll_s=self.poll_s,
        )


@lru_cache(maxsize=256)  # the queues of a fleet share requests
def _request(s: PromoterSettings, duties: Duties, limit: int, renew: bool, want_work: bool) -> PromotionRequest:
    return PromotionRequest(
        limit=limit,
        max_stream_len=s.max_stream_len,
        overflow=s.overflow,
        events=s.events,
        events_max_stream_len=s.events_max_stream_len,
        renew=renew,
        want_jobs=duties.want_jobs,
        want_traces=duties.want_traces,
        want_work=want_work,
    )
