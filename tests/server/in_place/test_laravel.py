"""The layout `laravel` beside the real queue of Laravel, whose workers migrate due jobs themselves at each `pop`."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from promoter_core import Promoter, connect
from tests.server.bench import until
from tests.server.in_place.apps import HERE, App, contents, copied, need

pytestmark = pytest.mark.server
APP = str(HERE / "laravel_app.php")
DATA = {"a": [], "n": 2**53 + 1, "s": "é", "t": "x" * 100_000}
SET = "app_queues:default:delayed"


@pytest.fixture(autouse=True)
def installed():
    need(
        "laravel", "php", "/usr/share/php/Illuminate/Queue/autoload.php", "/usr/share/php/Illuminate/Redis/autoload.php"
    )


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@asynccontextmanager
async def promoted(url, options=""):
    async with connect(url, layout=f"laravel:prefix=app_{options}") as backend, Promoter(backend, "default").running():
        yield backend


def laravel(url):
    return App(["php", APP], url, PREFIX="app_")


def jobs(count):
    return [{"delay": 2 + i % 3, "data": {"i": i, **DATA}} for i in range(count)]


async def done(client):
    return [json.loads(line) for line in await client.lrange("app_done", 0, -1)]


async def settled(client, count):
    return await client.llen("app_done") >= count


async def empty(client):
    return await client.zcard(SET) == 0


@pytest.mark.parametrize("early", ["", ",early=true"])
async def test_a_worker_that_blocks_runs_each_job_once_with_its_data(server, client, early):
    app, start = laravel(server.url), time.time()
    wanted = jobs(9)
    ids = await asyncio.to_thread(app.run, "produce", lines=wanted)
    async with promoted(server.url, early):
        with app.running("php", APP, "take"):
            await until(lambda: settled(client, 9), 30)
    got = {id: (at, data) for id, at, data in await done(client)}
    assert {id: data for id, (_, data) in got.items()} == {id: job["data"] for id, job in zip(ids, wanted, strict=True)}
    if not early:
        assert all(got[id][0] >= start + job["delay"] for id, job in zip(ids, wanted, strict=True)), "nothing early"


async def test_the_store_is_as_after_laravels_own_migration(server, client):
    await asyncio.to_thread(laravel(server.url).run, "produce", lines=jobs(9))
    async with Redis.from_url(f"{server.url}/1") as other:
        await copied(client, other, SET)
        async with promoted(server.url):
            await until(lambda: empty(client), 30)
        await asyncio.to_thread(laravel(f"{server.url}/1").run, "poll")
        theirs, ours = [await contents(each) for each in (other, client)]
    assert ours == theirs
    assert len(ours[b"app_queues:default"][2]) == 9


async def test_beside_laravels_own_migration_each_of_a_thousand_jobs_runs_once(server, client):
    app = laravel(server.url)
    ids = await asyncio.to_thread(app.run, "produce", lines=[{"delay": 2 + i % 4, "data": i} for i in range(1_000)])
    async with promoted(server.url):
        with app.running(), app.running():
            await until(lambda: settled(client, 1_000), 60)
            await asyncio.sleep(0.5)
    assert sorted(id for id, _, _ in await done(client)) == sorted(ids)
