"""DelayedQueue: changes of all jobs that fit. Step by step, and no job twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import (
    BulkResult,
    DelayedQueue,
    JobError,
    JobOutcome,
)
from promoter_core.spi import JobRequest, PromotionRequest, StreamName, pack_envelope
from promoter_core.testing import FaultyBackend, VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.typed import untyped
from tests.unit.sweeps import at, dues, fill, small_steps

__all__ = ["small_steps"]  # a fixture

MOVED, PROMOTED, REMOVED = JobOutcome.MOVED, JobOutcome.PROMOTED, JobOutcome.REMOVED
NOT_FOUND, ALREADY_PROMOTED = JobOutcome.NOT_FOUND, JobOutcome.ALREADY_PROMOTED


async def promote(backend):
    request = PromotionRequest(limit=100, max_stream_len=1_000)
    return await backend.promote(await backend.lock("q", "me", 60_000), request)


async def test_all_that_fit_are_cancelled_and_no_others(queue, clock):
    await fill(queue, range(20), name="a")
    await fill(queue, range(20), name="b")
    result = await queue.cancel_where(due_from=at(clock, 5), due_to=at(clock, 15), name="a")
    assert result == BulkResult(10, {REMOVED: 10})
    assert await queue.count() == 30
    assert await queue.cancel_where(name="b") == BulkResult(20, {REMOVED: 20})
    assert await queue.cancel_where() == BulkResult(10, {REMOVED: 10})


async def test_jobs_that_share_an_id_or_have_no_index_are_all_meant(queue, backend):
    jobs = [JobRequest("a", pack_envelope("a", bytes([n]), 0, 0), delay_ms=9, index=False) for n in range(9)]
    await backend.schedule("q", jobs)
    assert await queue.cancel_where() == BulkResult(9, {REMOVED: 9})


@pytest.mark.parametrize(
    "call",
    [
        lambda q, c, **k: q.cancel_where(name="a", **k),
        lambda q, c, **k: q.run_due_before(at(c, 9), **k),
        lambda q, c, **k: q.reschedule_where(delay=60, **k),
        lambda q, c, **k: q.reschedule_where(at=at(c, 5), due_from=at(c, 2), **k),
        lambda q, c, **k: q.reschedule_where(by=timedelta(seconds=-3), **k),
        lambda q, c, **k: q.reschedule_where(by=timedelta(seconds=3), due_to=at(c, 8), **k),
    ],
)
async def test_a_dry_run_counts_what_the_real_one_means_and_changes_nothing(queue, clock, call):
    await fill(queue, [0, 1, 1, 2, 3, 5, 5, 5, 5, 5, 5, 8, 9, 13], name="a")
    before = (await queue.jobs(limit=100)).jobs
    reports: list[BulkResult] = []
    dry = await call(queue, clock, dry_run=True, progress=reports.append)
    assert (await queue.jobs(limit=100)).jobs == before
    assert dry.outcomes == {}
    assert [result.matched for result in reports] == sorted(result.matched for result in reports)
    assert reports[-1] == dry
    assert (await call(queue, clock)).matched == dry.matched


async def test_progress_comes_after_each_step(queue):
    await fill(queue, range(10))
    reports: list[BulkResult] = []
    result = await queue.cancel_where(progress=reports.append)
    assert reports == [BulkResult(n, {REMOVED: n}) for n in (4, 8, 10)]
    assert result == reports[-1]
    assert (await queue.cancel_where(progress=reports.append)) == reports[-1] == BulkResult(0, {})


async def test_each_step_is_a_small_one_and_others_have_their_turn_in_between(queue, backend):
    await fill(queue, range(20))
    counting, turns = FaultyBackend(backend), []

    async def other():
        while True:
            turns.append((await queue.stats()).depth)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await DelayedQueue(counting, "q").cancel_where()
    task.cancel()
    assert counting.calls["change_jobs"] == counting.calls["list_jobs"] == 5
    assert set(turns) >= {16, 12, 8}


async def test_jobs_that_go_meanwhile_are_counted_as_what_they_are(queue, backend, clock):
    await fill(queue, [0, 0, 0, 5, 6, 7, 8])
    await queue.schedule("a", delay=0, job_id="a")

    class Meddling(FaultyBackend):
        async def change_jobs(self, queue_name, changes):
            if not self.calls["change_jobs"]:
                await promote(backend)
            self.calls["change_jobs"] += 1
            return await untyped(self.backend).change_jobs(queue_name, changes)

    result = await DelayedQueue(Meddling(backend), "q").cancel_where()
    assert result == BulkResult(8, {NOT_FOUND: 3, ALREADY_PROMOTED: 1, REMOVED: 4})
    assert len(await backend.read("q", StreamName.JOBS, "", 99)) == 4


async def test_all_that_are_due_before_a_time_are_promoted_in_order(queue, backend, clock):
    await fill(queue, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    assert await queue.run_due_before(at(clock, 7)) == BulkResult(7, {PROMOTED: 7})
    assert await dues(queue, clock) == [7, 8, 9]
    entries = await backend.read("q", StreamName.JOBS, "", 99)
    assert [entry.fields["d"][-1] for entry in entries] == [0] * 7
    assert len(await backend.read("q", StreamName.EVENTS, "", 99)) == 7


async def test_a_full_stream_ends_no_run_and_loses_no_job(queue, backend, clock):
    await fill(queue, [0] * 10 + [60] * 10)
    clock.jump(1)
    result = await queue.run_due_before(at(clock, 100), max_stream_len=6)
    assert result.matched == 20
    assert result.outcomes[PROMOTED] == 6
    assert (await queue.stats()).due == 14
    assert (await promote(backend)).promoted == 14


async def test_all_are_moved_to_one_time_by_the_clock_of_the_store(queue, clock):
    await fill(queue, range(0, 40, 2))
    assert await queue.reschedule_where(delay=20) == BulkResult(20, {MOVED: 19})
    assert await dues(queue, clock) == [20] * 20


async def test_a_time_in_the_past_makes_all_due_now_and_leaves_what_is_due_as_it_is(queue, clock):
    await fill(queue, range(20))
    clock.jump(10)
    result = await queue.reschedule_where(at=datetime(2020, 1, 1, tzinfo=UTC))
    assert result == BulkResult(20, {MOVED: 9})
    assert await dues(queue, clock) == [float(n) for n in range(-10, 0)] + [0] * 10


async def test_all_are_moved_by_the_same_time_into_their_own_range(queue, clock):
    await fill(queue, range(30))
    assert await queue.reschedule_where(by=timedelta(seconds=5), due_from=at(clock, 10)) == BulkResult(20, {MOVED: 20})
    assert await dues(queue, clock) == [float(n) for n in [*range(10), *range(15, 35)]]
    assert (await queue.reschedule_where(by=timedelta(seconds=-15), due_from=at(clock, 10))).outcomes == {MOVED: 20}
    assert await dues(queue, clock) == sorted([float(n) for n in [*range(10), *range(20)]])


async def test_no_job_is_moved_beyond_the_year_9999(queue, clock):
    await fill(queue, [1, 2])
    result = await queue.reschedule_where(by=timedelta(days=365 * 9_000))
    assert result == BulkResult(2, {MOVED: 2})
    assert all(job.due.year == 9999 for job in (await queue.jobs()).jobs)
    assert await queue.reschedule_where(by=timedelta(days=1)) == BulkResult(2, {})


class Parked(FaultyBackend):
    """Shows jobs that are due from the year 5000 on as parked, as another producer's are."""

    async def list_jobs(self, queue, query):
        page = await untyped(self.backend).list_jobs(queue, query)
        jobs = [replace(job, due_ms=None) if job.due_ms > 95_617_584_000_000 else job for job in page.jobs]
        return replace(page, jobs=jobs)


async def test_parked_jobs_are_moved_to_a_time_and_by_none(backend, clock):
    queue = DelayedQueue(Parked(backend), "q", clock=clock)
    await fill(queue, [5, 250e9])
    (_, parked) = (await queue.jobs()).jobs
    assert (parked.parked, parked.due) == (True, None)
    assert await queue.reschedule_where(by=timedelta(seconds=5)) == BulkResult(2, {MOVED: 1})
    assert await queue.reschedule_where(by=timedelta(seconds=-5)) == BulkResult(2, {MOVED: 1})
    assert await queue.reschedule_where(delay=60) == BulkResult(2, {MOVED: 2})
    assert await dues(queue, clock) == [60, 60]


class Counting(FaultyBackend):
    """Counts the changes of each job that were carried out."""

    moved: Counter[bytes]

    async def change_jobs(self, queue, changes):
        outcomes = await self._pass("change_jobs", lambda: untyped(self.backend).change_jobs(queue, changes))
        self.moved.update(c.job.handle for c, o in zip(changes, outcomes, strict=True) if o is MOVED)
        return outcomes


seconds = st.integers(-10, 30)


@given(
    delays=st.lists(st.integers(0, 40), max_size=30),
    bounds=st.tuples(st.none() | seconds, st.none() | seconds),
    change=st.tuples(st.sampled_from(["at", "by"]), seconds),
    slow=st.booleans(),
)
def test_no_job_is_moved_twice_whatever_the_range_and_the_time(delays, bounds, change, slow):
    async def run():
        clock = VirtualClock()
        backend = MemoryBackend(MemoryStore(clock))
        await backend.open()
        await fill(DelayedQueue(backend, "q", clock=clock), delays)
        clock.jump(10)
        counting = Counting(backend, clock=clock, latency_ms=(0, 2_000) if slow else None)
        counting.moved = Counter()
        queue = DelayedQueue(counting, "q", clock=clock)
        before = await dues(queue, clock)
        low, high = (None if b is None else at(clock, b) for b in bounds)
        if low is not None and high is not None and low > high:
            low, high = high, low
        kind, value = change
        if kind == "by" and not value:
            value = 1
        given_ms = {"at": at(clock, value)} if kind == "at" else {"by": timedelta(seconds=value)}
        began_ms = clock.time_ms()
        expected = await queue.reschedule_where(**given_ms, due_from=low, due_to=high, dry_run=True)
        result = await queue.reschedule_where(**given_ms, due_from=low, due_to=high)
        if not slow:
            assert result.matched == expected.matched
            assert clock.time_ms() == began_ms

            def new(due):
                if (low is None or due >= (low - at(clock, 0)).total_seconds()) and (
                    high is None or due < (high - at(clock, 0)).total_seconds()
                ):
                    then = max(value if kind == "at" else due + value, 0)
                    return due if due <= 0 and then == 0 else then
                return due

            assert await dues(queue, clock) == sorted(map(new, before))
        assert result.matched <= len(delays)
        assert set(counting.moved.values()) <= {1}
        assert sum(counting.moved.values()) == result.outcomes.get(MOVED, 0)

    asyncio.run(run())


@pytest.mark.parametrize("step_s", [0.5, 1, 3])
@pytest.mark.parametrize(
    "call",
    [
        lambda q, c: q.reschedule_where(at=at(c, 0)),
        lambda q, c: q.reschedule_where(delay=2),
        lambda q, c: q.reschedule_where(delay=2, due_from=at(c, 1), due_to=at(c, 15)),
        lambda q, c: q.reschedule_where(delay=12),
        lambda q, c: q.reschedule_where(by=timedelta(seconds=-6)),
        lambda q, c: q.reschedule_where(by=timedelta(seconds=1)),
        lambda q, c: q.reschedule_where(by=timedelta(seconds=6), due_from=at(c, -5)),
    ],
)
async def test_time_that_goes_on_meanwhile_has_no_job_moved_or_counted_twice(backend, clock, call, step_s):
    class Slow(Counting):
        async def change_jobs(self, queue, changes):
            clock.jump(step_s)
            return await super().change_jobs(queue, changes)

    slow = Slow(backend)
    slow.moved = Counter()
    queue = DelayedQueue(slow, "q", clock=clock)
    await fill(queue, [*range(20), 4, 4, 4, 4, 4, 9, 9, 9, 9, 9])
    clock.jump(3)
    result = await call(queue, clock)
    assert result.matched <= 30
    assert set(slow.moved.values()) <= {1}
    assert result.outcomes.get(MOVED, 0) == len(slow.moved) <= result.matched


async def ask(result):
    pass


NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  # that is the point
AWARE = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda q: q.reschedule_where(), "needs one of delay=, at= and by="),
        (lambda q: q.reschedule_where(delay=1, by=timedelta(1)), "needs one of"),
        (lambda q: q.reschedule_where(by=5), "by must be a timedelta, not int"),
        (lambda q: q.reschedule_where(by=timedelta(0)), "a millisecond or more"),
        (lambda q: q.reschedule_where(by=timedelta(microseconds=100)), "a millisecond or more"),
        (lambda q: q.reschedule_where(delay=-1), "out of range"),
        (lambda q: q.reschedule_where(at=NAIVE), "no time zone"),
        (lambda q: q.reschedule_where(delay=1, due_from=NAIVE), "due_from=.* no time zone"),
        (lambda q: q.cancel_where(due_to="tomorrow"), "due_to must be a datetime"),
        (lambda q: q.cancel_where(due_from=AWARE + timedelta(1), due_to=AWARE), "is after"),
        (lambda q: q.cancel_where(name=5), "name must be text"),
        (lambda q: q.cancel_where(dry_run="yes"), "dry_run must be True or False, not 'yes'"),
        (lambda q: q.cancel_where(progress=ask), "progress must be a plain function"),
        (lambda q: q.cancel_where(progress=5), "progress must be a plain function .* not a int"),
        (lambda q: q.run_due_before(NAIVE), "t=2030.* has no time zone"),
        (lambda q: q.run_due_before(AWARE, max_stream_len=0), "max_stream_len is 0"),
    ],
)
async def test_an_argument_that_cannot_be_is_refused_before_anything_changes(queue, call, problem):
    await fill(queue, [1, 2])
    with pytest.raises(JobError, match=problem):
        await call(queue)
    assert await queue.count() == 2
