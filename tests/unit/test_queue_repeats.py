"""DelayedQueue: a repeat of an id keeps, replaces, extends or raises, and an id stays taken for as long as asked."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest

from promoter_core import DelayedQueue, Job, JobError, JobExistsError, JobOutcome, Scheduled, TransientError
from promoter_core.client.requests import OnRepeat
from promoter_core.spi import PromotionRequest
from promoter_core.testing import Fault, FaultyBackend
from tests.typed import untyped

CREATED, KEPT, REPLACED, MOVED = JobOutcome.CREATED, JobOutcome.KEPT, JobOutcome.REPLACED, JobOutcome.MOVED
ALREADY_PROMOTED = JobOutcome.ALREADY_PROMOTED


async def promote(backend):
    request = PromotionRequest(limit=100, max_stream_len=1_000)
    return (await backend.promote(await backend.lock("q", "me", 60_000), request)).promoted


async def shown(queue, clock):
    now = datetime.fromtimestamp(clock.time_ms() / 1000, UTC)
    return [(job.data(), job.name, (job.due - now).total_seconds()) async for job in queue.scan()]


@pytest.mark.parametrize(
    ("repeat", "outcome", "left"),
    [
        ("keep", KEPT, [(1, "old", 9)]),
        ("replace", REPLACED, [(2, "new", 10)]),
        ("extend", MOVED, [(1, "old", 10)]),
    ],
)
async def test_a_repeat_does_what_its_caller_says(queue, clock, repeat, outcome, left):
    first = await queue.schedule(1, delay=10, name="old", job_id="a", on_repeat=repeat)
    assert first == Scheduled("a", CREATED)
    clock.jump(1)
    again = await queue.schedule(2, delay=10, name="new", job_id="a", on_repeat=repeat)
    assert (again, again.created) == (Scheduled("a", outcome), False)
    assert await shown(queue, clock) == left


async def test_a_debounced_job_runs_once_when_the_calls_have_stopped(queue, backend, clock):
    for _ in range(20):
        await queue.schedule("save", delay=5, job_id="doc", on_repeat="extend", keep_id_for=0)
        clock.jump(3)
        assert await promote(backend) == 0
    clock.jump(2)
    assert await promote(backend) == 1
    assert (await queue.schedule("save", delay=5, job_id="doc", on_repeat="extend")).created


@pytest.mark.parametrize("repeat", ["replace", "extend"])
async def test_with_replace_and_extend_an_id_that_has_run_keeps_no_call_out(queue, backend, clock, repeat):
    await queue.schedule(1, delay=0, job_id="a")
    await promote(backend)
    assert await queue.schedule(2, delay=5, job_id="a") == Scheduled("a", ALREADY_PROMOTED)
    assert await queue.schedule(3, delay=5, job_id="a", on_repeat=repeat) == Scheduled("a", CREATED)
    assert await shown(queue, clock) == [(3, "", 5)]


async def test_error_says_why_the_id_is_taken(queue, backend):
    assert (await queue.schedule(1, delay=1, job_id="a", on_repeat="error")).created
    with pytest.raises(JobExistsError, match=r"^job id 'a' is taken: its job waits$") as caught:
        await queue.schedule(2, delay=1, job_id="a", on_repeat="error")
    assert (caught.value.id, caught.value.outcome, caught.value.answers) == ("a", KEPT, (Scheduled("a", KEPT),))
    await queue.run_now("a")
    with pytest.raises(JobExistsError, match="it was promoted recently") as caught:
        await queue.schedule(2, delay=1, job_id="a", on_repeat="error")
    assert caught.value.outcome is ALREADY_PROMOTED
    assert isinstance(caught.value, JobError)


async def test_of_many_with_error_those_that_are_free_are_scheduled(queue, clock):
    await queue.schedule("old", delay=9, job_id="1")
    jobs = [Job(data=i, delay=i, job_id=str(i % 3), on_repeat="error") for i in range(5)]
    with pytest.raises(JobExistsError, match="'1' is taken: its job waits, and 2 more") as caught:
        await queue.schedule_many([*jobs, Job(data="x", delay=7)])
    assert [answer.outcome for answer in caught.value.answers] == [CREATED, KEPT, CREATED, KEPT, KEPT, CREATED]
    assert [data for data, *_ in await shown(queue, clock)] == [0, 2, "x", "old"]


async def test_kinds_of_repeat_can_be_mixed_and_take_effect_in_order(queue, backend, clock):
    counting = FaultyBackend(backend)
    kinds: list[OnRepeat] = ["keep", "replace", "extend", "keep", "error"]
    ids = ["a", "a", "a", "a", "b"]
    jobs = [Job(data=i, delay=10 + i, job_id=id, on_repeat=k) for i, (k, id) in enumerate(zip(kinds, ids, strict=True))]
    answers = await DelayedQueue(counting, "q", clock=clock).schedule_many(jobs)
    assert [answer.outcome for answer in answers] == [CREATED, REPLACED, MOVED, KEPT, CREATED]
    assert await shown(queue, clock) == [(1, "", 12), (4, "", 14)]
    assert (counting.calls["schedule"], counting.calls["change_jobs"]) == (2, 1)


@pytest.mark.parametrize("keep", [0, 0.25, 7, timedelta(minutes=3), timedelta(days=366)])
async def test_an_id_stays_taken_after_the_promotion_for_as_long_as_asked(queue, backend, clock, keep):
    await queue.schedule(1, delay=5, job_id="a", keep_id_for=keep)
    clock.jump(5)
    assert await promote(backend) == 1
    seconds = keep.total_seconds() if isinstance(keep, timedelta) else keep
    if seconds:
        clock.jump(seconds - 0.001)
        assert await queue.schedule(2, delay=5, job_id="a") == Scheduled("a", ALREADY_PROMOTED)
        clock.jump(0.001)
    assert (await queue.schedule(2, delay=5, job_id="a")).created


async def test_a_new_job_says_how_long_its_id_stays_taken_whatever_the_one_before_said(queue, backend):
    await queue.schedule(1, job_id="a")
    await promote(backend)
    await queue.schedule(2, job_id="a", on_repeat="replace", keep_id_for=0)
    await promote(backend)
    assert (await queue.schedule(3, job_id="a")).created


async def test_a_job_can_schedule_itself_anew_while_it_runs(queue, backend, clock):
    for n in range(3):
        assert (await queue.schedule(n, delay=1, job_id="poll", keep_id_for=0, on_repeat="error")).created
        clock.jump(1)
        assert await promote(backend) == 1


@pytest.mark.parametrize("repeat", ["keep", "replace", "extend"])
async def test_a_call_whose_reply_was_lost_leaves_one_job_when_it_is_repeated(backend, repeat):
    losing = FaultyBackend(backend, Fault("schedule", after_effect=True), Fault("change_jobs", after_effect=True))
    queue = DelayedQueue(losing, "q")
    with pytest.raises(TransientError):
        await queue.schedule(1, delay=60, job_id="a", on_repeat=repeat)
    assert not (await queue.schedule(1, delay=60, job_id="a", on_repeat=repeat)).created
    assert (await queue.stats()).depth == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"job_id": "a", "on_repeat": "ignore"}, "on_repeat must be one of keep, replace, extend, error, not 'ignore'"),
        ({"job_id": "a", "on_repeat": "Replace"}, "must be one of"),
        ({"job_id": "a", "on_repeat": None}, "not None"),
        ({"on_repeat": "extend"}, "give a job_id="),
        ({"on_repeat": "nothing"}, "must be one of"),
        ({"keep_id_for": 5}, "give a job_id="),
        ({"job_id": "a", "keep_id_for": -1}, "keep_id_for of -1 s is out of range: from 0 to 366 days"),
        ({"job_id": "a", "keep_id_for": timedelta(days=367)}, "out of range"),
        ({"job_id": "a", "keep_id_for": float("nan")}, "out of range"),
        ({"job_id": "a", "keep_id_for": "1h"}, "a timedelta or a number of seconds, not str"),
        ({"job_id": "a", "keep_id_for": True}, "not bool"),
        ({"attempt": -1}, "attempt -1 is out of range"),
        ({"attempt": 2**32}, "out of range"),
        ({"attempt": 1.0}, "attempt must be a whole number, not float"),
        ({"attempt": True}, "not bool"),
        ({"attempt": None}, "not NoneType"),
    ],
)
async def test_a_job_that_cannot_be_is_refused_before_anything_is_written(queue, fields, problem):
    with pytest.raises(JobError, match=problem):
        await queue.schedule_many([Job(data=1, delay=1), Job(data=2, delay=1, **fields)])
    with pytest.raises(JobError, match=problem):
        await queue.schedule(2, delay=1, **fields)
    assert (await queue.stats()).depth == 0


async def test_what_neighbours_say_is_not_taken_from_one_job_to_the_next(queue):
    await queue.schedule_many(
        [
            Job(data=1, delay=1, job_id="a", keep_id_for=5, attempt=7),
            Job(data=2, delay=1, job_id="b"),
            Job(data=3, delay=1, job_id="c", keep_id_for=0, on_repeat="replace"),
            Job(data=4, delay=1),
        ]
    )
    seen = {job.data(): (job.attempt, job.unique, job.keep_id_for) async for job in queue.scan(details=True)}
    hour = timedelta(hours=1)
    assert seen == {
        1: (7, True, timedelta(seconds=5)),
        2: (0, True, hour),
        3: (0, True, timedelta(0)),
        4: (0, False, None),
    }


def test_a_job_is_a_value():
    job = Job(data=1, delay=2, job_id="a", on_repeat="extend", keep_id_for=3, attempt=4)
    assert pickle.loads(pickle.dumps(job)) == job == replace(job)
    assert replace(job, delay=5).delay == 5
    assert repr(Job(data=1)).startswith("Job(data=1, delay=None, at=None, name=''")
    with pytest.raises(FrozenInstanceError):
        untyped(job).delay = 7
    with pytest.raises(TypeError):
        untyped(Job)(1)


class Mail(Job):
    pass


async def test_a_job_can_be_subclassed(queue):
    mail = Mail(data=1, delay=1, name="welcome")
    assert (type(mail), mail.name, mail.attempt) == (Mail, "welcome", 0)
    assert (await queue.schedule_many([mail]))[0].created
