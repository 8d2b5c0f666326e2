"""`Leadership`: what a leader does with its lease: promote, cleanup, emit, rest, and again.

    Promote ──▶ owed Cleanup, Emit ──▶ Promote again while a backlog drains ──▶ Wait ──▶ Promote
                                   ╰─▶ after a wake that found nothing: Wait(DEBOUNCE) ──▶ Wait

It lives as long as the lease and is dropped with it. It has no state field: the action that is outstanding is its
state. The `Machine` hands it outcomes and gives out its steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from promoter_core.engine.actions import Action, Cleanup, Emit, Promote, Reason, Wait
from promoter_core.engine.batch_size import BatchSize
from promoter_core.engine.pacing import MIN_WAIT_S, Debounce, LeaseTimer, leader_wait
from promoter_core.settings import PromoterSettings
from promoter_core.spi.model import ChangeKind, Lease, Phase, Promotion, PromotionRequest, Renewal


@dataclass(frozen=True, slots=True)
class Duties:
    """The settings of every leadership of a queue."""

    phases: tuple[Phase, ...]  # that `promote` does not fuse
    want_jobs: bool
    want_traces: bool
    until_idle: bool
    renew_used: float  # the part of a lease after which a tick renews it


class End(Enum):
    """Why a leadership ends by itself."""

    LEASE = "lease"  # its local deadline has passed
    IDLE = "idle"  # nothing is due, and that is what the run was for


Step = Action | End


class Leadership:
    """One lease on one queue, from its grant to its loss."""

    def __init__(
        self, lease: Lease, settings: PromoterSettings, duties: Duties, batch: BatchSize, *, asked_s: float
    ) -> None:
        """The lease was asked for at `asked_s`. `batch` outlives the leadership: it describes the store."""
        self.lease = lease
        self.poll_s: float | None = None  # between looks, where the backend cannot tell of every change
        self._settings = settings
        self._duties = duties
        self._batch = batch
        self._timer = LeaseTimer(lease.ttl_ms, used=duties.renew_used)
        self._timer.began(asked_s)
        self._debounce = Debounce()
        self._promotion = Promotion()
        self._asked_s = asked_s  # when that promotion was asked for: the store's clock showed at most its `now_ms`
        self._drains = False  # that promotion left due jobs which the next can move
        self._owed: list[Phase] = []
        self._tick: Promote | None = None  # the last that was asked for, and what it was asked to do
        self._wants = (0, False, False)
        self._woken = False  # the tick under way was caused by a change

    @property
    def deadline_s(self) -> float:
        """By then the lease has ended, unless it is renewed."""
        return self._timer.deadline_s

    def promote(self, now_s: float) -> Step:
        """The next tick, or End.LEASE."""
        if self._timer.ended(now_s):
            return End.LEASE
        wants = (self._batch.limit, self._timer.wants_renewal(now_s), self._batch.asks)
        if self._tick is None or wants != self._wants:  # in a trickle one tick is like the other
            self._tick, self._wants = self._ask(*wants), wants
        return self._tick

    def _ask(self, limit: int, renew: bool, want_work: bool) -> Promote:
        s = self._settings
        request = PromotionRequest(
            limit=limit,
            max_stream_len=s.max_stream_len,
            overflow=s.overflow,
            events=s.events,
            events_max_stream_len=s.events_max_stream_len,
            renew=renew,
            want_jobs=self._duties.want_jobs,
            want_traces=self._duties.want_traces,
            want_work=want_work,
        )
        return Promote(self.lease, request)

    def promoted(self, request: PromotionRequest, promotion: Promotion, asked_s: float, now_s: float) -> Step:
        """A tick asked for at `asked_s` has gone well."""
        self._promotion, self._asked_s = promotion, asked_s
        if request.renew:
            self._timer.began(asked_s)
        moved = promotion.promoted + promotion.malformed
        cut_short = (
            moved > 0 and promotion.oldest_pending_lag_ms > 0 and not promotion.held_back
        )  # it was full in bytes
        self._drains = moved >= request.limit or cut_short
        self._batch.observe_tick(moved, promotion.work_ms)
        self._owed = list(self._duties.phases) if promotion.jobs else []
        return self.next_phase(now_s)

    def next_phase(self, now_s: float) -> Step:
        """The next phase that the last promotion owes; then the next tick of a backlog, or rest."""
        if self._owed:
            phase = self._owed.pop(0)
            return (Cleanup if phase is Phase.CLEANUP else Emit)(self._promotion.jobs)
        if self._drains:
            return self.promote(now_s)
        if self._duties.until_idle and not self._promotion.oldest_pending_lag_ms:
            return End.IDLE
        if self._woken and not self._promotion.promoted + self._promotion.malformed:
            self._woken = False
            pause_s = min(self._debounce.next_s(), self._wait(now_s).seconds)
            return Wait(pause_s, Reason.DEBOUNCE, ChangeKind.JOBS)
        return self.rest(now_s)

    def waited(self, wait: Wait, changed: bool, began_s: float, now_s: float) -> Step:
        """A wait that began at `began_s` is over."""
        if wait.reason is Reason.DEBOUNCE:
            return self.rest(now_s)
        self._woken = changed
        if not (changed and now_s - began_s < MIN_WAIT_S):
            self._debounce.reset()
        return self.promote(now_s)

    def failed(self) -> None:
        """A tick has failed: whatever woke it, the next one is not a wake's."""
        self._woken = False

    def rest(self, now_s: float) -> Wait:
        """Wait for the next due time, the lease's renewal or a change."""
        self._woken = False
        return self._wait(now_s)

    def renewed(
        self, renewal: Renewal, asked_s: float, waiting: Wait | None, began_s: float, now_s: float
    ) -> Wait | None:
        """The lease was renewed from outside at `asked_s`. The wait to go on with, when `waiting` would end too late.

        What comes next is counted anew from what the renewal saw, so neither a lost push nor a local clock that drifts
        costs more than a renewal.
        """
        self._timer.began(asked_s)
        if waiting is None or began_s > asked_s:
            return None  # a step that began later knows more
        self._promotion = replace(self._promotion, now_ms=renewal.now_ms, next_due_ms=renewal.next_due_ms)
        self._asked_s = asked_s
        wait = self._wait(now_s)
        ends_s = began_s + waiting.seconds
        return wait if waiting.interruptible and now_s + wait.seconds <= ends_s - MIN_WAIT_S else None

    def wants_renewal(self, now_s: float) -> bool:
        """Whether the next tick is to renew the lease."""
        return self._timer.wants_renewal(now_s)

    def _wait(self, now_s: float) -> Wait:
        ahead_s, renew_s = self._asked_s - now_s, self._timer.renew_s - now_s
        return leader_wait(self._settings, self._promotion, ahead_s, renew_s, self.poll_s)
