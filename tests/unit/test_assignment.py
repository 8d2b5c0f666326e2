"""`Assignment` and `Announcements` by themselves: which queues are led here, and which are announced to the others."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from promoter_core import PermanentError, TransientError
from promoter_core.runner.fleet import assignment as module
from promoter_core.runner.fleet.assignment import ANNOUNCED, IDLE_S, SUSPEND_S, Announcements, Assignment

REFUSED = PermanentError("no", code="NOPERM")


class Pool:
    """Serves queues without a backend: `lead` and `retire` are all that an assignment asks of it."""

    def __init__(self, clock):
        self.queues = {}
        self.room, self.lock_room = 8, 4
        self.led, self.retired = [], []
        self._clock = clock

    def lead(self, queue):
        self.led.append(queue)
        self.queues[queue] = SimpleNamespace(queue=queue, handed_over=False, busy_s=self._clock.monotonic(), due_s=0.0)

    def retire(self, queue):
        self.retired.append(queue)
        self.queues[queue].handed_over = True

    def end(self, assignment, queue, error=None):
        """Its machine has stopped."""
        del self.queues[queue]
        return assignment.ended(queue, error)


class Membership:
    """`mine` are this process's."""

    def __init__(self, *mine):
        self.mine = set(mine)
        self.added = set()

    def owns(self, queue):
        return queue in self.added and queue in self.mine

    def add_queue(self, queue):
        self.added.add(queue)

    def drop_queue(self, queue):
        self.added.discard(queue)


@pytest.fixture
def pool(clock, monkeypatch):
    monkeypatch.setattr(module, "SLICE_S", 60.0)  # the machine may be busy
    return Pool(clock)


def assign(pool, clock, membership=None, listed=(), *, until_idle=False, forget=lambda queue: None):
    assignment = Assignment(pool, membership, frozenset(listed), clock, until_idle=until_idle, forget=forget)
    for queue in listed:
        assignment.add(queue)
    assignment.unsettle()
    return assignment


def announced(assignment):
    return list(assignment.announcements._queues)


# Settling


def test_without_membership_every_known_queue_is_led_here(pool, clock):
    assignment = assign(pool, clock, listed=["b", "a"])
    assert not assignment.settled
    assignment.settle()
    assert pool.led == ["a", "b"]
    assert assignment.settled
    assert not assignment.pending
    assert announced(assignment) == [], "nobody else has to know"


def test_a_member_leads_what_it_owns_and_leaves_the_rest(pool, clock):
    membership = Membership("a", "c")
    assignment = assign(pool, clock, membership, ["a", "b", "c"])
    assignment.settle()
    assert pool.led == ["a", "c"]
    assert membership.added == {"a", "b", "c"}, "the owner of each can be asked for"
    assert [assignment.owns(q) for q in "abc"] == [True, False, True]


def test_what_has_become_anothers_is_handed_over_once_and_announced_to_it(pool, clock):
    membership = Membership("a", "b")
    assignment = assign(pool, clock, membership, ["a", "b"])
    assignment.settle()
    membership.mine = {"b"}
    for _ in range(3):
        assignment.unsettle()
        assignment.settle()
    assert pool.retired == ["a"]
    assert announced(assignment) == ["a"], "its new leader may not know it"
    assert pool.led == ["a", "b"]


def test_a_queue_that_is_ours_again_before_it_was_released_is_led_again_at_its_end(pool, clock):
    membership = Membership("a")
    assignment = assign(pool, clock, membership, ["a"])
    assignment.settle()
    for mine in (set(), {"a"}):
        membership.mine = mine
        assignment.unsettle()
        assignment.settle()
    assert (pool.led, pool.retired) == (["a"], ["a"]), "it is still being released"
    assert not pool.end(assignment, "a"), "it is served, so nothing of it is forgotten"
    assert pool.led == ["a", "a"]
    membership.mine = set()
    assignment.unsettle()
    assignment.settle()
    assert pool.end(assignment, "a"), "served no longer"


def test_a_slice_takes_over_no_more_than_there_is_room_for(pool, clock):
    queues = [f"q{i:02}" for i in range(10)]
    assignment = assign(pool, clock, listed=queues)
    sizes = []
    while assignment.pending:
        assert not assignment.settled
        assignment.settle()
        sizes.append(len(pool.led))
    assert sizes == [4, 8, 10]
    assert pool.led == queues, "in one order in every process"
    for queue in (more := [f"r{i}" for i in range(6)]):
        assignment.add(queue)
    assignment.unsettle(more)
    assignment.settle()
    assert assignment.pending
    assert assignment.settled, "it has been, and stays so"


def test_a_slice_hands_over_no_more_than_there_is_room_for(pool, clock):
    queues = [f"q{i:02}" for i in range(20)]
    membership, pool.lock_room = Membership(*queues), 100
    assignment = assign(pool, clock, membership, queues)
    assignment.settle()
    membership.mine = set()
    assignment.unsettle()
    sizes = []
    while assignment.pending:
        assignment.settle()
        sizes.append(len(pool.retired))
    assert sizes == [8, 16, 20]
    assert pool.retired == queues


def test_a_slice_ends_when_its_time_is_up(pool, clock, monkeypatch):
    assignment, pool.lock_room = assign(pool, clock, listed=[f"q{i:02}" for i in range(10)]), 100
    times = itertools.count(0.0, 0.002)  # each look takes 2 ms
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    monkeypatch.setattr(module, "SLICE_S", 0.005)
    assignment.settle()
    assert len(pool.led) == 2
    assert assignment.pending


def test_a_queue_whose_lock_was_released_is_settled_before_the_others(pool, clock):
    assignment = assign(pool, clock, listed=["a", "b", "c", "d"])
    pool.lock_room = 1
    assignment.settle_first({"c", "unknown"})
    assignment.settle()
    assert pool.led == ["c"]
    assignment.settle()
    assert pool.led == ["c", "a"]


def test_settling_first_adds_nothing_that_is_settled(pool, clock):
    assignment = assign(pool, clock, listed=["a"])
    assignment.settle()
    assignment.settle_first({"a"})
    assert not assignment.pending


# Failed queues


def test_a_queue_that_failed_is_suspended_with_its_error_and_tried_again(pool, clock):
    assignment = assign(pool, clock, listed=["a", "b"])
    assignment.settle()
    assert assignment.next_retry_s() is None
    clock.jump(5)
    assert not pool.end(assignment, "a", REFUSED), "its error is kept for health"
    assert assignment.errors == {"a": REFUSED}
    assert assignment.next_retry_s() == 5 + SUSPEND_S
    assignment.unsettle()
    assignment.settle()
    assert pool.led == ["a", "b"], "not while it is suspended"
    clock.jump(SUSPEND_S - 1)
    assignment.retry_suspended()
    assert not assignment.pending
    clock.jump(1)
    assignment.retry_suspended()
    assert (assignment.errors, assignment.next_retry_s()) == ({}, None)
    assignment.settle()
    assert pool.led == ["a", "b", "a"]


def test_queues_are_tried_again_in_the_order_in_which_they_failed(pool, clock):
    assignment = assign(pool, clock, listed=["a", "b"])
    assignment.settle()
    pool.end(assignment, "b", REFUSED)
    clock.jump(1)
    pool.end(assignment, "a", REFUSED)
    clock.jump(SUSPEND_S - 1)
    assignment.retry_suspended()
    assert list(assignment.errors) == ["a"]
    assert assignment.next_retry_s() == 1 + SUSPEND_S


# Queues that are gone, or idle


def test_a_queue_of_anothers_is_dropped_when_two_sweeps_in_a_row_have_not_found_it(pool, clock):
    membership = Membership("ours")
    assignment = assign(pool, clock, membership, ["listed"])
    for queue in ("ours", "gone", "there"):
        assignment.add(queue)
    assignment.unsettle()
    assignment.settle()
    for found, known in (
        ({"there"}, ["gone", "there"]),
        ({"there", "gone"}, ["gone", "there"]),  # it is back
        ({"there"}, ["gone", "there"]),
        ({"there"}, ["there"]),
    ):
        assignment.swept(found)
        assert [q for q in ("gone", "there") if assignment.knows(q)] == known
    assert assignment.knows("listed"), "whatever sweeps find"
    assert assignment.knows("ours"), "it is served here"
    assert "gone" not in membership.added
    assignment.add("gone")
    assignment.swept({"there"})
    assert assignment.knows("gone"), "it is found again, and so missed for the first time"


def test_a_found_queue_that_has_had_nothing_to_do_for_long_is_dropped_and_a_listed_one_is_not(pool, clock):
    assignment = assign(pool, clock, listed=["listed"])
    for queue in ("idle", "busy"):
        assignment.add(queue)
    assignment.unsettle()
    assignment.settle()
    clock.jump(IDLE_S - 1)
    pool.queues["busy"].busy_s = clock.monotonic()
    assignment.drop_idle(list(pool.queues.values()))
    assert pool.retired == []
    clock.jump(2)
    assignment.drop_idle(list(pool.queues.values()))
    assert pool.retired == ["idle"]
    assert [assignment.knows(q) for q in ("listed", "busy", "idle")] == [True, True, False]
    assert pool.end(assignment, "idle"), "it is not led again"
    assert pool.led.count("idle") == 1


def test_idle_queues_are_dropped_some_at_a_time(pool, clock):
    assignment, pool.lock_room = assign(pool, clock), 100
    for i in range(20):
        assignment.add(f"q{i:02}")
    assignment.unsettle()
    assignment.settle()
    clock.jump(IDLE_S + 1)
    assignment.drop_idle(list(pool.queues.values()))
    assert len(pool.retired) == pool.room


# The end


def test_a_stop_hands_everything_over_and_announces_nothing(pool, clock):
    assignment = assign(pool, clock, Membership("a", "b"), ["a", "b"])
    assignment.settle()
    assignment.add("c")
    assignment.unsettle(["c"])
    assignment.stop()
    assignment.settle()
    assert pool.led == ["a", "b"], "nothing new is led"
    assert pool.retired == ["a", "b"]
    assert announced(assignment) == [], "whoever is left knows them"
    assert pool.end(assignment, "a")
    assert pool.led == ["a", "b"], "it is not led again, although it is ours"


def test_until_idle_a_queue_that_has_ended_is_not_led_again(pool, clock):
    assignment = assign(pool, clock, listed=["a"], until_idle=True)
    assignment.settle()
    assert pool.end(assignment, "a")
    assert pool.led == ["a"]


# Announcements


class Others:
    """Keeps what is announced; `fails` are the calls that raise."""

    def __init__(self, *fails):
        self.calls, self.fails = [], list(fails)

    async def announce(self, queues):
        self.calls.append(list(queues))
        await asyncio.sleep(0)
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error


@pytest.fixture
async def announcing():
    """Starts announcements on a backend; they end with the test."""
    tasks = []

    def start(others):
        announcements = Announcements()
        tasks.append(asyncio.create_task(announcements.run(others)))
        return announcements

    yield start
    for task in tasks:
        assert not task.done(), "it runs until it is cancelled"
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_queues_are_announced_once_in_order_and_many_at_a_time(announcing):
    others = Others()
    announcements = announcing(others)
    await settled()
    assert others.calls == [], "nothing to announce"
    queues = [f"q{i}" for i in range(ANNOUNCED + 3)]
    for queue in [*queues, *queues]:
        announcements.add(queue)
    await settled()
    assert others.calls == [queues[:ANNOUNCED], queues[ANNOUNCED:]]
    announcements.add("q0")
    await settled()
    assert others.calls[2:] == [["q0"]], "when it is added again"


@pytest.mark.parametrize("error", [TransientError("gone", code="CONNECTION"), REFUSED, RuntimeError("bug")])
async def test_an_announcement_that_fails_is_left_to_the_sweeps_of_the_others(announcing, error):
    others = Others(error)
    announcements = announcing(others)
    announcements.add("a")
    await settled()
    announcements.add("b")
    await settled()
    assert others.calls == [["a"], ["b"]], "it goes on, and repeats nothing"


async def test_what_is_added_while_an_announcement_is_under_way_comes_next(announcing):
    class Slow(Others):
        async def announce(self, queues):
            if not self.calls:
                announcements.add("a")
                announcements.add("b")
            await super().announce(queues)

    others = Slow()
    announcements = announcing(others)
    announcements.add("a")
    await settled()
    assert others.calls == [["a"], ["a", "b"]]


@pytest.mark.parametrize("since", ["another's", "gone", "ours"])
async def test_a_failed_queue_is_forgotten_when_its_time_has_come_and_it_is_not_served_again(pool, clock, since):
    membership = Membership("a")
    forgotten: list[str] = []
    assignment = assign(pool, clock, membership, listed=["a"], forget=forgotten.append)
    assignment.settle()
    assert not pool.end(assignment, "a", PermanentError("WRONGTYPE", code="WRONGTYPE"))
    if since == "another's":
        membership.mine = set()
    elif since == "gone":
        assignment.drop("a")
    assignment.unsettle()
    assignment.settle()
    assert not forgotten, "it has failed, and its figures say so"
    await clock.sleep(SUSPEND_S)
    assignment.retry_suspended()
    assignment.settle()
    assert forgotten == ([] if since == "ours" else ["a"])
    assert ("a" in pool.queues) is (since == "ours")
