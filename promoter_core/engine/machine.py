"""READ FIRST. The promoter's state machine: the life cycle of the lock.

Sans-IO: `Machine` takes an `Outcome` and answers with a `Decision`: the next `Action`, and what to report. It never
sleeps, reads a clock or calls a driver, so every path is a plain unit test. `leadership.py` decides what a leader does,
`actions.py` defines the vocabulary, and `runner/promoter.py` performs the actions.

    FOLLOWER ──lock granted──▶ LEADER ──shutdown, permanent error──▶ RELEASING ──any outcome──▶ STOPPED
        ▲                        │
        ╰──lease lost, or no good tick before its local deadline
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from promoter_core.engine.actions import (
    Action,
    CheckIdle,
    Cleanup,
    Decision,
    Done,
    Emit,
    Failed,
    Lock,
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
from promoter_core.engine.batch_size import BatchSize
from promoter_core.engine.leadership import End, Leadership, Step, duties
from promoter_core.engine.pacing import Backoff, follower_wait
from promoter_core.settings import PromoterSettings
from promoter_core.spi.errors import BackendError, PermanentError
from promoter_core.spi.model import (
    ChangeKind,
    Lease,
    LeaseHeld,
    LeaseLost,
    LockOutcome,
    Phase,
    Promotion,
    QueueStats,
    Renewal,
    Tick,
)


class State(StrEnum):
    FOLLOWER = "follower"
    LEADER = "leader"
    RELEASING = "releasing"
    STOPPED = "stopped"


class Machine:
    """One promoter on one queue.

    Call `start`, perform the action, pass its outcome to `handle`, and repeat until Stop.
    """

    def __init__(
        self,
        queue: str,
        holder: str,
        settings: PromoterSettings,
        *,
        fused: frozenset[Phase] = frozenset(),
        want_jobs: bool = True,
        want_traces: bool = False,
        until_idle: bool = False,
        in_fleet: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` returns numbers from 0 to 1; a backoff grows by up to a tenth of itself with it.

        `in_fleet`: the lease is renewed together with those of other queues, and by this machine only when that fails.
        """
        self.state = State.FOLLOWER
        self.abandoned = False  # the current step was given up; a late outcome is ignored
        self.lease = Lease(queue, holder, settings.lock_ttl_ms)
        self._settings = settings
        phases = [p for p in (Phase.CLEANUP, Phase.EMIT) if p not in fused]
        if not settings.events and Phase.EMIT in phases:
            phases.remove(Phase.EMIT)
        self._duties = duties(
            phases=tuple(phases),
            want_jobs=want_jobs or bool(phases),
            want_traces=want_traces,
            until_idle=until_idle,
            renew_used=2 / 3 if in_fleet else 1 / 3,
        )
        self._batch = BatchSize(settings.promote_batch, settings.max_tick_ms)
        self._jitter = jitter
        self._backoff: Backoff | None = None  # while consecutive errors occur
        self._leadership: Leadership | None = None  # while LEADER or RELEASING
        self._poll_s: float | None = None

        self._action: Action | None = None
        self._began_s = 0.0  # when the action was issued
        self._reports: tuple[Report, ...] = ()
        self._shutdown = False
        self._error: PermanentError | None = None
        self._reported: LockOutcome | None = None
        self._may_hold = False  # the lock may be ours, so release it at the end

    def start(self, now_s: float) -> Decision:
        """Return the first decision. `now_s`, here and below: seconds of a monotonic clock."""
        return self._decide(Lock(), now_s)

    def shutdown(self) -> None:
        """Finish the current step, then release the lock and stop. Takes effect in the next `handle`."""
        self._shutdown = True

    def abandon(self, now_s: float) -> Decision:
        """Release the lock if we may hold it, then stop. The current step was abandoned and has no outcome."""
        self.abandoned = True
        return self._finish(now_s)

    def dispatched(self, now_s: float) -> None:
        """Record that the issued action is performed only now: a fleet serves its queues in turn."""
        self._began_s = now_s

    def lease_renewed(self, renewal: Renewal, asked_s: float, now_s: float) -> Wait | None:
        """Record that the lease was renewed at `asked_s`, together with those of a fleet's other queues.

        Returns a shorter wait if the current one would end too late.
        """
        if self._leadership is None or self.state is not State.LEADER:
            return None
        waiting = self._action if isinstance(self._action, Wait) else None
        wait = self._leadership.renewed(renewal, asked_s, waiting, self._began_s, now_s)
        if wait is None or self._shutdown:
            return None
        self._action, self._began_s = wait, now_s
        return wait

    def resume_wait(self, now_s: float) -> Wait | None:
        """After a wait for the renewal: return the remaining wait if the lease was renewed, otherwise None."""
        waits = isinstance(self._action, Wait) and self._action.reason is Reason.RENEW
        if not waits or self._shutdown or self._leadership is None or self._leadership.wants_renewal(now_s):
            return None
        wait = self._leadership.rest(now_s)
        self._action, self._began_s = wait, now_s
        return wait

    def handle(self, outcome: Outcome, now_s: float, poll_s: float | None = None) -> Decision:
        """Take the outcome of the last action and return the next decision.

        `poll_s` is the poll interval for backends that cannot report every change.
        """
        self._poll_s = poll_s
        if self._leadership is not None:
            self._leadership.poll_s = poll_s
        if self.state is State.RELEASING:
            return self._released(outcome, now_s)
        if isinstance(outcome, Failed):
            return self._failed(outcome.error, now_s)
        match self._action, outcome:
            case Lock(), Lease():
                return self._granted(now_s)
            case Lock(), LeaseHeld(remaining_ms=remaining_ms):
                return self._held(remaining_ms, now_s)
            case CheckIdle(), QueueStats(due=due):
                return self._checked(due, now_s)
            case Wait(), Waited() if self._leadership is None:
                return self._decide(Lock(), now_s)
        return self._lead(self._step(outcome, now_s), now_s)

    def _step(self, outcome: Outcome, now_s: float) -> Step:
        """Return the leadership's answer to an outcome."""
        leads, asked_s = self._leadership, self._began_s
        if leads is not None:
            match self._action, outcome:
                case Promote(), LeaseLost():
                    self._may_hold = False
                    return End.LEASE
                case Promote(request=request), Promotion():
                    self._backoff = None
                    self._reports += (Tick(outcome, now_s - asked_s),)
                    return leads.promoted(request, outcome, asked_s, now_s)
                case ((Cleanup() | Emit()), Done()):
                    return leads.next_phase(now_s)
                case Wait() as wait, Waited(changed):
                    return leads.waited(wait, changed, asked_s, now_s)
        raise TypeError(f"{outcome!r} is no outcome of {self._action!r}")

    # Each of these methods implements one row of the table in docs/reference/state-machine.md.

    def _granted(self, now_s: float) -> Decision:
        self._backoff = None
        self.state = State.LEADER
        self._report_lock(LockOutcome.ACQUIRED)
        leads = Leadership(self.lease, self._settings, self._duties, self._batch, asked_s=self._began_s)
        self._leadership = leads
        return self._lead(leads.promote(now_s), now_s)

    def _held(self, remaining_ms: int | None, now_s: float) -> Decision:
        self._backoff = None
        self._may_hold = False
        self._report_lock(LockOutcome.HELD)
        if self._duties.until_idle:
            return self._decide(CheckIdle(), now_s)
        return self._decide(follower_wait(self._settings, remaining_ms, self._poll_s), now_s)

    def _checked(self, due: int, now_s: float) -> Decision:
        """Handle the check of a follower that runs until idle: whether anything is due."""
        if not due:
            return self._finish(now_s)
        return self._decide(follower_wait(self._settings, self._settings.poll_interval_ms, self._poll_s), now_s)

    def _lead(self, step: Step, now_s: float) -> Decision:
        if isinstance(step, End):
            return self._demote(now_s) if step is End.LEASE else self._finish(now_s)
        return self._decide(step, now_s)

    def _demote(self, now_s: float) -> Decision:
        self.state, self._leadership = State.FOLLOWER, None
        self._report_lock(LockOutcome.HELD)
        return self._decide(Lock(), now_s)

    def _failed(self, error: BackendError, now_s: float) -> Decision:
        self._reports += (error,)
        if isinstance(error, PermanentError):
            self._error = error
            return self._finish(now_s)
        change = ChangeKind.LOCK
        if (leads := self._leadership) is not None:
            if isinstance(self._action, Cleanup | Emit):
                # The jobs are in the stream: these phases are best effort.
                return self._lead(leads.next_phase(now_s), now_s)
            leads.failed()
            change = ChangeKind.JOBS
        self._backoff = self._backoff or Backoff(self._jitter)
        return self._decide(Wait(self._backoff.next_s(), Reason.BACKOFF, change), now_s)

    def _finish(self, now_s: float) -> Decision:
        """Release the lock if we may hold it, then stop."""
        if not self._may_hold:
            return self._stop(now_s)
        self.state = State.RELEASING
        return self._give(Unlock(self.lease), now_s)

    def _released(self, outcome: Outcome, now_s: float) -> Decision:
        """Handle the outcome of Unlock. Stop follows in any case."""
        if isinstance(outcome, Failed):
            leads, whole_s = self._leadership, self.lease.ttl_ms / 1000
            left_s = whole_s if leads is None else max(leads.deadline_s - now_s, 0.0)
            self._reports += (NotReleased(outcome.error, left_s),)
        if self._leadership is not None:
            self._report_lock(LockOutcome.RELEASED if isinstance(outcome, Done) else LockOutcome.HELD)
        return self._stop(now_s)

    def _stop(self, now_s: float) -> Decision:
        self.state, self._leadership = State.STOPPED, None
        self._may_hold = False
        return self._give(Stop(self._error), now_s)

    def _decide(self, action: Action, now_s: float) -> Decision:
        """Issue `action`. After a shutdown request, issue only what a tick still owes."""
        if self._shutdown and not isinstance(action, Cleanup | Emit):
            return self._finish(now_s)
        if isinstance(action, Lock):
            self._may_hold = True  # the reply may be lost
        return self._give(action, now_s)

    def _give(self, action: Action, now_s: float) -> Decision:
        self._action, self._began_s = action, now_s
        reports, self._reports = self._reports, ()
        return Decision(action, reports)

    def _report_lock(self, outcome: LockOutcome) -> None:
        if outcome is not self._reported:
            self._reported = outcome
            self._reports += (outcome,)
