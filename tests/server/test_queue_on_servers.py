"""DelayedQueue on servers: callers see what they see on memory, while the server's time goes on."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from promoter_core import DelayedQueue, Job, JobExistsError, JobOutcome, connect
from promoter_core.client import sweep
from promoter_core.spi import Reschedule, StoredJob, StreamName
from promoter_core.testing import FaultyBackend
from tests.typed import untyped

pytestmark = pytest.mark.server

CREATED, MOVED, PROMOTED, REMOVED = JobOutcome.CREATED, JobOutcome.MOVED, JobOutcome.PROMOTED, JobOutcome.REMOVED
REPLACED, ALREADY_PROMOTED = JobOutcome.REPLACED, JobOutcome.ALREADY_PROMOTED


class Counting(FaultyBackend):
    """Counts how often each job was moved."""

    moved: Counter[str | None]

    async def change_jobs(self, queue, changes):
        outcomes = await untyped(self.backend).change_jobs(queue, changes)
        self.moved.update(
            c.job.id
            for c, o in zip(changes, outcomes, strict=True)
            if isinstance(c, Reschedule) and isinstance(c.job, StoredJob) and o is MOVED
        )
        return outcomes


@pytest.fixture(params=["redis", "glide"])
async def counting(request, valkey):
    if request.param == "glide":
        pytest.importorskip("glide")
    async with connect(valkey.url.replace("redis://", f"{request.param}://")) as backend:
        counting = Counting(backend)
        counting.moved = Counter()
        yield counting


@pytest.fixture
def queue(counting, name):
    return DelayedQueue(counting, name)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(sweep, "STEP", 7)


def now(**later):
    return datetime.now(UTC) + timedelta(**later)


async def test_jobs_with_and_without_an_index_are_seen_moved_and_cancelled(queue):
    await queue.schedule_many([Job(data=i, delay=100 + i, name="ab"[i % 2], index=bool(i % 3)) for i in range(100)])
    assert await queue.count() == 100
    assert [job.data() async for job in queue.scan()] == list(range(100))
    assert [job.data() async for job in queue.scan(reverse=True, name="a")] == list(range(98, -1, -2))
    later = await queue.reschedule_where(by=timedelta(seconds=50), due_from=now(seconds=150))
    assert later.outcomes == {MOVED: later.matched}
    assert 45 <= later.matched <= 51
    assert (await queue.reschedule_where(by=timedelta(seconds=-1_000))).outcomes == {MOVED: 100}
    assert (await queue.stats()).due == 100
    assert (await queue.reschedule_where(delay=60)).outcomes == {MOVED: 100}
    page = await queue.jobs(limit=10, details=True)
    assert {job.unique for job in page.jobs} == {False}
    assert await queue.cancel_many(page.jobs) == (REMOVED,) * 10
    named = await queue.cancel_where(name="a")
    assert named.outcomes == {REMOVED: named.matched}
    run = await queue.run_due_before(now(seconds=1_000), max_stream_len=20)
    stats = await queue.stats()
    assert (stats.stream_len, stats.due, run.outcomes[PROMOTED]) == (20, stats.depth, 20)
    assert run.matched == 20 + stats.depth == 90 - named.matched
    assert (await queue.cancel_where()).outcomes == {REMOVED: stats.depth}


async def test_a_repeat_does_what_its_caller_says(queue, counting, name):
    assert (await queue.schedule(1, delay=10, job_id="a", on_repeat="extend", keep_id_for=0)).outcome is CREATED
    assert (await queue.schedule(2, delay=50, job_id="a", on_repeat="extend")).outcome is MOVED
    job = await queue.get("a")
    assert (job.data(), job.keep_id_for, job.unique) == (1, timedelta(0), True)
    again = await queue.schedule(2, delay=50, job_id="a", on_repeat="replace", name="n")
    assert again.outcome is REPLACED
    job = await queue.get("a")
    assert (job.data(), job.name, job.keep_id_for) == (2, "n", timedelta(hours=1))
    with pytest.raises(JobExistsError, match="its job waits"):
        await queue.schedule(3, delay=50, job_id="a", on_repeat="error")
    assert await queue.replace("a", 3) is REPLACED
    assert [await queue.run_now("a") for _ in range(2)] == [PROMOTED, ALREADY_PROMOTED]
    assert await queue.replace("a", 4) is ALREADY_PROMOTED
    assert await queue.replace("a", 4, delay=5, keep_id_for=0) is CREATED
    assert await queue.run_now("a") is PROMOTED
    assert (await queue.schedule(5, delay=50, job_id="a")).created
    assert [e.fields.get("n") for e in await counting.read(name, StreamName.JOBS, "", 9)] == [b"n", None]


async def test_no_job_is_moved_twice_while_time_goes_on(queue, counting):
    rnd = random.Random(5)
    for _ in range(20):
        await queue.cancel_where()
        counting.moved.clear()
        delays = (0, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 1)
        await queue.schedule_many([Job(data=i, delay=rnd.choice(delays)) for i in range(60)])
        ms = timedelta(milliseconds=rnd.choice((-50, -10, 10, 20, 50)))
        where = rnd.choice(({"at": now() + ms}, {"delay": max(ms, timedelta(0))}, {"by": ms}))
        result = await queue.reschedule_where(**where)
        assert set(counting.moved.values()) <= {1}, where
        assert counting.moved.total() == result.outcomes.get(MOVED, 0) <= result.matched <= 60, where
        assert (await queue.stats()).depth == 60
