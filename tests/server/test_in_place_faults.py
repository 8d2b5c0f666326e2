"""What goes wrong in the middle of a promotion in place: nothing of theirs is lost, doubled or held up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import PermanentError, connect
from promoter_core.spi import Lease, PromotionRequest, StreamName
from tests.typed import untyped

pytestmark = pytest.mark.server
REQUEST = PromotionRequest(limit=100, max_stream_len=1_000, want_jobs=True)
HASHED = {  # the set, the hash of a job, the target
    "rq": ("rq:scheduled:mail", "rq:job:", "rq:queue:mail"),
    "docket": ("mail:queue", "mail:", "mail:stream"),
    "asynq": ("asynq:{mail}:scheduled", "asynq:{mail}:t:", "asynq:{mail}:pending"),
}
FIELDS = {"key": "a", "when": "1", "function": "f", "args": "", "kwargs": "", "attempt": "1"}
FIELDS |= {"status": "scheduled", "msg": "m"}


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def without(server, client):
    """The URL of a user who may do all but one command."""

    async def without(command):
        await client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">pw", "~*", "&*", "+@all", f"-{command}")
        return f"redis://u:pw@{server.address}/0"

    return without


async def promote(url, layout, queue="mail", times=1, **changes):
    """The last of some answers."""
    async with connect(url, layout=layout) as backend:
        lease = await backend.lock(queue, "me", 10_000)
        assert isinstance(lease, Lease)
        for _ in range(times):
            answer = await backend.promote(lease, replace(REQUEST, **changes))
        return answer


@pytest.mark.parametrize("name", HASHED)
async def test_a_job_that_may_not_be_read_is_no_dead_letter(client, without, name):
    source, hash, target = HASHED[name]
    await client.zadd(source, {"a": 1})
    await client.hset(f"{hash}a", mapping=FIELDS)
    with pytest.raises(PermanentError, match="NOPERM"):
        await promote(await without("hmget"), name)
    assert await client.zcard(source) == 1
    assert not await client.exists(target)
    assert not [key for key in await client.keys() if key.endswith(b"dlq")]


@pytest.mark.parametrize("name", HASHED)
async def test_a_job_of_another_type_is_a_dead_letter_and_the_batch_goes_on(server, client, name):
    source, hash, target = HASHED[name]
    await client.zadd(source, {"bad": 1, "a": 2})
    await client.set(f"{hash}bad", "text")
    await client.hset(f"{hash}a", mapping=FIELDS)
    answer = await promote(server.url, name)
    assert (answer.promoted, answer.malformed, answer.depth) == (1, 1, 0)
    assert await client.exists(target)
    async with connect(server.url, layout=name) as backend:
        (dead,) = await backend.read("mail", StreamName.DLQ, "", 10)
    assert dead.fields["d"] == b"bad"


@pytest.mark.parametrize(
    ("name", "command", "source", "target"),
    [
        ("huey", "zremrangebyrank", "huey.schedule.mail", "huey.redis.mail"),
        ("saq", "zadd", "saq:mail:incomplete", "saq:mail:queued"),
    ],
)
async def test_what_may_not_leave_the_set_does_not_arrive_each_tick(client, without, name, command, source, target):
    await client.zadd(source, {"a": 1})
    url = await without(command)
    for _ in range(3):
        with pytest.raises(PermanentError, match="NOPERM"):
            await promote(url, name)
    assert await client.zcard(source) == 1
    assert not await client.exists(target)


def sidekiq(queue, jid, **more):
    return json.dumps({"queue": queue, "jid": jid} | more)


async def test_many_jobs_that_stay_do_not_hold_up_those_behind_them(server, client):
    await client.lpush("queue:full", *range(5))
    jobs = {sidekiq("full", f"{i}"): 1 + i for i in range(2_500)}
    await client.zadd("schedule", jobs | {sidekiq("free", "b"): 5_000})
    answers = [await promote(server.url, "sidekiq", "schedule", max_stream_len=5) for _ in range(5)]
    assert sum(answer.promoted for answer in answers) == 1
    assert all(answer.held_back >= 1_000 for answer in answers)
    assert await client.llen("queue:free") == 1
    await client.delete("queue:full")
    answer = await promote(server.url, "sidekiq", "schedule", times=2, max_stream_len=5)
    moved = [json.loads(job)["jid"] for job in await client.lrange("queue:full", 0, -1)]
    assert moved == ["4", "3", "2", "1", "0"], "the oldest ones first, once there is room"
    assert answer.depth == 2_495


async def test_large_jobs_that_stay_end_a_tick_as_those_do_that_move(server, client):
    await client.lpush("queue:full", *range(5))
    await client.zadd("schedule", {sidekiq("full", f"{i}", args=["x" * 10_000]): 1 + i for i in range(300)})
    answer = await promote(server.url, "sidekiq", "schedule", max_stream_len=5)
    assert 100 <= answer.held_back <= 130


async def test_a_queue_of_another_type_stops_no_other_queue(server, client):
    await client.hset("queue:bad", "a", "b")
    await client.zadd("schedule", {sidekiq("bad", "1"): 1, sidekiq("bad", "2"): 2, sidekiq("good", "3"): 3})
    answer = await promote(server.url, "sidekiq", "schedule")
    assert (answer.promoted, answer.held_back, answer.depth) == (1, 2, 2)
    assert [json.loads(job)["jid"] for job in await client.lrange("queue:good", 0, -1)] == ["3"]
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await promote(server.url, "sidekiq", "schedule")


@pytest.mark.parametrize(
    ("layout", "queue", "key", "wanted"),
    [
        ("laravel", "mail", "queues:mail:delayed", "zset"),
        ("laravel", "mail", "queues:mail", "list"),
        ("streaq", "mail", "streaq:mail:queues:normal", "stream"),
        ("sidekiq", "schedule", "queues", "set"),
        ("sidekiq", "schedule", "queue:mail", "list"),
        ("sidekiq:prefix=a[b", "schedule", "a[bqueue:mail", "list"),
    ],
)
async def test_a_key_of_the_wrong_type_is_named(server, client, layout, queue, key, wanted):
    if layout != "laravel" and wanted == "list":
        await client.sadd(key.replace("queue:mail", "queues"), "mail")
    await client.hset(key, "a", "b")
    async with connect(server.url, layout=layout) as backend:
        with pytest.raises(PermanentError) as raised:
            await backend.stats(queue)
    assert f"the key {key} is of type hash and not {wanted}: another program wrote it" in str(raised.value)
    assert raised.value.code == "WRONGTYPE"


async def test_a_time_that_is_text_stays_as_it_is(server, client):
    job = sidekiq("a", "1", enqueued_at="2026-01-01, 10:00")
    await client.zadd("schedule", {job: 1})
    await promote(server.url, "sidekiq", "schedule")
    assert await client.lrange("queue:a", 0, -1) == [job.encode()]


@pytest.mark.parametrize("before", ["it's", "a\\", "x')--", "ä"])
@pytest.mark.parametrize("name", ["rq", "sidekiq"])
async def test_versions_are_seen_whatever_the_prefix_is(server, client, name, before):
    if name == "rq":
        await client.sadd(f"{before}:workers", "w")
        await client.hset("w", "version", "2.0.0")
    else:
        await client.sadd(f"{before}processes", "w")
        await client.hset(f"{before}w", "info", json.dumps({"version": "5.0.0"}))
    async with connect(server.url, layout=f"{name}:prefix={before}") as backend:
        found = [finding.summary for finding in await untyped(backend).diagnose()]
    assert any("0.0 runs here" in text for text in found)


async def test_permissions_hold_for_a_prefix_with_the_letters_of_a_pattern(server, client):
    before = f"app[1]?{ULID()}"
    async with connect(server.url, layout=f"rq:prefix={before}") as backend:
        words = untyped(backend).layout.acl("mail")
    await client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">pw", *words)
    await client.zadd(f"{before}:scheduled:mail", {"a": 1})
    await client.hset(f"{before}:job:a", "status", "scheduled")
    answer = await promote(f"redis://u:pw@{server.address}/0", f"rq:prefix={before}")
    assert answer.promoted == 1
    assert await client.lrange(f"{before}:queue:mail", 0, -1) == [b"a"]


@pytest.mark.parametrize("score", ["-inf", -5.5, 0, 1e-300])
async def test_scores_below_any_time_are_due_now(server, client, score):
    await client.zadd("huey.schedule.mail", {"a": score, "inf": "inf", "far": 2**60})
    answer = await promote(server.url, "huey")
    assert (answer.promoted, answer.depth, answer.next_due_ms) == (1, 2, None)
