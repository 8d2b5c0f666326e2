"""Around layouts in place: the command line, a diagnosis, what is there, who else is there, discovery."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import Promoter, PromoterFleet, connect
from promoter_core.monitor import snapshot
from promoter_core.spi import Lease, LeaseHeld, in_place
from promoter_resp import in_place_backend
from tests.server.bench import until
from tests.server.test_cli import promoter
from tests.typed import untyped

pytestmark = pytest.mark.server


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


def layout(name, move="mail:{queue}", **more):
    return in_place.InPlace(name=name, source="{queue}:later", moves=in_place.Pushes((in_place.Push(move),)), **more)


@pytest.mark.parametrize("pattern", ["default", "schedul", "x*"])
def test_a_queue_that_the_framework_does_not_have_is_one_line(pattern):
    answer = promoter("run", "--url", "redis://localhost:1", "--queue", pattern, "--layout", "sidekiq")
    assert answer.returncode == 2
    assert f"Sidekiq has the queues schedule and retry, not {pattern!r}" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


async def test_commands_that_look_work_and_those_that_write_refuse_in_one_line(server, client):
    await client.zadd("app_queues:default:delayed", {"a": 1, "b": 9e9})
    where = ["--url", server.url, "--layout", "laravel:prefix=app_"]
    seen = json.loads(await asyncio.to_thread(run, "inspect", *where, "--queue", "default", "--json"))
    assert (seen["depth"], seen["due"], seen["next_due_ms"]) == (2, 1, 2000)
    (row,) = json.loads(await asyncio.to_thread(run, "queues", *where, "--json"))
    assert row["queue"] == "default"
    for command in (["list"], ["show", "a"], ["cancel", "a"], ["schedule", "--delay", "1s", "{}"], ["run-now", "a"]):
        answer = await asyncio.to_thread(promoter, *command, *where, "--queue", "default")
        assert answer.returncode == 1
        assert answer.stderr.strip() == "Error: this set belongs to Laravel; schedule with Laravel"
    assert await client.zcard("app_queues:default:delayed") == 2


def run(*arguments):
    answer = promoter(*arguments)
    assert answer.returncode in (0, 1), answer.stderr
    return answer.stdout


async def test_a_diagnosis_says_what_is_there_and_writes_nothing_of_theirs(server, client):
    await client.zadd("app_queues:default:delayed", {"a": 1})
    before = await client.keys("*")
    said = await asyncio.to_thread(run, "doctor", "--url", server.url, "--layout", "laravel")
    assert "Laravel has no delayed jobs at queues:<queue>:delayed; there is app_queues:default:delayed" in said
    said = await asyncio.to_thread(run, "doctor", "--url", server.url, "--layout", "laravel:prefix=app_")
    assert "its own scheduler may run beside; tested with laravel 8.83" in said
    assert "all that a promotion of default writes is permitted" in said
    assert "problem" not in said.replace("problem  nothing is written to disk", "")
    said = await asyncio.to_thread(run, "doctor", "--url", server.url, "--layout", "sidekiq")
    assert "Sidekiq has no delayed jobs at schedule and retry" in said
    assert await client.keys("*") == before


async def test_a_diagnosis_does_not_take_our_keys_for_theirs(server, client):
    """They are left when the set is empty again."""
    await client.xadd("promoter-in-place:{rq:scheduled:default}:events", {"a": 1})
    said = await asyncio.to_thread(run, "doctor", "--url", server.url, "--layout", "rq")
    assert "RQ has no delayed jobs at" in said
    assert "promoter-in-place" not in said


async def test_a_diagnosis_names_the_commands_that_are_refused(server, client):
    await client.zadd("queues:default:delayed", {"a": 1})
    words = ("reset", "on", ">pw", "~*", "&*", "+@all", "-rpush", "-zremrangebyrank")
    await client.execute_command("ACL", "SETUSER", "narrow", *words)
    url = f"redis://narrow:pw@{server.address}/0"
    said = await asyncio.to_thread(run, "doctor", "--url", url, "--layout", "laravel")
    assert "the user may not zremrangebyrank queues:default:delayed, rpush queues:default, rpush" in said


@pytest.mark.parametrize("fleet", [False, True])
async def test_a_prefix_that_matches_nothing_is_said_once_with_what_is_there(
    server, client, caplog, monkeypatch, fleet
):
    monkeypatch.setattr(in_place_backend, "ABSENT_S", 0.0)
    await client.zadd("app_queues:default:delayed", {"a": 9e9})
    async with connect(server.url, layout="laravel") as backend:
        runner = PromoterFleet(backend, ["*"]) if fleet else Promoter(backend, "default")
        async with runner.running():
            if fleet:
                async for _ in untyped(backend).find_queues(["*"]):
                    pass
            else:
                await client.zadd("queues:default:delayed", {"b": 9e9})
                await client.delete("queues:default:delayed")
            for _ in range(3):
                lease = await backend.lock("other", "me", 10_000)
                assert isinstance(lease, Lease)
                await backend.promote(lease, in_place_request())
            async with asyncio.timeout(20):  # the runner may be the one that is looking for what is there
                while not said(caplog):
                    await asyncio.sleep(0.01)
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("many", [False, True])
async def test_no_tick_waits_for_the_search_for_what_is_there_and_the_end_ends_it(server, monkeypatch, many):
    ended = asyncio.Event()

    async def missing(driver, layout):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(in_place_backend, "ABSENT_S", 0.0)
    monkeypatch.setattr("promoter_resp.in_place_checks.missing", missing)
    async with connect(server.url, layout="laravel") as backend:
        fleet: Any = backend
        lease = await backend.lock("default", "me", 10_000)
        assert isinstance(lease, Lease)
        async with asyncio.timeout(60):
            for _ in range(3):
                if many:
                    await fleet.promote_many([(lease, in_place_request())])
                else:
                    await backend.promote(lease, in_place_request())
                await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


def said(caplog):
    return [record.message for record in caplog.records if "there is app_queues:default:delayed" in record.message]


def in_place_request():
    from promoter_core.testing.conformance.harness import REQUEST

    return REQUEST


async def test_versions_that_the_layout_is_not_made_for_are_said_once(server, client, caplog):
    await client.sadd("processes", "host:1", "host:2")
    await client.hset("host:1", "info", json.dumps({"version": "9.0.1"}))
    await client.hset("host:2", "info", json.dumps({"version": "8.1.7"}))
    sentence = "layout sidekiq is made for Sidekiq 6 to below 9, and 9.0.1 runs here"
    with caplog.at_level(logging.WARNING):
        async with connect(server.url, layout="sidekiq") as backend:
            for _ in range(2):
                async with PromoterFleet(backend, ["schedule", "retry"]).running():
                    await asyncio.sleep(0.1)
    assert len([record for record in caplog.records if sentence in record.message]) == 1
    assert sentence in await asyncio.to_thread(run, "doctor", "--url", server.url, "--layout", "sidekiq")


async def test_keys_of_that_form_that_are_no_sets_are_no_queues(server, client):
    await client.zadd("a:later", {"x": 1})
    await client.set("b:later", "text")
    async with connect(server.url, layout=layout("mail")) as backend:
        found = [queue async for page in untyped(backend).find_queues(["*"]) for queue in page]
    assert found == ["a"]


async def test_promoters_of_two_layouts_of_one_set_exclude_each_other(server):
    async with connect(server.url, layout=layout("one")) as one, connect(server.url, layout=layout("two")) as two:
        await one.lock("q", "me", 10_000)
        assert isinstance(await two.lock("q", "you", 10_000), LeaseHeld)


async def test_a_fleet_leads_sets_that_are_there_later_and_jobs_arrive(server, client):
    prefix = f"{ULID()}:"
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(connect(server.url, layout=f"sidekiq:prefix={prefix}"))
        await stack.enter_async_context(PromoterFleet(backend, ["*"]).running())
        await until(lambda: client.exists(f"promoter-in-place:{{{prefix}schedule}}:lock"))
        seconds, _ = await client.time()
        await client.zadd(f"{prefix}schedule", {'{"queue":"a","jid":"1"}': int(seconds)})
        await until(lambda: client.llen(f"{prefix}queue:a"))


async def test_the_figures_of_the_store_are_those_of_the_set(server, client):
    seconds, _ = await client.time()
    await client.zadd("queues:default:delayed", {"a": 1, "b": int(seconds) + 30, "c": int(seconds) + 300})
    promoted = await asyncio.to_thread(run, "count", "--url", server.url, "--layout", "laravel", "--queue", "default")
    assert "3" in promoted
    async with connect(server.url, layout="laravel") as backend:
        (queue,) = (await snapshot(backend, ["*"])).queues
    assert queue.error is None
    assert queue.stats
    assert queue.coming
    assert (queue.name, queue.stats.depth, queue.stats.due) == ("default", 3, 1)
    assert (queue.coming.minute, queue.coming.hour) == (1, 2)


async def test_a_first_job_is_moved_at_once_though_nobody_announces_it(server, client):
    async with connect(server.url, layout=layout("mail")) as backend:
        async with Promoter(backend, "q").running():
            await until(lambda: client.exists("promoter-in-place:{q:later}:lock"))
            await asyncio.sleep(0.1)
            await client.zadd("q:later", {"a": 1})
            await until(lambda: client.llen("mail:q"), 2.0)
