"""The state machine under random outcomes, errors, wakes and shutdowns."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promoter_core.actions import Cleanup, Done, Emit, Failed, Lock, Promote, Reason, Stop, Unlock, Wait, Waited
from promoter_core.errors import PermanentError, TransientError
from promoter_core.machine import Machine, State
from promoter_core.model import Lease, LeaseHeld, LeaseLost, LockOutcome, Phase, PromotedJob, Promotion
from promoter_core.pacing import BACKOFF_MS
from promoter_core.settings import PromoterSettings

JOB = PromotedJob("a", "", 1, 2, "2-0")
TTL_MS = 3_000


class RandomRuns(RuleBasedStateMachine):
    """Answers each action with a random outcome, keeping a model of what may be asked next."""

    @initialize(fused=st.sets(st.sampled_from(Phase)), until_idle=st.just(False))
    def start(self, fused, until_idle):
        self.settings = PromoterSettings(queue="q", holder_id="me", lock_ttl_ms=TTL_MS, promote_batch=2)
        self.machine = Machine(self.settings, fused=frozenset(fused), until_idle=until_idle, jitter=lambda: 0.0)
        self.fused = fused
        self.now_s = 0.0
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
        action = self.action
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
            assert not isinstance(action, Lock | Promote | Wait)

    def answer(self, outcome, after_s=0.0):
        self.now_s += after_s
        self.take(self.machine.handle(outcome, self.now_s))

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
        self.answer(LeaseHeld(remaining))
        assert self.doing(Wait, Stop)

    @precondition(lambda self: self.doing(Promote))
    @rule(n=st.integers(0, 4), took=st.floats(0, 1), due=st.none() | st.integers(1, 5_000))
    def promotes(self, n, took, due):
        self.failures = 0
        full = n >= self.action.request.limit
        n = min(n, self.action.request.limit)
        self.jobs = (JOB,) * n
        self.owed = [c for p, c in ((Phase.CLEANUP, Cleanup), (Phase.EMIT, Emit)) if p not in self.fused] if n else []
        before = self.shutdown_steps
        self.answer(Promotion(promoted=n, jobs=self.jobs, next_due_ms=due and 1_000 + due, now_ms=1_000), took)
        if full and before is None and not self.owed and not self.doing(Cleanup, Emit):
            assert self.doing(Promote, Lock), "a full batch drains without waiting"

    @precondition(lambda self: self.doing(Promote))
    @rule()
    def lease_is_lost(self):
        self.granted = False
        self.answer(LeaseLost())
        assert self.machine.state is not State.LEADER

    @precondition(lambda self: self.doing(Cleanup, Emit, Unlock))
    @rule()
    def is_done(self):
        led, unlocking = self.machine.state is State.LEADER, self.doing(Unlock)
        self.answer(Done())
        assert not (unlocking and led) or self.reported is LockOutcome.RELEASED

    @precondition(lambda self: self.doing(Unlock))
    @rule()
    def is_anothers_by_now(self):
        self.answer(LeaseLost())
        assert self.doing(Stop)
        assert self.reported is not LockOutcome.ACQUIRED

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
        changed = changed and not wait.deaf
        self.answer(Waited(changed), (wait.seconds * part if changed else wait.seconds) + paused)

    @precondition(lambda self: self.doing(Wait) and self.action.reason is Reason.RENEW and self.shutdown_steps is None)
    @rule(late=st.sampled_from([0.0, 0.5]))
    def a_fleet_renews_the_lease(self, late):
        self.now_s += self.action.seconds
        assert self.machine.wait_on(self.now_s) is None, "it wants renewing by now"
        self.machine.renewed(self.now_s)
        self.now_s += late
        wait = self.machine.wait_on(self.now_s)
        assert wait is not None
        self.action = wait

    @precondition(lambda self: not self.doing(Stop))
    @rule()
    def fails_for_a_while(self):
        tick = self.doing(Lock, Promote, Wait)
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
