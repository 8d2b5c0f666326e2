"""The state machine under random outcomes, errors, wakes and shutdowns."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promoter_core import PermanentError, PromoterSettings, QueueStats, TransientError
from promoter_core.engine.actions import (
    CheckIdle,
    Cleanup,
    Done,
    Emit,
    Failed,
    Lock,
    Promote,
    Reason,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.engine.machine import Machine, State
from promoter_core.engine.pacing import BACKOFF_MS, MIN_WAIT_S
from promoter_core.spi import Lease, LeaseHeld, LeaseLost, LockOutcome, Phase, PromotedJob, Promotion, Renewal

JOB = PromotedJob("a", "", due_ms=1, promoted_ms=2, stream_id="2-0")
TTL_MS = 3_000


def stats(due: int) -> QueueStats:
    return QueueStats(
        now_ms=1_000,
        depth=due,
        due=due,
        oldest_pending_lag_ms=0,
        next_due_ms=None,
        stream_len=0,
        events_len=0,
        dlq_len=0,
        holder="other",
        lease_remaining_ms=500,
    )


class RandomRuns(RuleBasedStateMachine):
    """Answers each action with a random outcome, keeping a model of what may be asked next."""

    @initialize(
        fused=st.sets(st.sampled_from(Phase)),
        until_idle=st.booleans(),
        in_fleet=st.booleans(),
        poll_s=st.sampled_from([None, None, 0.1]),
    )
    def start(self, fused, until_idle, in_fleet, poll_s):
        self.settings = PromoterSettings(lock_ttl_ms=TTL_MS, promote_batch=2)
        self.machine = Machine(
            "q",
            "me",
            self.settings,
            fused=frozenset(fused),
            until_idle=until_idle,
            in_fleet=in_fleet,
            jitter=lambda: 0.0,
        )
        self.fused, self.until_idle, self.poll_s = fused, until_idle, poll_s
        self.now_s = 0.0
        self.released = False  # the backend has said that it released the lock
        self.early = False  # the lease was renewed before the wait for that was over
        self.granted = False  # the last word of the backend was that the lock is ours
        self.reported: LockOutcome | None = None
        self.failures = 0
        self.owed: list[object] = []  # phases of the last promotion
        self.shutdown_steps: int | None = None
        self.take(self.machine.start(self.now_s))

    def take(self, decision):
        self.action = decision.action
        for report in decision.reports:
            if isinstance(report, LockOutcome):
                assert report is not self.reported, "a lock outcome is reported on transitions only"
                self.reported = report
                assert report is not LockOutcome.RELEASED or self.released, "not before it is"
        action, state = self.action, self.machine.state
        assert (state is State.RELEASING) is isinstance(action, Unlock)
        assert (state is State.STOPPED) is isinstance(action, Stop)
        if isinstance(action, Promote):
            assert self.granted, "never a promote without a lease"
            assert self.machine.state is State.LEADER
            assert not self.owed, "a tick's phases come before the next promote"
        if isinstance(action, Cleanup | Emit):
            assert self.owed, "never a cleanup or emit without a promote"
            assert type(action) is self.owed.pop(0)
            assert action.jobs == self.jobs
        if self.shutdown_steps is not None:
            self.shutdown_steps += 1
            assert self.shutdown_steps <= 4, "after a shutdown: cleanup, emit, unlock, stop at most"
            assert not isinstance(action, Lock | Promote | Wait | CheckIdle)

    def answer(self, outcome, after_s=0.0):
        self.now_s += after_s
        self.take(self.machine.handle(outcome, self.now_s, self.poll_s))
        if self.poll_s is not None and self.doing(Wait) and self.action.interruptible:
            assert self.action.seconds <= self.poll_s + MIN_WAIT_S, "where changes are not noticed it looks"

    def doing(self, *kinds):
        return isinstance(self.action, kinds)

    @precondition(lambda self: self.doing(Lock))
    @rule()
    def lock_is_granted(self):
        self.granted, self.failures = True, 0
        self.answer(Lease("q", "me", TTL_MS))

    @precondition(lambda self: self.doing(Lock))
    @rule(remaining=st.none() | st.integers(0, 10_000))
    def lock_is_held(self, remaining):
        self.granted, self.failures = False, 0
        stopping = self.shutdown_steps is not None
        self.answer(LeaseHeld(remaining))
        assert self.doing(Stop if stopping else CheckIdle if self.until_idle else Wait)

    @precondition(lambda self: self.doing(CheckIdle))
    @rule(due=st.integers(0, 3))
    def looks_whether_anything_is_due(self, due):
        stopping = self.shutdown_steps is not None
        self.answer(stats(due))
        assert self.doing(Wait if due and not stopping else Stop), "it ends when nothing is due, whoever leads"

    @precondition(lambda self: self.doing(Promote))
    @rule(n=st.integers(0, 4), took=st.floats(0, 1), due=st.none() | st.integers(1, 5_000), held=st.booleans())
    def promotes(self, n, took, due, held):
        self.failures = 0
        full = n >= self.action.request.limit
        n = min(n, self.action.request.limit)
        self.jobs = (JOB,) * n
        self.owed = [c for p, c in ((Phase.CLEANUP, Cleanup), (Phase.EMIT, Emit)) if p not in self.fused] if n else []
        before = self.shutdown_steps
        promotion = Promotion(promoted=n, jobs=self.jobs, next_due_ms=due and 1_000 + due, now_ms=1_000)
        if held:
            promotion = replace(promotion, held_back=7, oldest_pending_lag_ms=5, next_due_ms=995)
        self.answer(promotion, took)
        if before is not None or self.owed or self.doing(Cleanup, Emit):
            return
        if full:
            assert self.doing(Promote, Lock), "a full batch drains without waiting"
        elif self.until_idle and not held:
            assert self.doing(Unlock), "nothing is due any more"
        else:
            assert self.doing(Wait), "what is held back is waited for"

    @precondition(lambda self: self.doing(Promote))
    @rule()
    def lease_is_lost(self):
        self.granted = False
        self.answer(LeaseLost())
        assert self.machine.state is not State.LEADER

    @precondition(lambda self: self.doing(Cleanup, Emit, Unlock))
    @rule()
    def is_done(self):
        self.released, led = self.doing(Unlock), self.reported is LockOutcome.ACQUIRED
        self.answer(Done())
        assert (self.reported is LockOutcome.RELEASED) is (self.released and led)

    @precondition(lambda self: self.doing(Unlock))
    @rule()
    def is_anothers_by_now(self):
        self.answer(LeaseLost())
        assert self.doing(Stop)
        assert self.reported not in (LockOutcome.ACQUIRED, LockOutcome.RELEASED)

    @rule(poll_s=st.sampled_from([None, 0.1]))
    def the_backend_notices_changes_in_another_way(self, poll_s):
        self.poll_s = poll_s

    @precondition(lambda self: not self.doing(Stop))
    @rule(really=st.integers(0, 9))
    def is_given_up(self, really):
        if really == 0:
            self.owed = []
            self.shutdown_steps = 0
            self.take(self.machine.abandon(self.now_s))
            assert self.doing(Unlock, Stop)
            assert self.doing(Unlock) or not self.granted

    @precondition(lambda self: self.doing(Wait))
    @rule(changed=st.booleans(), part=st.floats(0, 1), paused=st.sampled_from([0.0, 0.0, 0.0, 10.0]))
    def waits(self, changed, part, paused):
        wait = self.action
        changed = changed and wait.interruptible
        self.answer(Waited(changed), (wait.seconds * part if changed else wait.seconds) + paused)

    @precondition(lambda self: self.doing(Wait) and self.action.reason is Reason.RENEW and self.shutdown_steps is None)
    @rule(late=st.sampled_from([0.0, 0.5]))
    def a_fleet_renews_the_lease(self, late):
        self.now_s += self.action.seconds
        wait = self.machine.resume_wait(self.now_s)
        if wait is not None:
            assert self.early, "it wants renewing by now"
            self.action, self.early = wait, False
            return
        wait = self.machine.lease_renewed(Renewal(1_000, False, None), self.now_s, self.now_s)
        if wait is None:
            self.now_s += late
            wait = self.machine.resume_wait(self.now_s)
        else:
            assert wait.reason is Reason.FULL, "jobs that are held back are looked at again"
        assert wait is not None
        self.action = wait

    @precondition(lambda self: self.machine.state is State.LEADER and self.shutdown_steps is None)
    @rule(took=st.sampled_from([0.0, 0.05]), due=st.none() | st.integers(1, 5_000))
    def a_fleet_renews_the_lease_early(self, took, due):
        before, asked_s, self.early = self.action, self.now_s, True
        self.now_s += took
        wait = self.machine.lease_renewed(Renewal(1_000, False, due and 1_000 + due), asked_s, self.now_s)
        if wait is not None:
            assert isinstance(before, Wait)
            assert before.interruptible, "a pause is kept"
            if before.reason is Reason.RENEW:  # in a fleet a renewal alone ends such a wait: it has no end to compare
                assert wait.reason is not Reason.RENEW
            else:
                assert took + wait.seconds < before.seconds, "never later than it would have been"
            self.action = wait

    @precondition(lambda self: not self.doing(Stop))
    @rule()
    def fails_for_a_while(self):
        tick = self.doing(Lock, Promote, Wait, CheckIdle)
        ending = self.doing(Unlock) or self.shutdown_steps is not None
        self.answer(Failed(TransientError("gone", code="CONNECTION")))
        if tick and not ending:
            assert self.action.reason is Reason.BACKOFF
            assert round(self.action.seconds * 1000) == BACKOFF_MS[min(self.failures, 3)]
            self.failures += 1

    @precondition(lambda self: not self.doing(Stop))
    @rule(really=st.integers(0, 9))
    def fails_for_good(self, really):
        if really:  # now and then is enough: it ends the run
            return
        unlocking = self.doing(Unlock)
        self.owed = []
        self.answer(Failed(PermanentError("no", code="NOPERM")))
        assert self.doing(Stop) if unlocking else self.doing(Unlock, Stop)

    @precondition(lambda self: not self.doing(Stop))
    @rule(really=st.integers(0, 9))
    def is_told_to_stop(self, really):
        if really == 0 and self.shutdown_steps is None:
            self.machine.shutdown()
            self.shutdown_steps = 0

    @precondition(lambda self: self.doing(Stop))
    @rule()
    def has_stopped(self):
        assert self.machine.state is State.STOPPED

    @invariant()
    def waits_are_bounded(self):
        if isinstance(getattr(self, "action", None), Wait):
            assert 0 < self.action.seconds <= max(self.settings.follower_poll_ms, TTL_MS) / 1000 + 0.01

    def teardown(self):
        if not hasattr(self, "machine"):
            return
        self.machine.shutdown()
        for _ in range(5):
            if self.doing(Stop):
                break
            self.action = self.machine.handle(Failed(TransientError("gone", code="CONNECTION")), self.now_s).action
        assert self.doing(Stop), "shutdown always ends"
        assert self.machine.state is State.STOPPED


RandomRuns.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestRandomRuns = RandomRuns.TestCase
