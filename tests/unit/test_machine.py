"""Every transition of the state machine, by name: following and leading."""

from __future__ import annotations

import pytest

from promoter_core.engine.actions import Cleanup, Done, Emit, Failed, Lock, Promote, Reason, Wait, Waited
from promoter_core.engine.machine import State
from promoter_core.spi import ChangeKind, LeaseHeld, LeaseLost, LockOutcome, Phase, Promotion, Tick
from tests.unit.machine_bench import JOB, LEASE, LOST_TOUCH, Bench, tick_of

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
    assert bench.wait.change is ChangeKind.LOCK
    assert bench.wait.seconds == pytest.approx(0.701)
    bench = bench.then(Waited(False), 0.7).then(LeaseHeld(700))
    assert bench.decision.reports == ()


@pytest.mark.parametrize("remaining_ms", [None, 60_000])
def test_a_follower_looks_at_the_lock_again_after_follower_poll_at_the_latest(remaining_ms):
    bench = Bench().then(LeaseHeld(remaining_ms))
    assert bench.wait.seconds == pytest.approx(2.001)
    assert bench.wait.reason is Reason.POLL


def test_a_follower_polls_where_the_backend_can_only_poll():
    assert Bench().then(LeaseHeld(5_000), poll_s=0.1).wait.seconds == pytest.approx(0.101)


def test_a_follower_asks_for_the_lock_again_after_its_wait():
    assert Bench().then(LeaseHeld(700)).then(Waited(True)).action == Lock()


# LEADER


def test_a_full_batch_drains_without_waiting():
    bench = Bench().leads(Promotion(promoted=10, depth=5))
    assert isinstance(bench.action, Promote)
    assert tick_of(bench.decision).promoted == 10


def test_malformed_members_count_towards_a_full_batch():
    assert isinstance(Bench().leads(Promotion(promoted=4, malformed=6)).action, Promote)


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
    assert bench.wait.change is ChangeKind.JOBS
    assert bench.wait.interruptible


def test_the_wait_counts_from_when_the_promotion_was_asked_for():
    bench = Bench().then(LEASE).then(Promotion(next_due_ms=1_500, now_ms=1_000), 0.2)
    assert bench.wait.seconds == pytest.approx(0.3)


def test_it_waits_a_third_of_the_lease_at_most_and_then_renews():
    bench = Bench().leads(Promotion(depth=1, next_due_ms=99_000, now_ms=1_000))
    assert bench.wait.reason is Reason.RENEW
    assert bench.wait.seconds == pytest.approx(2.0)
    bench.then(Waited(False), 2.0)
    assert bench.request.renew


def test_the_lease_is_not_renewed_before_a_third_of_it_is_used():
    bench = Bench().leads(Promotion(promoted=10))
    assert not bench.request.renew
    bench.then(Promotion(promoted=10), 1.9)
    assert not bench.request.renew
    bench.then(Promotion(promoted=10), 0.2)
    assert bench.request.renew
    bench.then(Promotion(promoted=10))
    assert not bench.request.renew


def test_it_waits_a_poll_interval_at_most_where_the_backend_can_only_poll():
    bench = Bench().then(LEASE, poll_s=0.1)
    bench.then(Promotion(depth=1, next_due_ms=9_000, now_ms=1_000), poll_s=0.1)
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
        assert bench.wait.reason is Reason.DEBOUNCE
        assert not bench.wait.interruptible
        pauses.append(round(bench.wait.seconds * 1000))
        bench.then(Waited(False), bench.wait.seconds)
        assert bench.wait.interruptible
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
    assert bench.wait.interruptible


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
