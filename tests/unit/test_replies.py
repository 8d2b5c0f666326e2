"""Short, legacy or odd replies of scripts read as zeros and empty; nothing ever raises."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core.spi import JobOutcome, Lease, LeaseHeld, LeaseLost, PromotedJob, Promotion, Renewal, Scheduled
from promoter_resp import replies
from tests.typed import untyped

LEASE = Lease("q", "me", 1_000)


def test_a_full_promote_reply():
    flat = [b"a", b"n", 900, b"1000-0", None, b"", 901, b"1000-1"]
    assert replies.promote_reply([2, 5, 7, 993, 1_000, 1, 3, flat]) == Promotion(
        promoted=2,
        depth=5,
        oldest_pending_lag_ms=7,
        next_due_ms=993,
        now_ms=1_000,
        malformed=1,
        held_back=3,
        jobs=(
            PromotedJob("a", "n", due_ms=900, promoted_ms=1_000, stream_id="1000-0"),
            PromotedJob(None, "", due_ms=901, promoted_ms=1_000, stream_id="1000-1"),
        ),
    )


def test_minus_one_is_a_lost_lease():
    assert replies.promote_reply([-1]) == LeaseLost()


@pytest.mark.parametrize(
    ("reply", "promotion"),
    [
        ([3], Promotion(promoted=3)),
        ([7, 42, 1500], Promotion(promoted=7, depth=42, oldest_pending_lag_ms=1500)),
        (11, Promotion(promoted=11)),  # the reference's oldest script
        (-5, Promotion()),
        ([-3, -1, 0], Promotion()),
        (None, Promotion()),
        (b"OK", Promotion()),
        ([], Promotion()),
        ([5, b"oops", 99], Promotion(promoted=5, oldest_pending_lag_ms=99)),
        ([1, 0, 0, None, 9, 0, 0, [b"a", b"n"]], Promotion(promoted=1, now_ms=9)),
        ([1, 0, 0, None, 9, 0, 0, b"jobs"], Promotion(promoted=1, now_ms=9)),
    ],
)
def test_short_legacy_and_odd_promote_replies(reply, promotion):
    assert replies.promote_reply(reply) == promotion


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ([1], LEASE),
        (1, LEASE),
        ([0, 700], LeaseHeld(700)),
        ([0, -1], LeaseHeld(None)),  # a lock that does not expire
        ([0], LeaseHeld(None)),
        ([0, 700, b"other \xff", 12], LeaseHeld(700, "other \udcff", 12)),
        ([0, -1, b"", -5], LeaseHeld(None)),
        (0, LeaseHeld(None)),
        (None, LeaseHeld(None)),
        (b"x", LeaseHeld(None)),
    ],
)
def test_lock_replies(reply, answer):
    assert replies.lock_reply(reply, LEASE) == answer


anything = st.recursive(
    st.none() | st.integers() | st.binary(max_size=9) | st.text(max_size=9),
    lambda x: st.lists(x, max_size=9),
    max_leaves=20,
)


@given(anything)
def test_no_reply_raises(reply):
    replies.promote_reply(reply)
    replies.lock_reply(reply, LEASE)
    replies.stats_reply(reply)
    assert len(replies.integers(reply, 3)) == 3
    assert len(replies.renew_reply(reply, 3)) == 3


def test_renew_replies():
    answers = replies.renew_reply([1_000, 2, 990, 1, 1_200, 1, None, 0, None, -1, b"WRONGTYPE no sorted set"], 5)
    assert answers[:4] == [
        Renewal(1_000, True, 990),
        Renewal(1_000, False, 1_200),
        Renewal(1_000, False, None),
        LeaseLost(),
    ]
    assert untyped(answers[4]).code == "WRONGTYPE"
    assert replies.renew_reply(None, 2) == [LeaseLost(), LeaseLost()]


@pytest.mark.parametrize(
    ("entry", "added_ms"),
    [(b"1700000000123-4", 1_700_000_000_123), (None, None), (b"x-1", None), (b"9" * 20 + b"-0", None)],
)
def test_the_id_of_an_entry_says_when_it_was_added(entry, added_ms):
    group = [b"workers", 1, 2, entry, b"one"]
    (seen,) = replies.stats_reply([1, 0, 0, None, 1, 0, 0, None, -2, [group], 0]).groups
    assert (seen.pending, seen.undelivered, seen.oldest_pending_ms) == (1, 2, added_ms)


def test_stream_entries_of_both_clients():
    expected = [("1-0", {"d": b"x", "n": b"y"})]
    for reply in (
        [[b"1-0", [b"d", b"x", b"n", b"y"]]],
        {b"1-0": [[b"d", b"x"], [b"n", b"y"]]},
        [(b"1-0", {b"d": b"x", b"n": b"y"})],
    ):
        assert [(e.id, e.fields) for e in replies.stream_entries(reply)] == expected
    assert replies.stream_entries(None) == ()


def test_an_answer_to_schedule_is_a_scheduled_like_any_other():
    answer = replies.scheduled("a", JobOutcome.CREATED)
    assert answer == Scheduled("a")
    assert (type(answer), repr(answer), hash(answer)) == (
        Scheduled,
        repr(Scheduled("a")),
        hash(Scheduled("a")),
    )
    with pytest.raises(FrozenInstanceError):
        untyped(answer).outcome = JobOutcome.KEPT


@pytest.mark.parametrize("reply", [[1, 0, 2], [1, True, 2], [1, -1, 2], [1, None, 2], [1, 2], [1, 2, 3, 4], None, b"1"])
def test_integers_are_those_of_the_reply_where_it_has_them(reply):
    read = replies.integers(reply, 3)
    given = [*reply, 0, 0, 0][:3] if isinstance(reply, list) else [0, 0, 0]
    assert read == [max(item or 0, 0) for item in given]
