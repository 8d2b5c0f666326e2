"""RQ's scheduled jobs, moved in place: its lock, its rate limits, and jobs that are gone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from promoter_core import Promoter, connect
from promoter_core.spi import Lease, LeaseHeld
from tests.frameworks import IN_PLACE
from tests.frameworks.checks import QUEUE, snapshot, url_of
from tests.server.bench import promote, until
from tests.typed import untyped

pytestmark = pytest.mark.server
rq_package = pytest.importorskip("rq")
Queue, note = rq_package.Queue, "tests.frameworks.with_rq.note"


@pytest.fixture
def rq(request):
    return IN_PLACE["rq"]


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def scheduler(rq, server):
    from rq.scheduler import RQScheduler

    with SyncRedis.from_url(server.url) as client:
        yield RQScheduler([QUEUE], connection=client, logging_level="ERROR")


async def test_rqs_scheduler_gets_no_lock_while_a_promoter_leads_and_takes_over_afterwards(scheduler, server, client):
    async with connect(server.url, layout="rq") as backend:
        async with Promoter(backend, QUEUE).running():
            await until(lambda: client.get("rq:scheduler-lock:mail"))
            assert scheduler.acquire_locks() == set()
            scheduler.enqueue_scheduled_jobs()
        assert scheduler.acquire_locks() == {QUEUE}  # after a clean stop
        scheduler.release_locks()
        assert isinstance(await backend.lock(QUEUE, "ours", 200), Lease)  # and after a crash, when the lease has ended
        assert scheduler.acquire_locks() == set()
        await until(lambda: scheduler.acquire_locks() == {QUEUE})


async def test_a_promoter_leads_when_rqs_scheduler_gives_up_its_lock_or_lets_it_end(scheduler, server, client):
    for end in (scheduler.release_locks, None):
        assert scheduler.acquire_locks() == {QUEUE}
        async with connect(server.url, layout="rq") as backend:
            assert isinstance(await backend.lock(QUEUE, "ours", 5000), LeaseHeld)
            await client.zadd("rq:scheduled:mail", {"due": 1})
            async with Promoter(backend, QUEUE, holder_id="ours").running():
                await asyncio.sleep(0.1)
                assert await client.zcard("rq:scheduled:mail") == 1
                if end:
                    await asyncio.to_thread(end)
                else:
                    await client.pexpire("rq:scheduler-lock:mail", 50)

                async def led():
                    return await client.get("rq:scheduler-lock:mail") == b"ours"

                await until(led)


async def test_a_job_of_rq_that_is_gone_leaves_the_set_and_nothing_else_is_written(server, client):
    await client.zadd("rq:scheduled:mail", {"gone": 1})
    async with connect(server.url, layout="rq") as backend:
        promotion = await promote(backend, QUEUE)
        assert (promotion.promoted, promotion.malformed, promotion.depth, promotion.jobs) == (0, 0, 0, ())
        assert await client.keys("rq:*") == [b"rq:scheduler-lock:mail"]


async def test_a_diagnosis_warns_of_workers_of_another_version(server, client):
    await client.zadd("rq:scheduled:mail", {"later": 4e9})
    async with connect(server.url, layout="rq") as backend:
        for version, warned in (("3.0.7", False), ("2.6.0", True)):
            await client.sadd("rq:workers", "rq:worker:w")
            await client.hset("rq:worker:w", "version", version)
            found = [f.summary for f in await untyped(backend).diagnose() if f.severity == "warning"]
            assert any(f"{version} runs here" in text for text in found) is warned


def limited(queue, at):
    """Two of four get a slot."""
    from rq.rate_limit import RateLimit

    for i in range(4):
        queue.enqueue_at(at, note, str(i), i, job_id=f"j{i}", rate_limit=RateLimit("slow", 2), at_front=i == 1)


def bare(queue, at):
    """Jobs that were made without the queue, so that they have no time limit and no origin; one that is a retry."""
    from rq.job import Job

    for i in range(3):
        job = Job.create(note, (str(i), i), id=f"j{i}", connection=queue.connection)
        if i == 2:
            job.enqueue_at_front_on_retry, job.ended_at = True, at
        queue.schedule_job(job, at)


@pytest.mark.parametrize(("make", "moved", "queued"), [(limited, 4, 2), (bare, 3, 3)])
async def test_special_jobs_are_as_rqs_scheduler_leaves_them(rq, server, client, make, moved, queued):
    due = int(time.time()) + 3
    with SyncRedis.from_url(server.url) as connection:
        make(Queue(QUEUE, connection=connection), datetime.fromtimestamp(due, UTC))
    for key in await client.keys():
        await client.copy(key, key, destination_db=1)
    await asyncio.sleep(max(due - time.time(), 0) + 0.05)
    async with Redis.from_url(url_of(server, 1)) as theirs:
        await asyncio.to_thread(rq.run, "move", url_of(server, 1), QUEUE)
        async with connect(server.url, layout="rq:early=true") as backend:
            assert (await promote(backend, QUEUE)).promoted == moved
        ours, expected = await snapshot(rq, client), await snapshot(rq, theirs)
        for found in (ours, expected):
            for key in found.keys() & {b"rq:rl:slow:allowed", b"rq:rl:slow:rate_limited"}:
                found[key] = [id for id, _ in found[key][1]]
        assert ours == expected
        assert await client.llen("rq:queue:mail") == queued
