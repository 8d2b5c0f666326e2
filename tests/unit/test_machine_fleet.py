"""A fleet tells a machine more than outcomes: an action is performed only now, and the lease was renewed."""

from __future__ import annotations

import pytest

from promoter_core.engine.actions import Failed, Lock, NotReleased, Promote, Reason, Unlock, Wait, Waited
from promoter_core.engine.machine import State
from promoter_core.spi import ChangeKind, LeaseHeld, Promotion, Renewal, Tick
from tests.typed import present
from tests.unit.machine_bench import LEASE, LOST_TOUCH, Bench, about


class FleetBench(Bench):
    """Its lease of 6 s is renewed by others, and by a tick only once 4 s of it are used."""

    def __init__(self, **options):
        super().__init__(in_fleet=True, **options)

    def performed(self, after_s):
        """The action waits for its turn."""
        self.now_s += after_s
        self.machine.dispatched(self.now_s)
        return self

    def renewed(self, after_s=0.0, took_s=0.0, **seen):
        """A renewal is asked for after a time, and shows this."""
        asked_s = self.now_s + after_s
        self.now_s = asked_s + took_s
        seen = {"now_ms": 2_000, "due": False, "next_due_ms": None} | seen
        return self.machine.lease_renewed(Renewal(**seen), asked_s, self.now_s)


def test_a_lease_counts_from_when_it_is_asked_for_and_not_from_when_that_was_decided():
    bench = FleetBench().performed(5.0).then(LEASE, 0.5)
    bench.then(Promotion())
    assert bench.wait == Wait(about(3.5), Reason.RENEW, ChangeKind.JOBS)


def test_a_ticks_duration_counts_from_when_it_is_asked_for():
    bench = FleetBench().then(LEASE).performed(2.0).then(Promotion(depth=1), 0.25)
    assert bench.decision.reports == (Tick(Promotion(depth=1), 0.25),)


def test_the_next_due_time_counts_from_when_the_tick_was_asked_for():
    bench = FleetBench().then(LEASE).performed(1.0).then(Promotion(next_due_ms=1_500, now_ms=1_000), 0.25)
    assert bench.wait.seconds == pytest.approx(0.25)


def test_a_fleets_machine_renews_with_its_ticks_only_when_others_have_not_for_two_thirds_of_the_lease():
    bench = FleetBench().leads(Promotion()).then(Waited(True), 3.9)
    assert not bench.request.renew
    bench.then(Promotion(promoted=1)).then(Waited(True), 0.2)
    assert bench.request.renew


def test_a_renewed_lease_lets_the_wait_for_the_renewal_go_on():
    bench = FleetBench().leads(Promotion())
    assert bench.wait.seconds == pytest.approx(4.0)
    assert bench.renewed(after_s=1.5) is None, "the wait that is under way ends before"
    bench.now_s += 2.5
    wait = bench.machine.resume_wait(bench.now_s)
    assert wait == Wait(about(1.5), Reason.RENEW, ChangeKind.JOBS)
    bench.now_s += 1.5
    assert bench.machine.resume_wait(bench.now_s) is None, "it was not renewed again"
    assert isinstance(bench.then(Waited(False)).action, Promote)
    assert bench.request.renew


def test_a_wait_that_goes_on_can_be_shortened_as_any_other():
    bench = FleetBench().leads(Promotion())
    bench.renewed(after_s=1.5)
    bench.now_s += 2.5
    assert present(bench.machine.resume_wait(bench.now_s)).seconds == pytest.approx(1.5)
    assert bench.renewed(after_s=0.5, now_ms=2_000, next_due_ms=2_500).seconds == pytest.approx(0.5)


def test_a_wait_for_something_else_does_not_go_on():
    bench = FleetBench().leads(Promotion(next_due_ms=2_000, now_ms=1_000))
    assert bench.wait.reason is Reason.NEXT_DUE
    bench.now_s += 1.0
    assert bench.machine.resume_wait(bench.now_s) is None
    assert FleetBench().then(LeaseHeld(500)).machine.resume_wait(100.5) is None


def test_a_renewal_that_shows_an_earlier_job_shortens_the_wait_each_time():
    bench = FleetBench().leads(Promotion())
    wait = bench.renewed(after_s=1.0, took_s=0.1, next_due_ms=2_500)
    assert wait == Wait(about(0.4), Reason.NEXT_DUE, ChangeKind.JOBS)
    assert bench.renewed(after_s=0.1, next_due_ms=2_300, now_ms=2_100) is not None, "earlier than that one"
    assert bench.renewed(after_s=0.1, next_due_ms=2_300, now_ms=2_200) is None, "the same"


@pytest.mark.parametrize("outcome", [LeaseHeld(500), Failed(LOST_TOUCH)])
def test_who_does_not_lead_has_no_use_for_a_renewal(outcome):
    bench = FleetBench().then(outcome)
    action = bench.action
    assert bench.renewed(next_due_ms=2_001) is None
    assert bench.machine.state is State.FOLLOWER
    assert bench.then(Waited(False)).action == Lock(), action


def test_a_renewed_lease_keeps_a_leader_whose_ticks_fail():
    bench = FleetBench().leads()
    for _ in range(20):
        bench.then(Failed(LOST_TOUCH), 0.5)
        assert bench.renewed() is None, "a backoff is kept"
        bench.then(Waited(False), bench.wait.seconds)
        assert isinstance(bench.action, Promote)
    bench.then(Failed(LOST_TOUCH), 6.0).then(Waited(False))
    assert bench.machine.state is State.FOLLOWER


def test_after_a_shutdown_a_wait_is_neither_shortened_nor_resumed():
    bench = FleetBench().leads(Promotion())
    bench.machine.shutdown()
    assert bench.renewed(after_s=0.5, next_due_ms=2_001) is None
    bench.now_s += 3.5
    assert bench.machine.resume_wait(bench.now_s) is None
    assert bench.then(Waited(False)).action == Unlock(LEASE)


def test_what_is_left_of_a_lease_that_could_not_be_released_counts_from_its_last_renewal():
    bench = FleetBench().leads(Promotion())
    bench.renewed(after_s=3.0)
    bench.machine.shutdown()
    bench.then(Waited(False), 1.0)
    bench.then(Failed(LOST_TOUCH), 0.5)
    (left_s,) = [report.left_s for report in bench.decision.reports if isinstance(report, NotReleased)]
    assert left_s == pytest.approx(4.5)


def test_a_renewal_while_a_tick_is_under_way_is_kept_for_the_next():
    bench = FleetBench().leads()
    assert bench.renewed(after_s=1.0, took_s=0.1, next_due_ms=2_100) is None
    bench.then(Promotion())
    assert bench.wait == Wait(about(3.9), Reason.RENEW, ChangeKind.JOBS), "by the lease, and what the tick saw"
