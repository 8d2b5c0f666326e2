"""Promotion of sets that belong to other frameworks, on servers: each kind of move, take and score."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import PermanentError, connect
from promoter_core.spi import Lease, LeaseLost, Overflow, Promotion, PromotionRequest, StreamName, in_place
from tests.typed import untyped

pytestmark = pytest.mark.server
REQUEST = PromotionRequest(limit=100, max_stream_len=1_000, want_jobs=True)
MAIL = in_place.InPlace(
    name="mail",
    source="{queue}:later",
    moves=in_place.Pushes((in_place.Push("{queue}"), in_place.Push("{queue}:note", value="1"))),
)


@pytest.fixture
async def client(any_server):
    async with Redis.from_url(any_server.url) as client:
        yield client


@pytest.fixture
def queue():
    return f"q-{ULID()}"


async def promote(url, layout, queue, **changes):
    async with connect(url, layout=layout) as backend:
        lease = await backend.lock(queue, "me", 10_000)
        assert isinstance(lease, Lease)
        answer = await backend.promote(lease, replace(REQUEST, **changes))
        return answer, await backend.stats(queue)


async def test_pushes_move_due_members_alone_and_the_rest_stays(any_server, client, queue):
    await client.zadd(f"{queue}:later", {b"\x00\xff": 1, b"b": 2, b"later": 9e12})
    answer, stats = await promote(any_server.url, MAIL, queue)
    assert (answer.promoted, answer.depth, answer.next_due_ms, answer.oldest_pending_lag_ms) == (2, 1, 9 * 10**12, 0)
    assert [(job.id, job.due_ms) for job in answer.jobs] == [("\x00\udcff", 1), ("b", 2)]
    assert answer.lateness_counts[:1] == (2,)
    assert await client.lrange(queue, 0, -1) == [b"\x00\xff", b"b"]
    assert await client.lrange(f"{queue}:note", 0, -1) == [b"1", b"1"]
    assert (stats.depth, stats.due, stats.stream_len, stats.next_due_ms) == (1, 0, 2, 9 * 10**12)


async def test_an_entry_holds_the_member_and_its_score(any_server, client, queue):
    fields = (("id", in_place.Held.MEMBER), ("at", in_place.Held.SCORE))
    layout = replace(MAIL, moves=in_place.Entry("{queue}", fields))
    await client.zadd(f"{queue}:later", {b"a": 1795887021563})
    answer, stats = await promote(any_server.url, layout, queue)
    ((id, entry),) = await client.xrange(queue)
    assert entry == {b"id": b"a", b"at": b"1795887021563"}
    assert answer.jobs[0].stream_id == id.decode()
    assert stats.stream_len == 1


async def test_seconds_are_exact_and_whole_ones_never_early(any_server, client, queue):
    now = time.time()
    exact = replace(MAIL, score=in_place.Score.S)
    await client.zadd(f"{queue}:later", {b"a": now - 0.01, b"b": now + 60.5})
    answer, stats = await promote(any_server.url, exact, queue)
    assert (answer.promoted, stats.depth) == (1, 1)
    assert abs(stats.next_due_ms - (now + 60.5) * 1000) <= 1
    await client.delete(f"{queue}:later")
    second = int((await client.time())[0])
    await client.zadd(f"{queue}:later", {b"c": second - 1, b"d": second})
    answer, stats = await promote(any_server.url, replace(exact, whole=True), queue)
    ids = [job.id for job in answer.jobs]
    assert ids == ["c"] or int((await client.time())[0]) > second
    if ids == ["c"]:
        assert stats.next_due_ms == (second + 1) * 1000


async def test_scores_in_another_zone_are_corrected(any_server, client, queue):
    layout = replace(MAIL, score=in_place.Score.S, offset_s=-32_400)
    now = time.time()
    await client.zadd(f"{queue}:later", {b"due": now + 32_400 - 1, b"later": now + 32_400 + 60})
    answer, stats = await promote(any_server.url, layout, queue)
    assert [job.id for job in answer.jobs] == ["due"]
    assert abs(stats.next_due_ms - (now + 60) * 1000) <= 1


async def test_members_below_the_floor_are_not_delayed_and_may_come_from_above(any_server, client, queue):
    layout = replace(MAIL, floor="1", take=in_place.Take.RESCORE)
    await client.zadd(f"{queue}:later", {b"old": 0, b"a": 5, b"b": 6, b"c": 9e12})
    answer, stats = await promote(any_server.url, layout, queue)
    assert (answer.promoted, answer.depth, answer.next_due_ms, stats.depth) == (2, 1, 9 * 10**12, 1)
    scores = {b"a": 0.0, b"b": 0.0, b"old": 0.0, b"c": 9e12}
    assert dict(await client.zrange(f"{queue}:later", 0, -1, withscores=True)) == scores
    await client.zadd(f"{queue}:later", {b"d": 7})
    answer, _ = await promote(any_server.url, replace(layout, take=in_place.Take.REMOVE), queue)
    assert [job.id for job in answer.jobs] == ["d"]
    assert await client.zcard(f"{queue}:later") == 4


SKIPPING = in_place.Lua(
    body="""
    if find(member, '^stay') then skip = true
    elseif find(member, '^bad') then dead = 'bad'
    else added = pcall('RPUSH', key1, member) end
    """,
    keys=("{queue}",),
)


async def test_a_body_may_leave_members_and_bury_them(any_server, client, queue):
    layout = replace(MAIL, moves=SKIPPING, writes=(in_place.Writes(key="{queue}", commands=("rpush",)),))
    names = [("stay" if i % 3 == 0 else "bad" if i % 7 == 0 else "go") + f"-{i:03}" for i in range(90)]
    await client.zadd(f"{queue}:later", {name: 1 + i for i, name in enumerate(names)})
    async with connect(any_server.url, layout=layout) as backend:
        lease = await backend.lock(queue, "me", 10_000)
        assert isinstance(lease, Lease)
        answer = await backend.promote(lease, REQUEST)
        dead = await backend.read(queue, StreamName.DLQ, "", 100)
        again = await backend.promote(lease, REQUEST)
    assert isinstance(answer, Promotion)
    assert isinstance(again, Promotion)
    by_kind = {kind: [name for name in names if name.startswith(kind)] for kind in ("stay", "bad", "go")}
    assert await client.lrange(queue, 0, -1) == [name.encode() for name in by_kind["go"]]
    assert [entry.fields["d"] for entry in dead] == [name.encode() for name in by_kind["bad"]]
    assert await client.zrange(f"{queue}:later", 0, -1) == [name.encode() for name in by_kind["stay"]]
    assert (answer.promoted, answer.malformed, answer.held_back) == (len(by_kind["go"]), len(by_kind["bad"]), 30)
    assert (again.promoted, again.held_back) == (0, 30)


async def test_a_full_list_holds_back_and_nothing_of_theirs_is_trimmed(any_server, client, queue):
    await client.zadd(f"{queue}:later", {f"{i}": 1 + i for i in range(10)})
    answer, stats = await promote(any_server.url, MAIL, queue, max_stream_len=4)
    assert (answer.promoted, answer.held_back, stats.stream_len, stats.depth) == (4, 6, 4, 6)
    with pytest.raises(PermanentError, match="overflow=trim would drop jobs of mail; use hold"):
        await promote(any_server.url, MAIL, queue, overflow=Overflow.TRIM)


async def test_a_target_of_another_type_leaves_the_set_as_it_was(any_server, client, queue):
    await client.zadd(f"{queue}:later", {"a": 1})
    await client.hset(queue, "a", "b")
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await promote(any_server.url, MAIL, queue)
    assert await client.zcard(f"{queue}:later") == 1


async def test_a_lost_lease_writes_nothing(any_server, client, queue):
    await client.zadd(f"{queue}:later", {"a": 1})
    async with connect(any_server.url, layout=MAIL) as backend:
        lease = await backend.lock(queue, "me", 10_000)
        assert isinstance(lease, Lease)
        await backend.unlock(lease)
        assert isinstance(await backend.promote(lease, REQUEST), LeaseLost)
    assert not await client.exists(queue)


@pytest.mark.parametrize("unit", [1, 1000])
async def test_sidekiq_jobs_go_to_their_queues_with_the_time_of_the_move(any_server, client, unit):
    prefix, now = f"{ULID()}:", time.time()
    made = f'"created_at":{int(now * unit)}}}'
    plain = '{"queue":"a","jid":"1","args":[[],{},9007199254740993,"é\\u0000"],' + made
    again = '{"queue":"b","jid":"2","enqueued_at":1.5,"args":["\\"enqueued_at\\":7","\\\\"],' + made
    nested = '{"queue":"b","jid":"3","args":[{"enqueued_at":7}],"enqueued_at":1.5}'
    members = {plain: 1, again: 2, nested: 3, b"\xff": 4, "[]": 5, '{"queue":5}': 6, "null": 7, '{"queue":"a"} ': 8}
    await client.zadd(f"{prefix}schedule", members)
    answer, stats = await promote(any_server.url, f"sidekiq:prefix={prefix}", "schedule")
    assert [job.id for job in answer.jobs] == ["1", "2", "3"]
    assert (answer.promoted, answer.malformed, answer.depth, stats.stream_len) == (3, 5, 0, 3)
    (moved,) = await client.lrange(f"{prefix}queue:a", 0, -1)
    assert moved.startswith(plain[:-1].encode() + b',"enqueued_at":')
    assert abs(json.loads(moved)["enqueued_at"] / (unit if unit == 1 else 1000) - now) < 60
    third, second = await client.lrange(f"{prefix}queue:b", 0, -1)
    assert json.loads(third)["args"] == [{"enqueued_at": 7}], "the job's own is the one that changes"
    assert json.loads(third)["enqueued_at"] > 1.5
    assert b'"enqueued_at":1.5' not in second
    assert json.loads(second)["args"] == ['"enqueued_at":7', "\\"]
    assert await client.smembers(f"{prefix}queues") == {b"a", b"b"}


async def test_a_full_queue_of_sidekiq_holds_its_own_jobs_back_alone(any_server, client):
    prefix = f"{ULID()}:"
    jobs = {json.dumps({"queue": "a" if i % 2 else "b", "jid": f"{i}"}): 1 + i for i in range(10)}
    await client.zadd(f"{prefix}schedule", jobs)
    await client.lpush(f"{prefix}queue:a", *range(3))
    answer, _ = await promote(any_server.url, f"sidekiq:prefix={prefix}", "schedule", max_stream_len=5)
    assert (answer.promoted, answer.held_back) == (7, 3)
    assert (await client.llen(f"{prefix}queue:a"), await client.llen(f"{prefix}queue:b")) == (5, 5)


async def test_laravel_jobs_go_to_their_queue_with_a_note(any_server, client, queue):
    payload = '{"uuid":"u-1","data":[]}'
    await client.zadd(f"app_queues:{queue}:delayed", {payload: 5})
    answer, _ = await promote(any_server.url, "laravel:prefix=app_", queue)
    assert answer.jobs[0].id == "u-1"
    assert await client.lrange(f"app_queues:{queue}", 0, -1) == [payload.encode()]
    assert await client.lrange(f"app_queues:{queue}:notify", 0, -1) == [b"1"]


async def test_members_are_counted_by_their_due_times(any_server, client, queue):
    layout = replace(MAIL, score=in_place.Score.S, whole=True, offset_s=10, floor="1")
    await client.zadd(f"{queue}:later", {"below": 0, "a": 100, "b": 101, "c": 1e12})
    async with connect(any_server.url, layout=layout) as backend:
        counts = await untyped(backend).count_jobs(queue, [111_000, 111_001, 112_001, 2**53, -5])
    assert counts == [0, 1, 2, 2, 0]
    async with connect(any_server.url, layout=replace(MAIL, offset_s=1)) as backend:
        counts = await untyped(backend).count_jobs(queue, [1_100, 1_101, 1_102])
    assert counts == [1, 2, 3]
