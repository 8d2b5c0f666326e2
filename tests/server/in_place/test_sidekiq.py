"""The layout `sidekiq` beside the real Sidekiq: its producer, its poller and its workers."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from promoter_core import PromoterFleet, connect
from tests.server.bench import until
from tests.server.in_place.apps import HERE, App, all_wait, contents, copied, need, promoting

pytestmark = pytest.mark.server
APP = str(HERE / "sidekiq_app.rb")
ARGS = [[], {}, 2**53 + 1, "é\0", "x" * 100_000, {"enqueued_at": 1.5}, 1.10, None]


@pytest.fixture(autouse=True)
def installed():
    need("sidekiq", "ruby", "sidekiq")


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@asynccontextmanager
async def promoted(url):
    async with connect(url, layout="sidekiq") as backend, PromoterFleet(backend, ["*"]).running():
        yield backend


def sidekiq(url, **environment):
    return App(["ruby", APP], url, **environment)


def worker(app):
    return app.running("sidekiq", "-r", APP, "-q", "mail", "-c", "2")


def jobs(count, over_s, after_s, kind="Echo"):
    start = time.time() + after_s
    return [{"class": kind, "at": start + over_s * i / count, "args": [i, *ARGS[: i % 9]]} for i in range(count)]


async def done(client):
    return [json.loads(line) for line in await client.lrange("done", 0, -1)]


async def test_a_worker_runs_scheduled_and_retried_jobs_once_with_their_arguments(server, client):
    app = sidekiq(server.url)
    async with promoted(server.url):
        with worker(app):
            wanted = jobs(9, 1.0, 2.0) + jobs(1, 0, 0.5, "FailsOnce")
            ids = await asyncio.to_thread(app.run, "produce", lines=wanted)
            await until(lambda: settled(client, 10), 60)
    got = {jid: (at, args) for jid, at, args in await done(client)}
    assert len(await done(client)) == 10
    assert {jid: args for jid, (_, args) in got.items()} == {
        jid: job["args"] for jid, job in zip(ids, wanted, strict=True)
    }
    assert all(got[jid][0] >= job["at"] for jid, job in zip(ids, wanted, strict=True)), "nothing early"


async def settled(client, count):
    return await client.llen("done") >= count


@pytest.mark.parametrize("key", ["schedule", "retry"])
async def test_the_store_is_as_after_sidekiqs_own_poller(server, client, key):
    app = sidekiq(server.url)

    async def produce(ahead_s):
        await asyncio.to_thread(app.run, "produce", lines=jobs(9, 1.0, ahead_s))

    if key == "schedule":
        await all_wait(client, key, 9, produce)
        await until(lambda: overdue(client), 30)
    else:  # as a worker that failed leaves them
        await produce(-10.0)
        due = [
            json.loads(job) | {"enqueued_at": 1.5, "retry_count": 0} for job in await client.lrange("queue:mail", 0, -1)
        ]
        await client.flushdb()
        await client.zadd(key, {json.dumps(job, separators=(",", ":")): 1 + i for i, job in enumerate(due)})
    async with Redis.from_url(f"{server.url}/1") as other:
        await copied(client, other, key)
        await asyncio.to_thread(sidekiq(f"{server.url}/1").run, "poll")
        async with promoted(server.url):
            await until(lambda: empty(client, key))
        theirs, ours = [await contents(each, decode=without_the_time) for each in (other, client)]
    assert ours == theirs
    assert len(ours[b"queue:mail"][2]) == 9


async def overdue(client):
    (_, last), *_ = await client.zrange("schedule", -1, -1, withscores=True)
    return last < time.time()


async def empty(client, key):
    return await client.zcard(key) == 0


def without_the_time(job):
    """A job; of the time of the move there is only the type."""
    found = json.loads(job)
    assert abs(found["enqueued_at"] - time.time()) < 60
    return found | {"enqueued_at": type(found["enqueued_at"])}


async def test_beside_sidekiqs_poller_each_of_a_thousand_jobs_runs_once(server, client):
    app = sidekiq(server.url, POLL_S="0.1")
    ids = await asyncio.to_thread(app.run, "produce", lines=jobs(1_000, 6.0, 4.0))
    async with promoted(server.url):
        with worker(app), worker(app):
            await until(lambda: settled(client, 1_000), 90)
            await asyncio.sleep(0.5)
    assert sorted(jid for jid, _, _ in await done(client)) == sorted(ids)


async def test_a_promoter_that_is_killed_loses_and_doubles_nothing(server, client):
    app = sidekiq(server.url)
    ids = await asyncio.to_thread(app.run, "produce", lines=jobs(500, 4.0, 4.0))
    for _ in range(3):
        with promoting(server.url, "sidekiq", "schedule", "retry") as process:
            before = await client.zcard("schedule")
            await until(lambda seen=before: fewer(client, seen), 30)
            process.kill()
    with promoting(server.url, "sidekiq", "schedule"):
        await until(lambda: empty(client, "schedule"), 30)
    moved = [json.loads(job)["jid"] for job in await client.lrange("queue:mail", 0, -1)]
    assert sorted(moved) == sorted(ids)


async def fewer(client, before):
    return await client.zcard("schedule") < before
