"""Due jobs of other frameworks, moved in place: real producers and workers, and their own movers for comparison."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter

import pytest
from redis.asyncio import Redis

from promoter_core import PermanentError, Promoter, connect
from tests import processes
from tests.frameworks import IN_PLACE, started
from tests.frameworks.checks import QUEUE, jobs, produced, published, running, snapshot, url_of
from tests.server.bench import promote, until
from tests.typed import untyped

PATIENCE_S = 240  # with workers that fork for each job, on a busy machine
pytestmark = [pytest.mark.server, pytest.mark.timeout(2 * PATIENCE_S)]

VALUES = [[], {}, 2**53 + 1, "é\0", {"n": [None, 1.5, True], "": ""}, "x" * 1_048_576]


@pytest.fixture(params=IN_PLACE)
def framework(request):
    framework = IN_PLACE[request.param]
    if not framework.version:
        pytest.skip(f"{framework.package} is not installed")
    return framework


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


async def test_an_unmodified_worker_runs_each_job_with_its_arguments_and_none_early(
    framework, server, client, tmp_path
):
    out = tmp_path / "out"
    with running(framework.start("work", url_of(server), QUEUE, out)):
        async with connect(server.url, layout=framework.layout) as backend, Promoter(backend, QUEUE).running():
            far = jobs(1, "far", due=int(time.time()) + 3600)
            await produced(framework, server, far)
            await asyncio.sleep(0.2)  # the promoter sleeps until then, and is woken by the next jobs
            values = [value for value in VALUES if framework.module or value != 2**53 + 1]  # more than JavaScript has
            some = [{"id": f"j{i}", "in": 0, "value": value} for i, value in enumerate(values)]
            due = await produced(framework, server, some)
            await until(lambda: len(started(out)) >= len(values), PATIENCE_S)
            await asyncio.sleep(0.3)
            lines = started(out)
            assert {line["id"]: line["value"] for line in lines} == {job["id"]: job["value"] for job in some}
            assert len(lines) == len(values)
            assert min(line["at"] for line in lines) >= due
            assert (await backend.stats(QUEUE)).depth == 1


RQ_JOBS = [
    {"more": {}},
    {"more": {"at_front": True}},
    {"more": {"ttl": 500, "meta": {"a": 1}, "description": "d"}},
    {"more": {"job_timeout": 7, "result_ttl": 9, "failure_ttl": 11}},
]


async def test_all_keys_are_as_the_frameworks_own_mover_leaves_them(framework, server, client):
    some = jobs(4)
    if framework.name == "rq":
        some = [job | more for job, more in zip(some, RQ_JOBS, strict=True)]
    due = await produced(framework, server, [*some, *jobs(1, "far", **{"in": 3600})])
    for key in await client.keys():
        assert await client.copy(key, key, destination_db=1)
    await asyncio.sleep(max(due - time.time(), 0) + 0.05)
    async with Redis.from_url(url_of(server, 1)) as theirs:
        said = await published(theirs, lambda: asyncio.to_thread(framework.run, "move", url_of(server, 1), QUEUE))
        async with connect(server.url, layout=framework.layout) as backend:

            async def move():
                assert (await promote(backend, QUEUE)).promoted == 4

            assert await published(client, move) == said
        assert await snapshot(framework, client) == await snapshot(framework, theirs)
        assert any(b"far0" in repr(value).encode() for _, value, _ in (await snapshot(framework, client)).values())


async def test_beside_their_own_mover_each_of_1000_jobs_runs_once(framework, server, client, tmp_path):
    out = tmp_path / "out"
    words = ["schedule"] if framework.own_process else ["work-own"]
    theirs = [framework.start(*words, url_of(server), QUEUE, *([] if framework.own_process else [out]))]
    if framework.own_process:
        theirs.append(framework.start("work", url_of(server), QUEUE, out))
    with running(*theirs):
        after = [(i // 250 if framework.whole else i / 400) - 6 for i in range(1000)]  # the first ones meanwhile
        some = [job | {"in": seconds} for job, seconds in zip(jobs(1000), after, strict=True)]
        async with connect(server.url, layout=framework.layout) as backend:
            async with Promoter(backend, QUEUE).running():
                await produced(framework, server, some)
                await until(lambda: len({line["id"] for line in started(out)}) == 1000, PATIENCE_S)
                await asyncio.sleep(0.5)
                assert set(Counter(line["id"] for line in started(out)).values()) == {1}
                assert (await backend.stats(QUEUE)).depth == 0


async def test_a_target_of_another_type_keeps_every_member(framework, server, client):
    await produced(framework, server, jobs(3))
    async with connect(server.url, layout=framework.layout) as backend:
        keys = untyped(backend).layout.keys_of(QUEUE)
        await client.delete(keys.stream)
        await client.hset(keys.stream, "a", "b")
        before = await client.zrange(keys.delayed, 0, -1, withscores=True)

        async def refused():
            with contextlib.suppress(PermanentError):
                return (await promote(backend, QUEUE)).promoted
            return True

        assert await until(refused) is True
        assert await client.zrange(keys.delayed, 0, -1, withscores=True) == before


async def test_the_permissions_that_the_layout_names_suffice(framework, server, client):
    await produced(framework, server, jobs(2))
    async with connect(server.url, layout=framework.layout) as backend:
        layout = untyped(backend).layout
        keys = layout.keys_of(QUEUE)
    await client.execute_command("ACL", "SETUSER", "mover", "reset", "on", ">pw", *layout.acl(QUEUE))
    async with connect(f"redis://mover:pw@{server.address}/0", layout=framework.layout) as backend:

        async def moved():
            return (await promote(backend, QUEUE)).promoted == 2

        said = await published(client, lambda: until(moved))
        assert len(said) == (2 if layout.publishes else 0)
        assert (await backend.stats(QUEUE)).depth == 0
    assert await client.exists(keys.stream)
    log = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in await client.execute_command("ACL", "LOG")]
    assert {entry[b"object"] for entry in log} <= {b"smembers"}, "but for a look at the versions that run"


@pytest.mark.parametrize("name", [name for name, framework in IN_PLACE.items() if framework.whole])
async def test_a_score_that_may_have_lost_its_fraction_waits_for_the_end_of_its_second(server, client, name):
    if not IN_PLACE[name].version:
        pytest.skip(f"{name} is not installed")
    async with connect(server.url, layout=name) as backend:
        keys = untyped(backend).layout.keys_of(QUEUE)
        seconds, _ = await client.time()
        await client.zadd(keys.delayed, {"past": seconds - 2, "now": seconds, "later": seconds + 3600})
        if name == "rq":
            await client.hset("rq:job:past", mapping={"status": "scheduled"})
            await client.hset("rq:job:now", mapping={"status": "scheduled"})
        promotion = await promote(backend, QUEUE)
        moved, _ = await client.time()
        assert [job.id for job in promotion.jobs] == ["past"] or moved > seconds
        for job in promotion.jobs:
            assert job.promoted_ms >= job.due_ms == (await_score(job.id, seconds) + 1) * 1000


def await_score(id, seconds):
    return {"past": seconds - 2, "now": seconds}[id]


async def test_jobs_of_saq_that_are_queued_or_active_are_left_alone(server, client):
    async with connect(server.url, layout="saq:early=true") as backend:
        await client.zadd("saq:mail:incomplete", {"queued": 0, "due": 1, "far": 4e9})
        promotion = await promote(backend, QUEUE)
        assert (promotion.promoted, promotion.depth, promotion.next_due_ms) == (1, 1, 4_000_000_000_000)
        assert await client.zrange("saq:mail:incomplete", 0, -1, withscores=True) == [
            (b"due", 0.0),
            (b"queued", 0.0),
            (b"far", 4e9),
        ]
        assert await client.lrange("saq:mail:queued", 0, -1) == [b"due"]


async def test_huey_scores_are_read_with_the_offset_of_the_workers_zone(server, client):
    seconds, _ = await client.time()
    for offset in (32_400, -18_000):
        key = f"huey.schedule.at{abs(offset)}"
        await client.zadd(key, {"due": seconds - offset - 1, "later": seconds - offset + 60})
        async with connect(server.url, layout=f"huey:offset_s={offset}") as backend:
            promotion = await promote(backend, f"at{abs(offset)}")
            assert await client.lrange(f"huey.redis.at{abs(offset)}", 0, -1) == [b"due"]
            assert promotion.next_due_ms == (seconds + 60) * 1000


@pytest.mark.parametrize(
    "option",
    [
        "huey:offset_s=x",
        "huey:offset_s=99999",
        "rq:early=perhaps",
        "asynq:set=done",
        "streaq:priority={a}",
        "docket:cluster=2",
    ],
)
async def test_an_option_that_cannot_work_is_refused_in_one_line(server, option):
    name = option.split(":")[0]
    with pytest.raises(Exception, match=f"layout '{name}'") as refused:
        async with connect(server.url, layout=option):
            pass
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("layout", "key", "source"),
    [
        ("rq", "rq:job:bad", "rq:scheduled:mail"),
        ("docket", "mail:bad", "mail:queue"),
        ("asynq", "asynq:{mail}:t:bad", "asynq:{mail}:scheduled"),
    ],
)
async def test_what_is_no_job_goes_to_our_dead_letters_and_the_batch_goes_on(server, client, layout, key, source):
    good = {
        "rq": {"status": "scheduled"},
        "docket": {
            "key": "good",
            "when": "2026-01-01T00:00:00+00:00",
            "function": "f",
            "args": "a",
            "kwargs": "k",
            "attempt": "1",
        },
        "asynq": {"msg": "m", "state": "scheduled"},
    }
    await client.set(key, "of another type")
    await client.hset(key[: -len("bad")] + "good", mapping=good[layout])
    await client.zadd(source, {"bad": 1, "good": 2})
    async with connect(server.url, layout=layout) as backend:
        promotion = await promote(backend, QUEUE)
        assert (promotion.promoted, promotion.malformed, promotion.depth) == (1, 1, 0)
        ((_, entry),) = await client.xrange(untyped(backend).layout.keys_of(QUEUE).dlq)
        assert (entry[b"d"], entry[b"reason"]) == (b"bad", b"malformed")
    assert await client.get(key) == b"of another type"


# asynq, which cannot be run here: against the writes that its documentation and source name.


@pytest.mark.parametrize("which", ["scheduled", "retry"])
async def test_a_task_of_asynq_becomes_pending_or_joins_its_group(server, client, which):
    key = "asynq:{mail}"
    await client.hset(f"{key}:t:a", mapping={"msg": b"\x0a\x00", "state": which})
    await client.hset(f"{key}:t:b", mapping={"msg": b"\x0a\x01", "state": which, "group": "g1"})
    await client.zadd(f"{key}:{which}", {"a": 1, "b": 2, "gone": 3})
    async with connect(server.url, layout=f"asynq:set={which}") as backend:
        before = (await client.time())[0]
        promotion = await promote(backend, QUEUE)
        assert (promotion.promoted, promotion.depth) == (2, 0)
    assert await client.lrange(f"{key}:pending", 0, -1) == [b"a"]
    task = await client.hgetall(f"{key}:t:a")
    since = int(task.pop(b"pending_since"))
    assert task == {b"msg": b"\x0a\x00", b"state": b"pending"}
    assert 0 <= since - before * 10**9 < 60 * 10**9
    assert (await client.hgetall(f"{key}:t:b"))[b"state"] == b"aggregating"
    ((id, score),) = await client.zrange(f"{key}:g:g1", 0, -1, withscores=True)
    assert (id, int(score)) in {(b"b", before), (b"b", before + 1)}
    assert not await client.exists(f"{key}:t:gone")


async def test_a_promoter_that_is_killed_loses_and_doubles_nothing(framework, server, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "promoter_core", "run", "--url", server.url, "--layout", framework.layout]
    command += ["--queue", QUEUE, "--lock-ttl-ms", "1000"]

    def promoter():
        return processes.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    pair = [promoter(), promoter()]
    with running(*pair, framework.start("work", url_of(server), QUEUE, out)):
        after = [(i // 100 if framework.whole else i / 200) - 2 for i in range(400)]
        some = [job | {"in": seconds} for job, seconds in zip(jobs(400), after, strict=True)]
        await produced(framework, server, some)
        await until(lambda: len(started(out)) > 50, PATIENCE_S)
        pair[0].kill()
        await until(lambda: len({line["id"] for line in started(out)}) == 400, PATIENCE_S)
        await asyncio.sleep(0.3)
        assert set(Counter(line["id"] for line in started(out)).values()) == {1}
