"""Behaviours of ChasquiMQ's promoter that must hold, on a real server and on the wire."""

from __future__ import annotations

import asyncio

import msgpack
import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, Job, PermanentError, Promoter, PromoterSettings, connect
from promoter_core.model import Lease, LeaseHeld, LockOutcome, PromotionRequest
from promoter_core.testing import RecordingEvents, RecordingMetrics
from promoter_resp.keys import keys_of
from promoter_resp.member import encode_member

pytestmark = pytest.mark.server

REQUEST = PromotionRequest(limit=256, max_stream_len=1_000_000)


@pytest.fixture
def name():
    return f"q-{ULID()}"


@pytest.fixture
def keys(name):
    return keys_of(name)


@pytest.fixture
async def client(valkey):
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
async def backend(valkey):
    async with connect(valkey.url) as backend:
        yield backend


async def until(condition, timeout_s=10.0):
    """Wait until the (possibly async) condition holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.005)


def member(id, name="", data=b"\xc0"):
    return encode_member(name, msgpack.packb([id, data, 1, 0]))


async def now_ms(client):
    s, us = await client.time()
    return s * 1000 + us // 1000


async def promote(backend, name, **changes):
    await backend.lock(name, "me", 60_000)
    request = PromotionRequest(**{"limit": 256, "max_stream_len": 1_000_000} | changes)
    return await backend.promote(Lease(name, "me", 60_000), request)


async def test_the_entry_holds_d_and_n_only_when_named(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a", "send-email"): 1, member("b"): 2})
    await promote(backend, name)
    entries = [fields for _, fields in await client.xrange(keys.stream)]
    assert entries == [
        {b"d": msgpack.packb(["a", b"\xc0", 1, 0]), b"n": b"send-email"},
        {b"d": msgpack.packb(["b", b"\xc0", 1, 0])},
    ]


async def test_due_is_by_the_servers_clock_and_at_most_a_batch(backend, client, name, keys):
    now = await now_ms(client)
    await client.zadd(keys.delayed, {member(f"{i}"): now - 1 for i in range(5)} | {member("later"): now + 60_000})
    p = await promote(backend, name, limit=3)
    assert (p.promoted, p.depth) == (3, 3)
    p = await promote(backend, name, limit=3)
    assert (p.promoted, p.depth, p.next_due_ms) == (2, 1, now + 60_000)


async def test_lag_is_that_of_the_oldest_still_pending_and_zero_when_none_is_due(backend, client, name, keys):
    now = await now_ms(client)
    await client.zadd(keys.delayed, {member("a"): now - 9_000, member("b"): now - 5_000, member("c"): now + 60_000})
    p = await promote(backend, name, limit=1)
    assert 5_000 <= p.oldest_pending_lag_ms < 8_000
    p = await promote(backend, name)
    assert p.oldest_pending_lag_ms == 0


async def test_didx_is_deleted_and_dlid_kept(backend, client, name, keys):
    await DelayedQueue(backend, name).schedule("x", delay=0.01, job_id="j")
    assert await client.exists(keys.index + b"j", keys.marker + b"j") == 2
    await asyncio.sleep(0.05)
    await promote(backend, name)
    assert not await client.exists(keys.index + b"j")
    assert await client.get(keys.marker + b"j") == b"1"
    assert 3_500 < await client.ttl(keys.marker + b"j") <= 3_601


async def test_one_waiting_event_a_decodable_job_and_none_when_disabled(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a", "n"): 1, b"\0\0\0\0no msgpack": 2, member("b"): 3})
    p = await promote(backend, name)
    events = [fields for _, fields in await client.xrange(keys.events)]
    ts = b"%d" % p.now_ms
    assert events == [
        {b"e": b"waiting", b"id": b"a", b"ts": ts, b"n": b"n"},
        {b"e": b"waiting", b"id": b"b", b"ts": ts},
    ]
    await client.zadd(keys.delayed, {member("c"): 1})
    await promote(backend, name, events=False)
    assert await client.xlen(keys.events) == 2


@pytest.mark.parametrize(
    "envelope",
    [b"garbage", b"\xc1", b"\x94\x07\xc0\x01\x00", b"\x90", b"\x94\xd9\xff\x61", b"\x94\xa5ab", b"\xdd\xff\xff\xff\xff\xdb\xff\xff\xff\xff"],
)
async def test_a_job_whose_id_cannot_be_decoded_is_promoted_without_event_or_cleanup(backend, client, name, keys, envelope):
    await client.zadd(keys.delayed, {encode_member("n", envelope): 1})
    p = await promote(backend, name)
    assert (p.promoted, p.quarantined, [j.id for j in p.jobs]) == (1, 0, [None])
    assert [f for _, f in await client.xrange(keys.stream)] == [{b"d": envelope, b"n": b"n"}]
    assert await client.xlen(keys.events) == 0


@pytest.mark.parametrize("id", ["x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 70_000, "ü", ""])
async def test_ids_of_every_msgpack_length_are_decoded(backend, client, name, keys, id):
    await client.zadd(keys.delayed, {member(id): 1})
    p = await promote(backend, name)
    assert p.jobs[0].id == id


@pytest.mark.parametrize(
    ("bad", "detail"),
    [(b"\1\0", b"shorter than its header"), (b"\xff\xff\xff\xffxx", b"the name runs past the end"), (b"\1\0\0\0n", b"empty payload")],
)
async def test_a_malformed_member_goes_to_the_dlq_and_the_batch_goes_on(backend, client, name, keys, bad, detail):
    await client.zadd(keys.delayed, {member("a"): 1, bad: 2, member("b"): 3})
    p = await promote(backend, name)
    assert (p.promoted, p.quarantined, p.depth) == (2, 1, 0)
    ((_, fields),) = await client.xrange(keys.dlq)
    assert fields == {b"source_id": b"delayed", b"reason": b"malformed", b"detail": detail, b"d": bad}


async def test_a_stream_of_the_wrong_type_is_a_permanent_error_and_nothing_leaves_the_set(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1})
    await client.set(keys.stream, "x")
    with pytest.raises(PermanentError, match="WRONGTYPE") as raised:
        await promote(backend, name)
    assert raised.value.code == "WRONGTYPE"
    assert await client.zcard(keys.delayed) == 1


async def test_an_events_key_of_the_wrong_type_does_not_stop_promotion(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1})
    await client.set(keys.events, "x")
    assert (await promote(backend, name)).promoted == 1


async def test_an_add_that_fails_midway_leaves_the_rest_in_the_set(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1, b"\1\0": 2, member("b"): 3})
    await client.set(keys.dlq, "not a stream")  # the second of three cannot be added
    p = await promote(backend, name)
    assert (p.promoted, p.depth) == (1, 2)
    assert await client.xlen(keys.stream) == 1
    assert not isinstance(p, LeaseHeld)
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await promote(backend, name)
    assert await client.zcard(keys.delayed) == 2


async def test_a_lock_key_without_end_is_held_for_an_unknown_time(backend, client, name, keys):
    await client.set(keys.lock, "foreign")
    assert await backend.lock(name, "me", 1_000) == LeaseHeld(None)


async def test_a_failed_schedule_leaves_no_marker(backend, client, name, keys):
    await client.set(keys.delayed, "not a sorted set")
    queue = DelayedQueue(backend, name)
    with pytest.raises(PermanentError):
        await queue.schedule("x", delay=1, job_id="j")
    await client.delete(keys.delayed)
    assert (await queue.schedule("x", delay=1, job_id="j")).created


# The promoter as a whole


async def test_beside_a_foreign_holder_it_stays_follower_and_takes_over_when_the_key_expires(backend, client, name, keys):
    await client.set(keys.lock, "foreign", px=400)
    metrics = RecordingMetrics()
    async with Promoter(backend, PromoterSettings(queue=name), metrics=[metrics]).running() as promoter:
        await asyncio.sleep(0.15)
        assert promoter.health().state == "follower"
        assert await client.get(keys.lock) == b"foreign"
        await until(lambda: promoter.health().leads)
    assert [o for _, o in metrics.outcomes] == [LockOutcome.HELD, LockOutcome.ACQUIRED]


async def test_beside_a_foreign_holder_it_takes_over_when_the_key_is_deleted(backend, client, name, keys):
    await client.set(keys.lock, "foreign", px=600_000)
    async with Promoter(backend, PromoterSettings(queue=name, follower_poll_ms=60_000)).running() as promoter:
        await asyncio.sleep(0.15)
        assert promoter.health().state == "follower"
        await client.delete(keys.lock)
        await until(lambda: promoter.health().leads)


async def test_scripts_flushed_under_a_running_promoter_recover_within_the_tick(backend, client, name, keys):
    metrics = RecordingMetrics()
    async with Promoter(backend, PromoterSettings(queue=name), metrics=[metrics]).running():
        await until(lambda: metrics.ticks)
        await client.script_flush()
        await client.zadd(keys.delayed, {member("a"): 1})
        await until(lambda: metrics.promoted)
    assert metrics.errors == []


async def test_a_plain_zadd_of_another_client_is_promoted_without_polling(backend, client, name, keys):
    events = RecordingEvents()
    settings = PromoterSettings(queue=name, poll_interval_ms=3_600_000, lock_ttl_ms=600_000)
    async with Promoter(backend, settings, events=[events]).running() as promoter:
        await until(lambda: promoter.health().last_tick_age_s is not None and promoter.health().last_tick_age_s > 0.2)
        await client.zadd(keys.delayed, {member("a"): await now_ms(client) + 50})
        await until(lambda: events.ids == ["a"])
        assert events.jobs[0].promoted_ms >= events.jobs[0].due_ms


async def test_without_permission_for_tracking_it_polls(valkey, client, name, keys):
    await client.execute_command("ACL", "SETUSER", "untracked", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    events = RecordingEvents()
    async with connect(f"redis://untracked:pw@{valkey.address}") as backend:
        async with Promoter(backend, PromoterSettings(queue=name), events=[events]).running():
            await until(lambda: backend.capabilities.wake == "poll")
            await client.zadd(keys.delayed, {member("a"): 1})
            await until(lambda: events.ids == ["a"])


async def test_a_killed_watcher_is_replaced_and_no_job_is_missed(backend, client, name, keys):
    events = RecordingEvents()
    settings = PromoterSettings(queue=name, lock_ttl_ms=600_000, poll_interval_ms=20)
    async with Promoter(backend, settings, events=[events]).running() as promoter:
        await until(lambda: promoter.health().leads)
        for i in range(3):
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await client.zadd(keys.delayed, {member(f"during-{i}"): await now_ms(client) + 5})
            await until(lambda i=i: len(events.jobs) == 2 * i + 1)
            await until(lambda: backend.capabilities.wake == "any-write")
            await asyncio.sleep(0.05)
            await client.zadd(keys.delayed, {member(f"after-{i}"): await now_ms(client) + 5})
            await until(lambda i=i: len(events.jobs) == 2 * i + 2)


async def test_a_killed_tick_connection_is_replaced_and_tracked_again(backend, client, name, keys):
    events, metrics = RecordingEvents(), RecordingMetrics()
    settings = PromoterSettings(queue=name, lock_ttl_ms=600_000, poll_interval_ms=3_600_000)
    async with Promoter(backend, settings, events=[events], metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health().leads and metrics.ticks)
        for i in range(3):
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await client.zadd(keys.delayed, {member(f"j{i}"): await now_ms(client) + 30})
            await until(lambda i=i: len(events.jobs) == i + 1)


async def test_a_flush_of_the_whole_server_wakes_the_leader(backend, client, name, keys):
    metrics = RecordingMetrics()
    settings = PromoterSettings(queue=name, lock_ttl_ms=600_000, poll_interval_ms=3_600_000)
    async with Promoter(backend, settings, metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health().leads)
        await asyncio.sleep(0.05)
        await client.flushall()
        await until(lambda: [o for _, o in metrics.outcomes] == [LockOutcome.ACQUIRED, LockOutcome.HELD, LockOutcome.ACQUIRED])


async def test_three_promoters_on_one_queue_of_1000_jobs_promote_each_exactly_once(valkey, client, name, keys):
    async with connect(valkey.url) as a, connect(valkey.url) as b, connect(valkey.url) as c:
        await DelayedQueue(a, name).schedule_many([Job(data=i, delay=i / 1000, job_id=f"j{i}") for i in range(1000)])
        promoters = [Promoter(x, PromoterSettings(queue=name, promote_batch=16, lock_ttl_ms=200)) for x in (a, b, c)]
        tasks = [asyncio.create_task(p.run()) for p in promoters]
        for _ in range(4):  # leadership goes round
            await asyncio.sleep(0.25)
            i = next((i for i, p in enumerate(promoters) if p.health().leads), 0)
            promoters[i].stop()
            await tasks[i]
            tasks[i] = asyncio.create_task(promoters[i].run())
        await until(lambda: _all_there(client, keys, 1000))
        for p in promoters:
            p.stop()
        await asyncio.gather(*tasks)
    ids = [msgpack.unpackb(fields[b"d"])[0] for _, fields in await client.xrange(keys.stream)]
    assert sorted(ids) == sorted(f"j{i}" for i in range(1000))


async def _all_there(client, keys, n):
    return await client.xlen(keys.stream) >= n


async def test_a_storm_of_writes_is_no_storm_of_ticks(backend, client, name, keys):
    metrics = RecordingMetrics()
    async with Promoter(backend, PromoterSettings(queue=name), metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health().leads)
        later, before = await now_ms(client) + 600_000, len(metrics.ticks)
        for i in range(60):
            pipeline = client.pipeline(transaction=False)
            for j in range(50):
                pipeline.zadd(keys.delayed, {member(f"{i}-{j}"): later - i * 50 - j})
            await pipeline.execute()
        ticks = len(metrics.ticks) - before
    assert ticks < 3000 / 10, f"{ticks} ticks for 3000 writes, each of a new head"


async def test_the_lock_is_released_on_exit_and_never_another_holders(backend, client, name, keys):
    async with Promoter(backend, PromoterSettings(queue=name)).running() as promoter:
        await until(lambda: promoter.health().leads)
        await client.set(keys.lock, "usurper")
    assert await client.get(keys.lock) == b"usurper"
    await client.delete(keys.lock)
    async with Promoter(backend, PromoterSettings(queue=name)).running() as promoter:
        await until(lambda: promoter.health().leads)
    assert not await client.exists(keys.lock)


async def test_the_tick_is_one_round_trip(backend, client, name, keys):
    """Between two ticks the server sees one EVALSHA a tick from us and nothing else."""
    metrics = RecordingMetrics()
    async with Promoter(backend, PromoterSettings(queue=name, promote_batch=10), metrics=[metrics]).running():
        await until(lambda: metrics.ticks)
        await asyncio.sleep(0.1)
        before = await client.info("commandstats")
        ticks = len(metrics.ticks)
        await client.zadd(keys.delayed, {member(f"{i}"): 1 for i in range(95)})
        await until(lambda: metrics.promoted == 95)
        await asyncio.sleep(0.1)
        after = await client.info("commandstats")
        ticks = len(metrics.ticks) - ticks
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == ticks
    assert "cmdstat_eval" not in after or after["cmdstat_eval"] == before.get("cmdstat_eval")
