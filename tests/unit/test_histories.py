"""The model of one id: which histories have an explanation, and which have none."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.changes.history import Entry, Request, check

S = 1_000.0  # when it begins
clock = count()


def asked(op, answer, *, at=None, took=0.001, delay=1.0, **more):
    """A request with its answer. One after the other, unless `at` says when."""
    call = S + (next(clock) * 0.01 if at is None else at)
    due: dict[str, Any] = (
        {"delay_ms": int(delay * 1000)} if op in ("schedule", "put", "extend", "reschedule", "add", "mint") else {}
    )
    return Request(
        op, "a", call, None if answer is ... else call + took, None if answer is ... else answer, **due, **more
    )


def entry(token, at, name=""):
    return Entry("a", int((S + at) * 1000), token, name)


def created(token="t1", **more):
    return asked("schedule", "created", token=token, name="", **more)


@pytest.fixture(autouse=True)
def _from_the_start():
    global clock
    clock = count()


def explained(requests, entries=(), **more):
    return not check(requests, entries, **more)


def test_a_job_is_promoted_once_when_it_is_due():
    assert explained([created()], [entry("t1", 1.1)])
    assert not explained([created()]), "lost"
    assert not explained([created()], [entry("t1", 1.1), entry("t1", 1.2)]), "twice"
    assert not explained([created()], [entry("t1", 0.5)]), "early"
    assert not explained([created()], [entry("t1", 1.1, "other")]), "another name"
    assert not explained([], [entry("t1", 1.1)]), "not asked for"


def test_a_removed_job_is_not_promoted():
    for removed in (asked("cancel", "removed", at=0.5), asked("cancel_delayed", True, at=0.5)):
        assert explained([created(), removed])
        assert not explained([created(), removed], [entry("t1", 1.1)])
    assert not explained([created(), asked("cancel", "not-found", at=0.5)], [entry("t1", 1.1)])
    assert explained([created(), asked("cancel", "already-promoted", at=2)], [entry("t1", 1.1)])
    assert not explained([created(), asked("cancel", "not-found", at=2)], [entry("t1", 1.1)])
    assert not explained([created(), asked("cancel", "removed", at=2)], [entry("t1", 1.1)])


def test_the_last_data_that_was_acknowledged_is_promoted():
    replaced = asked("put", "replaced", token="t2", name="", at=0.5)
    assert explained([created(), replaced], [entry("t2", 1.6)])
    assert not explained([created(), replaced], [entry("t1", 1.1)])
    assert not explained([created(), replaced], [entry("t1", 1.1), entry("t2", 1.1)])
    assert not explained([created(), replaced], [entry("t2", 1.6), entry("t1", 1.1)])
    kept = asked("replace", "replaced", token="t2", at=0.5)
    assert explained([created(), kept], [entry("t2", 1.1)])
    assert not explained([created(), kept], [entry("t2", 0.5)])


def test_of_two_requests_at_once_either_may_be_the_last():
    both = [
        created(at=0),
        asked("put", "replaced", token="t2", name="", at=0.1, took=0.1),
        asked("put", "replaced", token="t3", name="", at=0.1, took=0.1),
    ]
    for token, others in (("t1", False), ("t2", True), ("t3", True)):
        assert explained(both, [entry(token, 1.3)]) is others
    seen = asked("see", ["t2", "", (S + 1.15) * 1000], at=0.3)
    assert explained([*both, seen], [entry("t2", 1.3)])
    assert not explained([*both, seen], [entry("t3", 1.3)])


def test_a_moved_job_is_promoted_when_it_is_due_then():
    moved = asked("reschedule", "moved", delay=3, at=0.5)
    assert explained([created(), moved], [entry("t1", 3.6)])
    assert not explained([created(), moved], [entry("t1", 1.1)])
    as_seen = asked("reschedule", "moved", delay=3, at=0.5, handle="t0")
    assert not explained([created(), as_seen], [entry("t1", 3.6)]), "another job than the one that was seen"


def test_run_now_promotes_the_job_that_is_there():
    run = asked("run_now", "promoted", at=0.5)
    assert explained([created(), run], [entry("t1", 0.5)])
    assert not explained([created(), run], [entry("t1", 1.1)]), "it was promoted at another time"
    assert not explained([created(), run])
    assert not explained([created(), run], [entry("t1", 0.5), entry("t1", 1.1)])


def test_a_request_without_an_answer_may_have_taken_effect_or_not():
    lost = asked("schedule", ..., token="t1", name="")
    assert explained([lost])
    assert explained([lost], [entry("t1", 1.1)])
    assert not explained([lost], [entry("t1", 1.1), entry("t1", 1.2)])
    cancel = asked("cancel", ...)
    assert explained([created(at=0), cancel])
    assert explained([created(at=0), cancel], [entry("t1", 1.1)])


@pytest.mark.parametrize(
    ("keep", "foreign", "outcomes"),
    [(True, True, {"already-promoted"}), (False, False, {"created"}), (False, True, {"created", "already-promoted"})],
)
def test_how_long_an_id_stays_taken(keep, foreign, outcomes):
    for outcome in ("created", "already-promoted", "kept"):
        again = asked("schedule", outcome, token="t2", name="", at=2)
        entries = [entry("t1", 1.1), *([entry("t2", 3.1)] if outcome == "created" else [])]
        assert explained([created(keep=keep, at=0), again], entries, foreign=foreign) is (outcome in outcomes)


def test_what_chasquimqs_producer_does_not_say():
    taken = asked("add", "a", token="t2", name="", at=0.5)
    assert explained([created(at=0), taken], [entry("t1", 1.1)])
    assert not explained([created(at=0), taken], [entry("t2", 1.6)])
    assert not explained([created(at=0), taken], [entry("t1", 1.1), entry("t2", 1.6)])
    again = asked("cancel_delayed", False, at=1.2)
    put = asked("put", "created", token="t2", name="", at=1.15)
    entries = [entry("t1", 1.1), entry("t2", 2.2)]
    assert explained([created(at=0), put, again], entries), "its promoter took the index of the second job"
    assert not explained([created(at=0), put, again], entries, foreign=False)


def test_the_answer_names_the_first_thing_without_an_explanation():
    (verdict,) = check([created(at=0), asked("cancel", "removed", at=0.5), asked("see", ["t1", "", 1], at=0.6)], [])
    assert verdict.at == asked("see", ["t1", "", 1], at=0.6)
    assert "id 'a': no order of events explains Request(op='see'" in str(verdict)
