"""Every transition of the state machine, by name."""

from __future__ import annotations

import pytest

from promoter_core.actions import (
    Cleanup,
    Decision,
    Done,
    Emit,
    Failed,
    Lock,
    Look,
    Outcome,
    Promote,
    Reason,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.errors import PermanentError, TransientError
from promoter_core.machine import Machine, State
from promoter_core.model import (
    Lease,
    LeaseHeld,
    LeaseLost,
    LockOutcome,
    Phase,
    PromotedJob,
    Promotion,
    QueueStats,
    Tick,
)
from promoter_core.settings import PromoterSettings

FUSED = frozenset({Phase.CLEANUP, Phase.EMIT})
LEASE = Lease("q", "me", 6_000)
JOB = PromotedJob("a", "", 1_000, 1_001, "1001-0")
LOST_TOUCH = TransientError("gone", code="CONNECTION")
REFUSED = PermanentError("no", code="NOPERM")


class Bench:
    """A machine and the time, with what it has said so far."""

    def __init__(self, *, fused: frozenset[Phase] = FUSED, **options: object) -> None:
        settings = {
            "queue": "q",
            "holder_id": "me",
            "lock_ttl_ms": 6_000,
            "promote_batch": 10,
            "follower_poll_ms": 2_000,
        }
        known = {k: options.pop(k) for k in list(options) if k not in ("want_jobs", "until_idle")}
        self.machine = Machine(PromoterSettings(**settings | known), fused=fused, jitter=lambda: 0.0, **options)
        self.now_s = 100.0
        self.decision: Decision = self.machine.start(self.now_s)

    @property
    def action(self) -> object:
        return self.decision.action

    @property
    def wait(self) -> Wait:
        assert isinstance(self.action, Wait)
        return self.action

    def then(self, outcome: Outcome, after_s: float = 0.0) -> Bench:
        self.now_s += after_s
        self.decision = self.machine.handle(outcome, self.now_s)
        return self

    def leads(self, promotion: Promotion | None = None) -> Bench:
        """Win the lock; with a promotion, have the first tick give it."""
        self.then(LEASE)
        return self.then(promotion) if promotion else self


def tick_of(decision: Decision) -> Promotion:
    (tick,) = [r for r in decision.reports if isinstance(r, Tick)]
    return tick.promotion


# FOLLOWER


def test_it_starts_as_a_follower_that_asks_for_the_lock():
    bench = Bench()
    assert bench.machine.state is State.FOLLOWER
    assert bench.action == Lock()
    assert bench.decision.reports == ()


def test_a_granted_lock_makes_it_leader_reports_it_once_and_promotes():
    bench = Bench().then(LEASE)
    assert bench.machine.state is State.LEADER
    assert isinstance(bench.action, Promote)
    assert bench.action.lease == LEASE
    assert bench.decision.reports == (LockOutcome.ACQUIRED,)


def test_a_held_lock_is_reported_once_and_waited_for_until_the_lease_can_end():
    bench = Bench().then(LeaseHeld(700))
    assert bench.decision.reports == (LockOutcome.HELD,)
    assert bench.wait.reason is Reason.HELD
    assert bench.wait.lease is None
    assert bench.wait.seconds == pytest.approx(0.701)
    bench.then(Waited(False), 0.7).then(LeaseHeld(700))
    assert bench.decision.reports == ()


@pytest.mark.parametrize("remaining_ms", [None, 60_000])
def test_a_follower_looks_at_the_lock_again_after_follower_poll_at_the_latest(remaining_ms):
    bench = Bench().then(LeaseHeld(remaining_ms))
    assert bench.wait.seconds == pytest.approx(2.001)
    assert bench.wait.reason is Reason.POLL


def test_a_follower_polls_where_the_backend_can_only_poll():
    bench = Bench()
    bench.machine.polls = True
    assert bench.then(LeaseHeld(5_000)).wait.seconds == pytest.approx(0.101)


def test_a_follower_asks_for_the_lock_again_after_its_wait():
    assert Bench().then(LeaseHeld(700)).then(Waited(True)).action == Lock()


# LEADER


def test_a_full_batch_drains_without_waiting():
    bench = Bench().leads(Promotion(promoted=10, depth=5))
    assert isinstance(bench.action, Promote)
    assert tick_of(bench.decision).promoted == 10


def test_quarantined_members_count_towards_a_full_batch():
    assert isinstance(Bench().leads(Promotion(promoted=4, quarantined=6)).action, Promote)


def test_unfused_phases_are_done_in_order_before_the_next_promote():
    bench = Bench(fused=frozenset()).leads(Promotion(promoted=10, jobs=(JOB,) * 10))
    assert bench.action == Cleanup((JOB,) * 10)
    assert bench.then(Done()).action == Emit((JOB,) * 10)
    assert isinstance(bench.then(Done()).action, Promote)


def test_fused_phases_are_not_done_again():
    assert isinstance(Bench().leads(Promotion(promoted=1, jobs=(JOB,))).action, Wait)


def test_one_phase_can_be_fused_alone():
    bench = Bench(fused=frozenset({Phase.EMIT})).leads(Promotion(promoted=1, jobs=(JOB,)))
    assert bench.action == Cleanup((JOB,))
    assert isinstance(bench.then(Done()).action, Wait)


def test_without_events_nothing_is_emitted():
    bench = Bench(fused=frozenset(), events=False).leads(Promotion(promoted=1, jobs=(JOB,)))
    assert bench.action == Cleanup((JOB,))
    assert isinstance(bench.then(Done()).action, Wait)


def test_a_promotion_without_jobs_has_nothing_to_clean_up_or_emit():
    assert isinstance(Bench(fused=frozenset()).leads(Promotion()).action, Wait)


def test_after_less_than_a_batch_it_waits_until_the_next_due_time():
    bench = Bench().leads(Promotion(promoted=3, depth=1, next_due_ms=1_500, now_ms=1_000))
    assert bench.wait.reason is Reason.NEXT_DUE
    assert bench.wait.seconds == pytest.approx(0.5)
    assert bench.wait.lease == LEASE
    assert not bench.wait.deaf


def test_the_wait_counts_from_when_the_promotion_was_asked_for():
    bench = Bench().then(LEASE).then(Promotion(next_due_ms=1_500, now_ms=1_000), 0.2)
    assert bench.wait.seconds == pytest.approx(0.3)


def test_it_waits_a_third_of_the_lease_at_most_and_then_renews():
    bench = Bench().leads(Promotion(depth=1, next_due_ms=99_000, now_ms=1_000))
    assert bench.wait.reason is Reason.RENEW
    assert bench.wait.seconds == pytest.approx(2.0)
    bench.then(Waited(False), 2.0)
    assert bench.action.request.renew


def test_the_lease_is_not_renewed_before_a_third_of_it_is_used():
    bench = Bench().leads(Promotion(promoted=10))
    assert not bench.action.request.renew
    bench.then(Promotion(promoted=10), 1.9)
    assert not bench.action.request.renew
    bench.then(Promotion(promoted=10), 0.2)
    assert bench.action.request.renew
    bench.then(Promotion(promoted=10))
    assert not bench.action.request.renew


def test_it_waits_a_poll_interval_at_most_where_the_backend_can_only_poll():
    bench = Bench().then(LEASE)
    bench.machine.polls = True
    bench.then(Promotion(depth=1, next_due_ms=9_000, now_ms=1_000))
    assert bench.wait.reason is Reason.POLL
    assert bench.wait.seconds == pytest.approx(0.1)


def test_jobs_held_back_are_looked_at_again_after_a_poll_interval():
    bench = Bench().leads(Promotion(held_back=3, depth=3, next_due_ms=900, now_ms=1_000))
    assert bench.wait.reason is Reason.FULL
    assert bench.wait.seconds == pytest.approx(0.1)


def test_a_due_time_that_has_passed_is_waited_for_a_millisecond_and_no_less():
    assert Bench().leads(Promotion(depth=1, next_due_ms=900, now_ms=1_000)).wait.seconds == pytest.approx(0.001)


def test_a_change_ends_the_wait_with_a_promote():
    assert isinstance(Bench().leads(Promotion()).then(Waited(True), 0.5).action, Promote)


def test_a_wake_that_found_nothing_due_is_followed_by_a_pause_that_grows_under_churn():
    bench = Bench().leads(Promotion())
    pauses = []
    for _ in range(6):
        bench.then(Waited(True)).then(Promotion())
        assert bench.wait.reason is Reason.GATHER
        assert bench.wait.deaf
        pauses.append(round(bench.wait.seconds * 1000))
        bench.then(Waited(False), bench.wait.seconds)
        assert not bench.wait.deaf
    assert pauses == [2, 4, 8, 10, 10, 10]


def test_the_pause_is_short_again_once_wakes_come_one_by_one():
    bench = Bench().leads(Promotion())
    bench.then(Waited(True)).then(Promotion()).then(Waited(False), 0.002)
    bench.then(Waited(True), 0.3).then(Promotion())
    assert bench.wait.seconds == pytest.approx(0.002)


def test_the_pause_never_outlasts_the_next_due_time():
    bench = Bench().leads(Promotion()).then(Waited(True))
    bench.then(Promotion(depth=1, next_due_ms=1_001, now_ms=1_000))
    assert bench.wait.seconds == pytest.approx(0.001)


def test_a_wake_that_found_something_due_is_followed_by_no_pause():
    bench = Bench().leads(Promotion()).then(Waited(True)).then(Promotion(promoted=1))
    assert not bench.wait.deaf


def test_a_lost_lease_is_reported_and_the_lock_asked_for_again():
    bench = Bench().leads().then(LeaseLost())
    assert bench.machine.state is State.FOLLOWER
    assert bench.decision.reports == (LockOutcome.HELD,)
    assert bench.action == Lock()
    assert bench.then(LeaseHeld(500)).decision.reports == ()
    assert bench.then(Waited(True)).then(LEASE).decision.reports == (LockOutcome.ACQUIRED,)


def test_without_a_good_tick_until_the_lease_ends_it_becomes_a_follower():
    bench = Bench().leads(Promotion())
    bench.then(Waited(False), 2.0)
    while isinstance(bench.action, Promote):
        bench.then(Failed(LOST_TOUCH), 1.0)
        assert bench.machine.state is State.LEADER
        bench.then(Waited(False), bench.wait.seconds)
    assert bench.machine.state is State.FOLLOWER
    assert bench.action == Lock()
    assert bench.decision.reports == (LockOutcome.HELD,)
    assert bench.now_s - 100.0 >= 6.0


def test_a_paused_leader_finds_its_lease_ended_before_it_promotes_again():
    bench = Bench().leads(Promotion()).then(Waited(False), 60.0)
    assert bench.machine.state is State.FOLLOWER
    assert bench.action == Lock()


def test_every_good_tick_is_reported_with_its_duration():
    bench = Bench().then(LEASE).then(Promotion(depth=7), 0.25)
    assert bench.decision.reports == (Tick(Promotion(depth=7), 0.25),)
    bench.then(Waited(False), 2.0).then(Promotion(depth=8))
    assert tick_of(bench.decision).depth == 8


# Errors


def test_transient_errors_back_off_50_100_200_400_and_then_400_ms():
    bench = Bench()
    waits = []
    for _ in range(6):
        bench.then(Failed(LOST_TOUCH))
        assert bench.decision.reports == (LOST_TOUCH,)
        assert bench.wait.reason is Reason.BACKOFF
        assert bench.wait.deaf
        waits.append(round(bench.wait.seconds * 1000))
        assert bench.then(Waited(False)).action == Lock()
    assert waits == [50, 100, 200, 400, 400, 400]


def test_the_backoff_is_jittered_by_a_tenth_at_most():
    machine = Machine(PromoterSettings(queue="q"), fused=FUSED, jitter=lambda: 1.0)
    machine.start(0.0)
    wait = machine.handle(Failed(LOST_TOUCH), 0.0).action
    assert wait.seconds == pytest.approx(0.055)


def test_a_good_tick_resets_the_backoff():
    bench = Bench().leads()
    for _ in range(3):
        bench.then(Failed(LOST_TOUCH)).then(Waited(False), bench.wait.seconds)
    bench.then(Promotion()).then(Waited(False)).then(Failed(LOST_TOUCH))
    assert bench.wait.seconds == pytest.approx(0.05)


def test_a_leader_tries_to_promote_again_after_a_transient_error():
    bench = Bench().leads().then(Failed(LOST_TOUCH)).then(Waited(False), 0.05)
    assert isinstance(bench.action, Promote)


@pytest.mark.parametrize("phase", [Cleanup, Emit])
def test_a_failed_cleanup_or_emit_is_reported_and_the_tick_goes_on(phase):
    bench = Bench(fused=frozenset()).leads(Promotion(promoted=1, jobs=(JOB,)))
    if phase is Emit:
        bench.then(Done())
    assert isinstance(bench.action, phase)
    bench.then(Failed(LOST_TOUCH))
    assert bench.decision.reports == (LOST_TOUCH,)
    assert isinstance(bench.action, Emit if phase is Cleanup else Wait)


def test_a_permanent_error_of_a_leader_releases_the_lock_and_stops_with_it():
    bench = Bench().leads().then(Failed(REFUSED))
    assert bench.decision.reports == (REFUSED,)
    assert bench.action == Unlock(LEASE)
    assert bench.then(Done()).action == Stop(REFUSED)
    assert bench.machine.state is State.STOPPED


def test_a_permanent_error_of_a_follower_stops_with_it():
    bench = Bench().then(LeaseHeld(100)).then(Failed(REFUSED))
    assert bench.action == Stop(REFUSED)


# Shutdown


def test_shutdown_before_the_start_stops_at_once():
    machine = Machine(PromoterSettings(queue="q"))
    machine.shutdown()
    assert machine.start(0.0).action == Stop(None)


def test_shutdown_of_a_waiting_leader_releases_the_lock():
    bench = Bench().leads(Promotion())
    bench.machine.shutdown()
    assert bench.then(Waited(False)).action == Unlock(LEASE)
    assert bench.then(Done()).action == Stop(None)


def test_shutdown_of_a_waiting_follower_just_stops():
    bench = Bench().then(LeaseHeld(500))
    bench.machine.shutdown()
    assert bench.then(Waited(False)).action == Stop(None)


def test_shutdown_finishes_the_tick_under_way():
    bench = Bench(fused=frozenset()).then(LEASE)
    bench.machine.shutdown()
    bench.then(Promotion(promoted=10, jobs=(JOB,) * 10))
    assert bench.action == Cleanup((JOB,) * 10)
    assert bench.then(Done()).action == Emit((JOB,) * 10)
    assert bench.then(Done()).action == Unlock(LEASE)


def test_a_lock_granted_after_shutdown_is_released_again():
    bench = Bench()
    bench.machine.shutdown()
    assert bench.then(LEASE).action == Unlock(LEASE)


def test_a_lock_whose_reply_was_lost_is_released_too():
    bench = Bench()
    bench.machine.shutdown()
    assert bench.then(Failed(LOST_TOUCH)).action == Unlock(LEASE)


def test_a_failed_release_stops_all_the_same():
    bench = Bench().leads()
    bench.machine.shutdown()
    bench.then(Promotion())
    assert bench.then(Failed(LOST_TOUCH)).action == Stop(None)


# Until idle


def test_until_idle_ends_when_nothing_is_due():
    bench = Bench(until_idle=True).leads(Promotion(promoted=10))
    assert isinstance(bench.action, Promote)
    bench.then(Promotion(promoted=2, depth=1, next_due_ms=2_000, now_ms=1_000))
    assert bench.action == Unlock(LEASE)


def test_until_idle_goes_on_while_due_jobs_are_held_back():
    bench = Bench(until_idle=True).leads(Promotion(held_back=1, oldest_pending_lag_ms=5))
    assert isinstance(bench.action, Wait)


def test_until_idle_a_follower_looks_whether_anything_is_due():
    bench = Bench(until_idle=True).then(LeaseHeld(5_000))
    assert bench.action == Look()
    assert isinstance(bench.then(stats(due=1)).action, Wait)
    assert bench.then(Waited(False)).action == Lock()
    assert bench.then(LeaseHeld(5_000)).then(stats(due=0)).action == Stop(None)


def stats(due: int) -> QueueStats:
    return QueueStats(1, due, due, 0, None, 0, 0, 0, "other", 5_000)


# What is asked of the backend


def test_the_request_says_what_the_settings_say():
    bench = Bench(want_jobs=False, events=False, max_stream_len=7, overflow="trim", events_max_stream_len=9).leads()
    request = bench.action.request
    assert (request.limit, request.max_stream_len, request.overflow) == (10, 7, "trim")
    assert (request.events, request.events_max_stream_len, request.want_jobs) == (False, 9, False)


def test_jobs_are_asked_for_when_a_phase_needs_them():
    assert Bench(fused=frozenset(), want_jobs=False).leads().action.request.want_jobs


def test_an_outcome_that_does_not_belong_to_the_action_is_refused():
    with pytest.raises(TypeError, match="no outcome of"):
        Bench().then(Promotion())
