"""Every transition of the state machine, by name: errors, shutdown, until idle, and what is asked of a backend."""

from __future__ import annotations

import pytest

from promoter_core import PromoterSettings, QueueStats
from promoter_core.engine.actions import (
    CheckIdle,
    Cleanup,
    Done,
    Emit,
    Failed,
    Lock,
    NotReleased,
    Promote,
    Reason,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.engine.machine import Machine, State
from promoter_core.spi import LeaseHeld, LeaseLost, LockOutcome, Promotion
from tests.unit.machine_bench import FUSED, JOB, LEASE, LOST_TOUCH, REFUSED, Bench

# Errors


def test_transient_errors_back_off_50_100_200_400_and_then_400_ms():
    bench = Bench()
    waits = []
    for _ in range(6):
        bench.then(Failed(LOST_TOUCH))
        assert bench.decision.reports == (LOST_TOUCH,)
        assert bench.wait.reason is Reason.BACKOFF
        assert not bench.wait.interruptible
        waits.append(round(bench.wait.seconds * 1000))
        assert bench.then(Waited(False)).action == Lock()
    assert waits == [50, 100, 200, 400, 400, 400]


def test_the_backoff_is_jittered_by_a_tenth_at_most():
    machine = Machine("q", "me", PromoterSettings(), fused=FUSED, jitter=lambda: 1.0)
    machine.start(0.0)
    wait = machine.handle(Failed(LOST_TOUCH), 0.0).action
    assert isinstance(wait, Wait)
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
    bench = bench.then(Done())
    assert bench.action == Stop(REFUSED)
    assert bench.decision.reports == (LockOutcome.RELEASED,)
    assert bench.machine.state is State.STOPPED


def test_a_permanent_error_of_a_follower_stops_with_it():
    bench = Bench().then(LeaseHeld(100)).then(Failed(REFUSED))
    assert bench.action == Stop(REFUSED)


# Shutdown


def test_shutdown_before_the_start_stops_at_once():
    machine = Machine("q", "me", PromoterSettings())
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


def test_a_failed_release_is_reported_with_what_is_left_of_the_lease_and_stops_all_the_same():
    bench = Bench().leads()
    bench.machine.shutdown()
    bench.then(Promotion())
    assert bench.action == Unlock(LEASE)
    assert LockOutcome.RELEASED not in bench.decision.reports, "not before it is"
    assert bench.then(Failed(LOST_TOUCH), 2.0).action == Stop(None)
    assert bench.decision.reports == (NotReleased(LOST_TOUCH, 4.0), LockOutcome.HELD)


def test_a_release_is_reported_once_it_has_been_done():
    bench = Bench().leads(Promotion())
    bench.machine.shutdown()
    assert bench.then(Waited(False)).decision.reports == ()
    assert bench.then(Done()).decision.reports == (LockOutcome.RELEASED,)


def test_a_lock_that_was_anothers_by_then_is_not_reported_as_released():
    bench = Bench().leads(Promotion())
    bench.machine.shutdown()
    assert bench.then(Waited(False)).then(LeaseLost()).decision.reports == (LockOutcome.HELD,)
    assert bench.action == Stop(None)


def test_a_step_that_was_given_up_releases_what_may_be_held():
    bench = Bench().leads()
    bench.decision = bench.machine.abandon(bench.now_s)
    assert bench.action == Unlock(LEASE)
    bench.decision = bench.machine.abandon(bench.now_s)
    assert bench.action == Unlock(LEASE), "the release itself was given up: once more"
    assert bench.then(Done()).action == Stop(None)
    assert bench.machine.state is State.STOPPED


def test_a_lock_whose_answer_was_given_up_may_be_held_for_a_whole_lease():
    bench = Bench()
    bench.decision = bench.machine.abandon(bench.now_s)
    assert bench.action == Unlock(LEASE)
    assert bench.then(Failed(LOST_TOUCH)).decision.reports == (NotReleased(LOST_TOUCH, 6.0),)


def test_a_follower_that_is_given_up_just_stops():
    bench = Bench().then(LeaseHeld(500))
    assert bench.machine.abandon(bench.now_s).action == Stop(None)


# Until idle


def test_until_idle_ends_when_nothing_is_due():
    bench = Bench(until_idle=True).leads(Promotion(promoted=10))
    assert isinstance(bench.action, Promote)
    bench = bench.then(Promotion(promoted=2, depth=1, next_due_ms=2_000, now_ms=1_000))
    assert bench.action == Unlock(LEASE)


def test_until_idle_goes_on_while_due_jobs_are_held_back():
    bench = Bench(until_idle=True).leads(Promotion(held_back=1, oldest_pending_lag_ms=5))
    assert isinstance(bench.action, Wait)


def test_until_idle_a_follower_looks_whether_anything_is_due():
    bench = Bench(until_idle=True).then(LeaseHeld(5_000))
    assert bench.action == CheckIdle()
    assert isinstance(bench.then(stats(due=1)).action, Wait)
    assert bench.then(Waited(False)).action == Lock()
    assert bench.then(LeaseHeld(5_000)).then(stats(due=0)).action == Stop(None)


def stats(due: int) -> QueueStats:
    return QueueStats(
        now_ms=1,
        depth=due,
        due=due,
        oldest_pending_lag_ms=0,
        next_due_ms=None,
        stream_len=0,
        events_len=0,
        dlq_len=0,
        holder="other",
        lease_remaining_ms=5_000,
    )


# What is asked of the backend


def test_the_request_says_what_the_settings_say():
    bench = Bench(want_jobs=False, events=False, max_stream_len=7, overflow="trim", events_max_stream_len=9).leads()
    request = bench.request
    assert (request.limit, request.max_stream_len, request.overflow) == (10, 7, "trim")
    assert (request.events, request.events_max_stream_len, request.want_jobs) == (False, 9, False)


def test_jobs_are_asked_for_when_a_phase_needs_them():
    assert Bench(fused=frozenset(), want_jobs=False).leads().request.want_jobs


def test_an_outcome_that_does_not_belong_to_the_action_is_refused():
    with pytest.raises(TypeError, match="no outcome of"):
        Bench().then(Promotion())
