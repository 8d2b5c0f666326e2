"""`Leadership` by itself: one lease, from its grant to its loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promoter_core import PromoterSettings
from promoter_core.engine.actions import Cleanup, Emit, Promote, Reason, Wait
from promoter_core.engine.batch_size import BatchSize
from promoter_core.engine.leadership import Duties, End, Leadership
from promoter_core.engine.pacing import DEBOUNCE_MS
from promoter_core.spi import ChangeKind, Lease, Phase, Promotion, Renewal
from tests.unit.machine_bench import JOB, about

LEASE = Lease("q", "me", 6_000)
DUTIES = Duties(phases=(), want_jobs=False, want_traces=False, until_idle=False, renew_used=1 / 3)
BOTH = (Phase.CLEANUP, Phase.EMIT)


class Term:
    """A leadership and the time: asked for at 100 s, granted at 100.5 s."""

    def __init__(self, batch=None, **duties):
        self.batch = batch or BatchSize(10, 0)
        self.leads = Leadership(
            LEASE, PromoterSettings(lock_ttl_ms=6_000), replace(DUTIES, **duties), self.batch, asked_s=100.0
        )
        self.now_s = 100.5
        self.step = self.leads.promote(self.now_s)

    def tick(self, after_s=0.0, **promotion):
        """The tick that was asked for takes `after_s` and gives this."""
        assert isinstance(self.step, Promote)
        asked_s, self.now_s = self.now_s, self.now_s + after_s
        self.step = self.leads.promoted(self.step.request, Promotion(**promotion), asked_s, self.now_s)
        return self

    def waited(self, changed=False, after_s=None):
        """The wait that was asked for is over."""
        assert isinstance(self.step, Wait)
        began_s = self.now_s
        self.now_s += self.step.seconds if after_s is None else after_s
        self.step = self.leads.waited(self.step, changed, began_s, self.now_s)
        return self

    @property
    def ms(self):
        assert isinstance(self.step, Wait)
        return round(self.step.seconds * 1000)


def request_of(step):
    assert isinstance(step, Promote)
    return step.request


# The lease


def test_the_lease_counts_from_when_it_was_asked_for():
    term = Term()
    assert term.leads.deadline_s == 106.0
    assert isinstance(term.leads.promote(105.999), Promote)
    assert term.leads.promote(106.0) is End.LEASE


@pytest.mark.parametrize(("used", "renew_s"), [(1 / 3, 102.0), (2 / 3, 104.0)])
def test_a_tick_renews_once_the_given_part_of_the_lease_is_used(used, renew_s):
    leads = Term(renew_used=used).leads
    assert not leads.wants_renewal(renew_s - 0.1)
    assert not request_of(leads.promote(renew_s - 0.1)).renew
    assert leads.wants_renewal(renew_s)
    assert request_of(leads.promote(renew_s)).renew


def test_only_a_tick_that_renews_moves_the_deadline():
    term = Term().tick(promoted=10)
    assert term.leads.deadline_s == 106.0
    term.now_s = 102.5
    term.step = term.leads.promote(102.5)
    term.tick(0.3)
    assert term.leads.deadline_s == 108.5, "from when that tick was asked for"


def test_a_backlog_is_not_drained_beyond_the_lease():
    assert Term().tick(6.0, promoted=10).step is End.LEASE


def test_a_phase_is_still_done_after_the_lease():
    term = Term(phases=BOTH).tick(6.0, promoted=10, jobs=(JOB,))
    assert term.step == Cleanup((JOB,)), "the jobs are in the stream: nobody else does it"
    assert term.leads.next_phase(term.now_s) == Emit((JOB,))
    assert term.leads.next_phase(term.now_s) is End.LEASE


@pytest.mark.parametrize("want_jobs", [True, False])
@pytest.mark.parametrize("want_traces", [True, False])
def test_a_tick_asks_for_what_the_duties_want(want_jobs, want_traces):
    step = Term(want_jobs=want_jobs, want_traces=want_traces).step
    assert isinstance(step, Promote)
    assert (step.lease, step.request.limit) == (LEASE, 10)
    assert (step.request.want_jobs, step.request.want_traces) == (want_jobs, want_traces)


# What comes after a tick


def test_phases_are_owed_by_the_tick_that_moved_the_jobs_and_come_before_the_next():
    term = Term(phases=BOTH, want_jobs=True).tick(promoted=10, jobs=(JOB,) * 10)
    steps = [term.step, term.leads.next_phase(term.now_s), term.leads.next_phase(term.now_s)]
    assert [type(step) for step in steps] == [Cleanup, Emit, Promote]
    term.step = steps[-1]
    assert isinstance(term.tick(promoted=0).step, Wait), "nothing is owed for no jobs"


@pytest.mark.parametrize(
    ("promotion", "drains"),
    [
        ({"promoted": 10}, True),
        ({"promoted": 9, "malformed": 1}, True),
        ({"promoted": 3, "oldest_pending_lag_ms": 7}, True),  # a batch that was full in bytes
        ({"promoted": 9}, False),
        ({"promoted": 3, "oldest_pending_lag_ms": 7, "held_back": 2}, False),  # the stream is full
        ({"oldest_pending_lag_ms": 7}, False),  # nothing moved: asking again at once would spin
    ],
)
def test_it_drains_while_the_next_tick_can_move_more(promotion, drains):
    assert isinstance(Term().tick(**promotion).step, Promote if drains else Wait)


def test_a_batch_is_full_by_what_was_asked_for_and_not_by_what_is_asked_for_next():
    term = Term(BatchSize(10, 5)).tick(promoted=7, work_ms=50.0)
    assert term.batch.limit <= 7, "it has shrunk with that tick"
    assert isinstance(term.step, Wait)


def test_until_idle_it_ends_when_nothing_is_due_and_not_before():
    term = Term(until_idle=True).tick(promoted=10)
    assert isinstance(term.step, Promote)
    assert isinstance(term.tick(held_back=1, oldest_pending_lag_ms=9).step, Wait)
    assert term.waited().tick(promoted=1, depth=5, next_due_ms=2_000, now_ms=1_000).step is End.IDLE


def test_until_idle_the_phases_of_the_last_jobs_come_before_the_end():
    term = Term(until_idle=True, phases=(Phase.EMIT,)).tick(promoted=1, jobs=(JOB,))
    assert term.step == Emit((JOB,))
    assert term.leads.next_phase(term.now_s) is End.IDLE


def test_rest_counts_from_when_the_last_tick_was_asked_for_and_goes_on_from_now():
    term = Term().tick(0.2, depth=1, next_due_ms=1_900, now_ms=1_000)
    assert term.step == Wait(about(0.7), Reason.NEXT_DUE, ChangeKind.JOBS)
    assert term.leads.rest(term.now_s + 0.5).seconds == pytest.approx(0.2)
    assert term.leads.rest(term.now_s + 5).seconds == pytest.approx(0.001), "never less"


def test_it_looks_again_after_poll_s_where_changes_are_not_noticed():
    term = Term()
    term.leads.poll_s = 0.25
    assert term.tick().step == Wait(0.25, Reason.POLL, ChangeKind.JOBS)
    term.leads.poll_s = None
    assert term.waited().tick().step.reason is Reason.RENEW


# Wakes


def test_a_wake_that_found_nothing_is_followed_by_a_pause_and_then_by_rest():
    term = Term().tick().waited(True, 0.5).tick()
    assert (term.ms, term.step.reason) == (DEBOUNCE_MS[0], Reason.DEBOUNCE)
    assert term.waited().step.interruptible
    assert isinstance(term.waited(False).step, Promote), "a pause is no wake, nor is the end of a wait"
    assert term.tick().step.reason is not Reason.DEBOUNCE


@pytest.mark.parametrize("moved", [{"promoted": 1}, {"malformed": 1}])
def test_a_wake_that_found_something_is_followed_by_no_pause(moved):
    assert Term().tick().waited(True).tick(**moved).step.interruptible


def test_pauses_grow_while_wakes_come_at_once_and_begin_anew_when_one_takes_its_time():
    term, pauses = Term().tick(), []
    for after_s in (0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0):
        term.waited(True, after_s).tick()
        pauses.append(term.ms)
        term.waited()
    assert pauses == [2, 4, 8, 10, 10, 2, 4]


def test_a_tick_that_failed_was_no_wakes():
    term = Term().tick().waited(True)
    term.leads.failed()
    assert term.tick().step.interruptible


def test_a_pause_ends_by_the_next_due_time():
    term = Term().tick().waited(True).tick().waited().waited(True, 0.0)
    assert term.tick(depth=1, next_due_ms=1_001, now_ms=1_000).ms == 1


# A renewal from outside


def resting(next_due_ms=None):
    """A leadership at rest since 100.5 s, and its wait."""
    term = Term(renew_used=2 / 3).tick(depth=1, next_due_ms=next_due_ms, now_ms=1_000)
    return term.leads, term.step


def test_a_renewal_from_outside_moves_the_deadline_and_what_the_next_tick_renews():
    leads, wait = resting()
    assert leads.renewed(Renewal(1_800, False, None), 101.3, wait, 100.5, 101.4) is None, (
        "the wait that is under way ends before"
    )
    assert leads.deadline_s == pytest.approx(107.3)
    assert not leads.promote(105.0).request.renew
    assert leads.promote(105.3).request.renew


@pytest.mark.parametrize(
    ("next_due_ms", "seen_ms", "shorter_s"),
    [
        (
            None,
            2_300,
            0.4,
        ),  # a job whose push was lost, due 0.5 s after the renewal was asked for, 0.1 s ago
        (4_000, 2_300, 0.4),  # an earlier one
        (4_000, 4_000, None),  # the same
        (2_300, 4_000, None),  # it was cancelled: the wait may end early, and finds nothing
    ],
)
def test_a_renewal_shortens_the_wait_when_it_shows_an_earlier_job_and_never_lengthens_it(
    next_due_ms, seen_ms, shorter_s
):
    leads, wait = resting(next_due_ms)
    shorter = leads.renewed(Renewal(1_800, False, seen_ms), 101.3, wait, 100.5, 101.4)
    assert shorter == (shorter_s and Wait(about(shorter_s), Reason.NEXT_DUE, ChangeKind.JOBS))


def test_a_step_that_began_after_the_renewal_was_asked_for_knows_more():
    leads, wait = resting(4_000)
    assert leads.renewed(Renewal(1_800, False, 1_801), 101.3, wait, 101.35, 101.4) is None
    assert leads.rest(101.4).seconds == pytest.approx(2.1), "it counts from what that step saw"
    assert leads.deadline_s == pytest.approx(107.3), "renewed it is all the same"


def test_a_renewal_while_a_step_is_under_way_changes_nothing_else():
    leads, _ = resting(4_000)
    assert leads.renewed(Renewal(1_800, False, 1_801), 101.3, None, 101.0, 101.4) is None
    assert leads.rest(101.4).seconds == pytest.approx(2.1)


@pytest.mark.parametrize("reason", [Reason.DEBOUNCE, Reason.BACKOFF])
def test_a_renewal_ends_no_pause(reason):
    leads, _ = resting(4_000)
    pause = Wait(1.0, reason, ChangeKind.JOBS)
    assert leads.renewed(Renewal(1_800, False, 1_801), 101.3, pause, 101.2, 101.4) is None
    assert leads.rest(101.4).seconds == pytest.approx(0.001), "but what it has shown comes next"


# What outlives it


def test_the_batch_describes_the_store_and_outlives_the_leadership():
    batch = BatchSize(10, 5)
    Term(batch).tick(promoted=10, work_ms=1_000.0)
    assert batch.limit < 10
    assert request_of(Term(batch).step).limit == batch.limit


def test_a_new_leadership_knows_nothing_of_the_last_one():
    term = Term().tick().waited(True, 0.0).tick()
    assert term.step.reason is Reason.DEBOUNCE
    new = Term(term.batch)
    assert new.tick().step.reason is Reason.RENEW
    assert new.waited(True, 0.0).tick().ms == DEBOUNCE_MS[0]
