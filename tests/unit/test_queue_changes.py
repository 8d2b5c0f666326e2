"""DelayedQueue: rescheduling, running now, replacing and cancelling jobs that the caller names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from promoter_core import DelayedQueue, Job, JobError, JobOutcome, Scheduled, TransientError, unpack_envelope
from promoter_core.client import changing
from promoter_core.spi import JobRequest, PromotionRequest, StreamName, pack_envelope
from promoter_core.testing import Fault, FaultyBackend

CREATED, KEPT, REPLACED, MOVED = JobOutcome.CREATED, JobOutcome.KEPT, JobOutcome.REPLACED, JobOutcome.MOVED
PROMOTED, REMOVED = JobOutcome.PROMOTED, JobOutcome.REMOVED
ALREADY_PROMOTED, NOT_FOUND = JobOutcome.ALREADY_PROMOTED, JobOutcome.NOT_FOUND


async def promote(backend, limit=100):
    request = PromotionRequest(limit=limit, max_stream_len=1_000)
    return await backend.promote(await backend.lock("q", "me", 60_000), request)


async def due_in(queue, clock, job):
    found = await queue.get(job)
    return (found.due - datetime.fromtimestamp(clock.time_ms() / 1000, UTC)).total_seconds()


async def entries(backend):
    return [unpack_envelope(e.fields["d"]) for e in await backend.read("q", StreamName.JOBS, "", 1_000)]


async def test_a_job_is_moved_and_keeps_all_else(queue, clock):
    job = await queue.schedule({"n": 1}, delay=5, name="x", job_id="a")
    clock.jump(1)
    before = await queue.get(job)
    assert await queue.reschedule("a", delay=timedelta(minutes=5)) is MOVED
    assert await due_in(queue, clock, "a") == 300
    after = await queue.get("a")
    assert (after.envelope, after.name, after.created) == (before.envelope, "x", before.created)
    assert await queue.schedule(2, delay=1, job_id="a") == Scheduled("a", KEPT)
    assert await queue.reschedule(job, at=before.due) is MOVED
    assert await due_in(queue, clock, "a") == 4


async def test_a_moved_job_is_promoted_at_its_new_time_and_not_at_the_old_one(queue, backend, clock):
    await queue.schedule(1, delay=5, job_id="a")
    await queue.reschedule("a", delay=60)
    clock.jump(59)
    assert (await promote(backend)).promoted == 0
    clock.jump(1)
    assert (await promote(backend)).promoted == 1
    assert await queue.reschedule("a", delay=1) is ALREADY_PROMOTED
    assert await queue.reschedule("b", delay=1) is NOT_FOUND


async def test_a_time_in_the_past_is_now(queue, clock):
    await queue.schedule(1, delay=5, job_id="a")
    assert await queue.reschedule("a", at=datetime(2020, 1, 1, tzinfo=UTC)) is MOVED
    assert await due_in(queue, clock, "a") == 0


async def test_a_job_runs_now_once_with_its_event_and_without_a_leader(queue, backend, clock):
    await queue.schedule(1, delay=500, job_id="a", name="x")
    assert await queue.run_now("a") is PROMOTED
    assert [e.id for e in await entries(backend)] == ["a"]
    (event,) = await backend.read("q", StreamName.EVENTS, "", 9)
    assert (event.fields["e"], event.fields["id"], event.fields["n"]) == (b"waiting", b"a", b"x")
    assert await queue.run_now("a") is ALREADY_PROMOTED
    assert (await queue.stats()).depth == 0


async def test_a_full_stream_holds_a_job_that_is_to_run_now(queue, backend, clock):
    await queue.schedule_many([Job(data=i, delay=60, job_id=str(i)) for i in range(3)])
    assert await queue.run_now_many(["0", "1", "2"], max_stream_len=2, events=False) == (PROMOTED, PROMOTED, MOVED)
    assert await due_in(queue, clock, "2") == 0
    assert not await backend.read("q", StreamName.EVENTS, "", 9)


async def test_replace_keeps_what_is_not_given(queue, clock):
    await queue.schedule(1, delay=5, name="old", job_id="a", attempt=4)
    assert await queue.replace("a", {"n": 2}) is REPLACED
    job = await queue.get("a")
    assert (job.data(), job.name, job.attempt) == ({"n": 2}, "old", 0)
    assert await due_in(queue, clock, "a") == 5
    assert await queue.replace(job, 3, name="", delay=9) is REPLACED
    job = await queue.get("a")
    assert (job.data(), job.name) == (3, "")
    assert await due_in(queue, clock, "a") == 9


async def test_replace_creates_a_job_only_with_a_due_time(queue, backend, clock):
    assert await queue.replace("a", 1) is NOT_FOUND
    assert await queue.replace("a", 1, delay=0) is CREATED
    await promote(backend)
    assert await queue.replace("a", 2) is ALREADY_PROMOTED
    assert (await queue.stats()).depth == 0
    assert await queue.replace("a", 2, delay=5, keep_id_for=0) is CREATED
    assert (await queue.get("a")).keep_id_for == timedelta(0)


async def test_many_are_replaced_by_their_ids(queue):
    await queue.schedule_many([Job(data=i, delay=5, job_id=str(i), name="n") for i in range(3)])
    jobs = [Job(data="new", job_id="0"), Job(data="new", job_id="9"), Job(data="new", job_id="2", name="m", delay=1)]
    assert await queue.replace_many(jobs) == (REPLACED, NOT_FOUND, REPLACED)
    shown = [(job.id, job.data(), job.name) async for job in queue.scan()]
    assert shown == [("2", "new", "m"), ("1", 1, "n"), ("0", "new", "n")] or shown == [
        ("2", "new", "m"),
        ("0", "new", "n"),
        ("1", 1, "n"),
    ]


async def test_a_job_of_another_producer_can_be_replaced_though_its_id_is_no_utf_8(queue, backend):
    id = b"\xff".decode("utf-8", "surrogateescape")
    await backend.schedule("q", [JobRequest(id, pack_envelope(id, b"\x01", 0, 0), delay_ms=1_000)])
    assert await queue.replace(id, "new") is REPLACED
    job = await queue.get(id)
    assert (job.envelope.id, job.data()) == (id, "new")


async def test_of_several_jobs_with_one_id_each_is_meant_by_itself(queue, backend, clock):
    for n in range(3):
        await backend.schedule("q", [JobRequest("a", pack_envelope("a", bytes([n]), 0, 0), delay_ms=1_000 + n)])
    first, second, third = (await queue.jobs()).jobs
    assert await queue.cancel(second) is REMOVED
    assert await queue.reschedule(first, delay=60) is MOVED
    assert [job.data() async for job in queue.scan()] == [2, 0]
    assert await queue.cancel_many([second, "a", first]) == (NOT_FOUND, REMOVED, REMOVED)
    assert await queue.cancel(third) is NOT_FOUND


async def test_a_cancelled_job_frees_its_id_at_once(queue):
    """Elsewhere a deleted job keeps the next one out until a lock expires."""
    await queue.schedule(1, delay=3600, job_id="a")
    assert await queue.cancel(await queue.get("a")) is REMOVED
    assert (await queue.schedule(2, delay=3600, job_id="a")).created


async def test_a_job_of_another_queue_is_refused(queue, backend):
    await queue.schedule(1, delay=5, job_id="a")
    other = DelayedQueue(backend, "other")
    await other.schedule(1, delay=5, job_id="a")
    job = await other.get("a")
    for call in (queue.cancel(job), queue.run_now(job), queue.reschedule_many([job], delay=1), queue.replace(job, 2)):
        with pytest.raises(JobError, match="<DelayedJob 'a' of 'other', .*> is no job of 'q'"):
            await call
    assert (await queue.stats()).depth == (await other.stats()).depth == 1


async def test_nothing_to_change_asks_for_nothing(queue):
    for call in (
        queue.cancel_many([]),
        queue.reschedule_many([], delay=1),
        queue.run_now_many([]),
        queue.replace_many([]),
    ):
        assert await call == ()


async def test_many_changes_are_made_in_steps_and_answered_in_order(queue, backend, monkeypatch):
    monkeypatch.setattr(changing, "STEP", 10)
    await queue.schedule_many([Job(data=i, delay=i, job_id=str(i)) for i in range(0, 50, 2)])
    counting = FaultyBackend(backend)
    outcomes = await DelayedQueue(counting, "q").reschedule_many(map(str, range(50)), delay=60)
    assert outcomes == (MOVED, NOT_FOUND) * 25
    assert counting.calls["change_jobs"] == 5


@pytest.mark.parametrize(
    ("call", "again"),
    [
        (lambda q: q.reschedule_many(["0", "1"], delay=60), (MOVED, MOVED)),
        (lambda q: q.replace_many([Job(data="x", job_id="0"), Job(data="x", job_id="1")]), (REPLACED, REPLACED)),
        (lambda q: q.cancel_many(["0", "1"]), (NOT_FOUND, NOT_FOUND)),
        (lambda q: q.run_now_many(["0", "1"]), (ALREADY_PROMOTED, ALREADY_PROMOTED)),
    ],
)
async def test_a_call_whose_reply_was_lost_can_be_repeated(queue, backend, call, again):
    await queue.schedule_many([Job(data=i, delay=5, job_id=str(i)) for i in range(2)])
    losing = FaultyBackend(backend, Fault("change_jobs", after_effect=True), Fault("cancel", after_effect=True))
    flaky = DelayedQueue(losing, "q")
    with pytest.raises(TransientError):
        await call(flaky)
    assert await call(flaky) == again
    assert len(await entries(backend)) in (0, 2)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda q: q.reschedule("a"), "reschedule needs delay= or at="),
        (lambda q: q.reschedule_many(["a"]), "reschedule_many needs delay= or at="),
        (lambda q: q.reschedule("a", delay=1, at=datetime(2030, 1, 1, tzinfo=UTC)), "not both"),
        (lambda q: q.reschedule("a", delay=-1), "out of range"),
        (lambda q: q.reschedule("a", at=datetime(2030, 1, 1)), "no time zone"),  # noqa: DTZ001  # that is the point
        (lambda q: q.reschedule(5, delay=1), "job id must be text, not int"),
        (lambda q: q.reschedule_many("abc", delay=1), "takes a list of jobs or their ids, not 'abc'"),
        (lambda q: q.reschedule_many([Scheduled("a"), ""], delay=1), "1 to 512 bytes"),
        (lambda q: q.run_now("a", max_stream_len=0), "max_stream_len is 0"),
        (lambda q: q.run_now("a", max_stream_len=1.5), "max_stream_len must be a whole number"),
        (lambda q: q.run_now("a", events=None), "events must be True or False"),
        (lambda q: q.run_now_many("a"), "run_now takes one"),
        (lambda q: q.replace("a", object()), "cannot pack it"),
        (lambda q: q.replace("a", 1, name=5), "name must be text, not int"),
        (lambda q: q.replace("a", 1, name=0), "name must be text, not int"),
        (lambda q: q.replace("a", 1, keep_id_for=-1), "keep_id_for of -1 s is out of range"),
        (lambda q: q.replace("a", 1, traceparent="x"), "traceparent must be"),
        (lambda q: q.replace("", 1), "1 to 512 bytes"),
        (lambda q: q.replace_many([Job(data=1)]), "each job needs the job_id="),
        (lambda q: q.replace_many([Job(data=1, job_id="a", on_repeat="keep"), 5]), "takes Job.* not a int"),
        (lambda q: q.replace_many([Job(data=1, job_id="a", on_repeat="error")]), "leave on_repeat= out"),
        (lambda q: q.replace_many(Job(data=1, job_id="a")), "not a Job"),
        (lambda q: q.cancel_many({"a": 1}), "not a dict"),
        (lambda q: q.cancel(None), "job id must be text, not NoneType"),
    ],
)
async def test_an_argument_that_cannot_be_is_refused_before_anything_changes(queue, call, problem):
    await queue.schedule(1, delay=5, job_id="a")
    before = (await queue.jobs()).jobs
    with pytest.raises(JobError, match=problem):
        await call(queue)
    assert (await queue.jobs()).jobs == before
