"""READ FIRST. The promoter's state machine: lock → promote → cleanup → emit.

Sans-IO: `Machine` is told what happened (an `Outcome`) and answers what to do next (an `Action`) and what to report;
`actions.py` has these words. It never sleeps, never looks at a clock and never calls a driver, so every path is a
plain unit test. `promoter.py` runs it.

    FOLLOWER ──lock granted──▶ LEADER ──shutdown or permanent error──▶ STOPPED
        ▲                        │
        └──lease lost, or no good tick before its local deadline
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from promoter_core.actions import (
    Action,
    Cleanup,
    Decision,
    Done,
    Emit,
    Failed,
    Lock,
    Look,
    NotReleased,
    Outcome,
    Promote,
    Reason,
    Report,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.batch import BatchSize
from promoter_core.errors import BackendError, PermanentError
from promoter_core.model import (
    Lease,
    LeaseHeld,
    LeaseLost,
    LockOutcome,
    Phase,
    Promotion,
    PromotionRequest,
    QueueStats,
    Renewal,
    Tick,
)
from promoter_core.pacing import MIN_WAIT_S, Backoff, Gather, LeaseTimer, follower_wait, leader_wait
from promoter_core.settings import PromoterSettings


class State(StrEnum):
    FOLLOWER = "follower"
    LEADER = "leader"
    STOPPED = "stopped"


class Machine:
    """One promoter on one queue. Call `start`, do the action, `handle` its outcome, and so on until Stop."""

    def __init__(
        self,
        settings: PromoterSettings,
        *,
        fused: frozenset[Phase] = frozenset(),
        want_jobs: bool = True,
        want_traces: bool = False,
        until_idle: bool = False,
        in_fleet: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` gives numbers from 0 to 1; a backoff grows by up to a tenth of itself with it.

        `in_fleet`: the lease is renewed with those of other queues, and by this machine only when that fails.
        """
        self.state = State.FOLLOWER
        self.poll_s: float | None = None  # set by the runner where the backend cannot tell of every change
        self._settings = settings
        self.lease = Lease(settings.queue, settings.holder_id, settings.lock_ttl_ms)
        self._timer = LeaseTimer(settings.lock_ttl_ms, used=2 / 3 if in_fleet else 1 / 3)
        self._phases = [p for p in (Phase.CLEANUP, Phase.EMIT) if p not in fused]
        if not settings.events and Phase.EMIT in self._phases:
            self._phases.remove(Phase.EMIT)
        self._want_jobs = want_jobs or bool(self._phases)
        self._want_traces = want_traces
        self._until_idle = until_idle
        self._backoff, self._gathering = Backoff(jitter), Gather()
        self._batch = BatchSize(settings.promote_batch, settings.max_tick_ms)

        self._action: Action | None = None
        self._began_s = 0.0  # when the action was given out
        self._reports: list[Report] = []
        self._shutdown = False
        self._ending = False  # Unlock has been given out: whatever comes of it, Stop is next
        self._error: PermanentError | None = None
        self._reported: LockOutcome | None = None
        self._may_hold = False  # the lock may be ours, so it must be released at the end
        self._promotion = Promotion()
        self._full = False  # that promotion moved all that was asked for
        self._asked_s = 0.0  # when that promotion was asked for: the store's clock showed at most its `now_ms`
        self._todo: list[Phase] = []
        self._woken = False  # the tick under way was caused by a change

    def start(self, now_s: float) -> Decision:
        return self._decide(Lock(), now_s)

    def shutdown(self) -> None:
        """Finish the step under way, then release the lock and stop. The next `handle` sees to it."""
        self._shutdown = True

    def abandon(self, now_s: float) -> Decision:
        """The step under way was given up, and has no outcome: release the lock if it may be ours, then stop."""
        return self._finish(now_s)

    def started(self, now_s: float) -> None:
        """The action that was given out is being done only now: a fleet serves its queues in turn."""
        self._began_s = now_s

    def renewed(self, renewal: Renewal, asked_s: float, now_s: float) -> Wait | None:
        """The lease was renewed for us at `asked_s`: a fleet renews those of all its queues at once.

        What comes next is counted anew from what the renewal saw, so neither a lost push nor a local clock that drifts
        costs more than a renewal. Returns the wait to go on with when the present one would end too late.
        """
        self._timer.began(asked_s)
        wait = self._action
        if self.state is not State.LEADER or not isinstance(wait, Wait) or self._began_s > asked_s:
            return None  # a step that began later knows more
        self._promotion = replace(self._promotion, now_ms=renewal.now_ms, next_due_ms=renewal.next_due_ms)
        self._asked_s = asked_s
        left = self._leader_wait(now_s)
        if wait.deaf or self._shutdown or now_s + left.seconds > self._began_s + wait.seconds - MIN_WAIT_S:
            return None
        self._action, self._began_s = left, now_s
        return left

    def wait_on(self, now_s: float) -> Wait | None:
        """When a wait for the renewal is over: what is left to wait for if it was `renewed`, None if it was not."""
        waits = isinstance(self._action, Wait) and self._action.reason is Reason.RENEW
        if not waits or self._shutdown or self._timer.wants_renewal(now_s):
            return None
        wait = self._leader_wait(now_s)
        self._action, self._began_s = wait, now_s
        return wait

    def handle(self, outcome: Outcome, now_s: float) -> Decision:
        """Take the outcome of the last action at `now_s` seconds of a monotonic clock; say what to do next."""
        if self._ending:
            return self._released(outcome, now_s)
        if isinstance(outcome, Failed):
            return self._failed(outcome.error, now_s)
        match self._action, outcome:
            case Lock(), Lease():
                return self._granted(now_s)
            case Lock(), LeaseHeld(remaining_ms=remaining_ms):
                return self._held(remaining_ms, now_s)
            case Promote(), LeaseLost():
                self._may_hold = False
                return self._demote(now_s)
            case Promote(request=request), Promotion():
                return self._promoted(request, outcome, now_s)
            case ((Cleanup() | Emit()), Done()):
                return self._next_phase(now_s)
            case Wait(reason=reason), Waited(changed):
                return self._waited(reason, changed, now_s)
            case Look(), QueueStats(due=0):
                return self._finish(now_s)
            case Look(), QueueStats():
                return self._decide(follower_wait(self._settings, self._settings.poll_interval_ms, self.poll_s), now_s)
        raise TypeError(f"{outcome!r} is no outcome of {self._action!r}")

    # Each of these answers one row of the table in docs/reference/state-machine.md.

    def _granted(self, now_s: float) -> Decision:
        self._backoff.reset()
        self.state = State.LEADER
        self._report_lock(LockOutcome.ACQUIRED)
        self._timer.began(self._began_s)
        self._woken = False
        self._gathering.reset()
        return self._tick(now_s)

    def _held(self, remaining_ms: int | None, now_s: float) -> Decision:
        self._backoff.reset()
        self._may_hold = False
        self._report_lock(LockOutcome.HELD)
        if self._until_idle:
            return self._decide(Look(), now_s)
        return self._decide(follower_wait(self._settings, remaining_ms, self.poll_s), now_s)

    def _tick(self, now_s: float) -> Decision:
        if self._timer.ended(now_s):
            return self._demote(now_s)
        s = self._settings
        request = PromotionRequest(
            limit=self._batch.limit,
            max_stream_len=s.max_stream_len,
            overflow=s.overflow,
            events=s.events,
            events_max_stream_len=s.events_max_stream_len,
            renew=self._timer.wants_renewal(now_s),
            want_jobs=self._want_jobs,
            want_traces=self._want_traces,
            want_work=self._batch.asks,
        )
        return self._decide(Promote(self.lease, request), now_s)

    def _promoted(self, request: PromotionRequest, promotion: Promotion, now_s: float) -> Decision:
        self._backoff.reset()
        self._promotion = promotion
        self._asked_s = self._began_s
        if request.renew:
            self._timer.began(self._began_s)
        moved = promotion.promoted + promotion.quarantined
        self._full = moved >= request.limit
        self._batch.ticked(moved, promotion.work_ms)
        self._reports.append(Tick(promotion, now_s - self._began_s))
        self._todo = list(self._phases) if promotion.jobs else []
        return self._next_phase(now_s)

    def _next_phase(self, now_s: float) -> Decision:
        jobs = self._promotion.jobs
        if self._todo:
            phase = self._todo.pop(0)
            return self._decide(Cleanup(jobs) if phase is Phase.CLEANUP else Emit(jobs), now_s)
        moved = self._promotion.promoted + self._promotion.quarantined
        if self._full or (moved and self._promotion.oldest_pending_lag_ms and not self._promotion.held_back):
            return self._tick(now_s)  # a full batch, in jobs or in bytes: drain
        if self._until_idle and not self._promotion.oldest_pending_lag_ms:
            return self._finish(now_s)
        if self._woken and not moved:
            return self._gather(now_s)
        return self._rest(now_s)

    def _gather(self, now_s: float) -> Decision:
        """A wake found nothing due: pause before listening again, longer while wakes keep coming."""
        self._woken = False
        pause_s = min(self._gathering.next_s(), self._leader_wait(now_s).seconds)
        return self._decide(Wait(pause_s, Reason.GATHER, self.lease), now_s)

    def _rest(self, now_s: float) -> Decision:
        self._woken = False
        return self._decide(self._leader_wait(now_s), now_s)

    def _leader_wait(self, now_s: float) -> Wait:
        ahead_s = self._asked_s - now_s
        return leader_wait(
            self._settings, self.lease, self._promotion, ahead_s, self._timer.renew_s - now_s, self.poll_s
        )

    def _waited(self, reason: Reason, changed: bool, now_s: float) -> Decision:
        if self.state is State.FOLLOWER:
            return self._decide(Lock(), now_s)
        if reason is Reason.GATHER:
            return self._rest(now_s)
        self._woken = changed
        at_once = now_s - self._began_s < MIN_WAIT_S
        if not (changed and at_once):
            self._gathering.reset()
        return self._tick(now_s)

    def _demote(self, now_s: float) -> Decision:
        self.state = State.FOLLOWER
        self._report_lock(LockOutcome.HELD)
        return self._decide(Lock(), now_s)

    def _failed(self, error: BackendError, now_s: float) -> Decision:
        self._reports.append(error)
        if isinstance(error, PermanentError):
            self._error = error
            return self._finish(now_s)
        if isinstance(self._action, Cleanup | Emit):
            return self._next_phase(now_s)  # the jobs are in the stream: these two are best effort
        self._woken = False
        lease = self.lease if self.state is State.LEADER else None
        return self._decide(Wait(self._backoff.next_s(), Reason.BACKOFF, lease), now_s)

    def _finish(self, now_s: float) -> Decision:
        """Release the lock if it may be ours, then stop."""
        if not self._may_hold:
            return self._stop(now_s)
        self._ending = True
        return self._give(Unlock(self.lease), now_s)

    def _released(self, outcome: Outcome, now_s: float) -> Decision:
        """The answer to Unlock: whatever it is, Stop is next."""
        if isinstance(outcome, Failed):
            self._reports.append(NotReleased(outcome.error, self._left_s(now_s)))
        if self.state is State.LEADER:
            self._report_lock(LockOutcome.RELEASED if isinstance(outcome, Done) else LockOutcome.HELD)
        return self._stop(now_s)

    def _left_s(self, now_s: float) -> float:
        """Of the lease, at most."""
        whole_s = self.lease.ttl_ms / 1000
        return max(self._timer.deadline_s - now_s, 0.0) if self.state is State.LEADER else whole_s

    def _stop(self, now_s: float) -> Decision:
        self.state = State.STOPPED
        self._ending = True
        self._may_hold = False
        return self._give(Stop(self._error), now_s)

    def _decide(self, action: Action, now_s: float) -> Decision:
        """Give `action` out, unless a shutdown was asked for: then only what a tick still owes is done."""
        if self._shutdown and not isinstance(action, Cleanup | Emit):
            return self._finish(now_s)
        if isinstance(action, Lock):
            self._may_hold = True  # its reply may be lost
        return self._give(action, now_s)

    def _give(self, action: Action, now_s: float) -> Decision:
        self._action, self._began_s = action, now_s
        reports, self._reports = tuple(self._reports), []
        return Decision(action, reports)

    def _report_lock(self, outcome: LockOutcome) -> None:
        if outcome is not self._reported:
            self._reported = outcome
            self._reports.append(outcome)
