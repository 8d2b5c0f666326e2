"""Behaviours of ChasquiMQ's promoter that must hold, of the promoter as a whole, on a real server."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings, connect
from promoter_core.spi import LockOutcome, PromotionRequest
from promoter_core.testing import RecordingEvents, RecordingMetrics
from tests.server.bench import member, now_ms, until

pytestmark = pytest.mark.server

REQUEST = PromotionRequest(limit=256, max_stream_len=1_000_000)


async def test_beside_a_foreign_holder_it_stays_follower_and_takes_over_when_the_key_expires(
    backend, client, name, keys
):
    await client.set(keys.lock, "foreign", px=400)
    metrics = RecordingMetrics()
    async with Promoter(backend, name, metrics=[metrics]).running() as promoter:
        await asyncio.sleep(0.15)
        assert promoter.health()[0].state == "follower"
        assert await client.get(keys.lock) == b"foreign"
        await until(lambda: promoter.health()[0].leads)
    assert [o for _, o in metrics.outcomes] == [LockOutcome.HELD, LockOutcome.ACQUIRED, LockOutcome.RELEASED]


async def test_beside_a_foreign_holder_it_takes_over_when_the_key_is_deleted(backend, client, name, keys):
    await client.set(keys.lock, "foreign", px=600_000)
    async with Promoter(backend, name, PromoterSettings(follower_poll_ms=60_000)).running() as promoter:
        await asyncio.sleep(0.15)
        assert promoter.health()[0].state == "follower"
        await client.delete(keys.lock)
        await until(lambda: promoter.health()[0].leads)


async def test_scripts_flushed_under_a_running_promoter_recover_within_the_tick(backend, client, name, keys):
    metrics = RecordingMetrics()
    async with Promoter(backend, name, metrics=[metrics]).running():
        await until(lambda: metrics.ticks)
        await client.script_flush()
        await client.zadd(keys.delayed, {member("a"): 1})
        await until(lambda: metrics.promoted)
    assert metrics.errors == []


async def test_a_plain_zadd_of_another_client_is_promoted_without_polling(backend, client, name, keys):
    events = RecordingEvents()
    settings = PromoterSettings(poll_interval_ms=3_600_000, lock_ttl_ms=600_000)
    async with Promoter(backend, name, settings, events=[events]).running() as promoter:
        await until(lambda: (promoter.health()[0].last_tick_age_s or 0) > 0.2)
        await client.zadd(keys.delayed, {member("a"): await now_ms(client) + 50})
        await until(lambda: events.ids == ["a"])
        assert events.jobs[0].promoted_ms >= events.jobs[0].due_ms


async def test_without_permission_for_tracking_it_polls(valkey, client, name, keys):
    await client.execute_command("ACL", "SETUSER", "untracked", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    events = RecordingEvents()
    async with connect(f"redis://untracked:pw@{valkey.address}") as backend:
        async with Promoter(backend, name, events=[events]).running():
            await until(lambda: backend.capabilities.wake == "poll")
            await client.zadd(keys.delayed, {member("a"): 1})
            await until(lambda: events.ids == ["a"])


async def test_a_killed_watcher_is_replaced_and_no_job_is_missed(backend, client, name, keys):
    events = RecordingEvents()
    settings = PromoterSettings(lock_ttl_ms=600_000, poll_interval_ms=20)
    async with Promoter(backend, name, settings, events=[events]).running() as promoter:
        await until(lambda: promoter.health()[0].leads)
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
    settings = PromoterSettings(lock_ttl_ms=600_000, poll_interval_ms=3_600_000)
    async with Promoter(backend, name, settings, events=[events], metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health()[0].leads and metrics.ticks)
        for i in range(3):
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await client.zadd(keys.delayed, {member(f"j{i}"): await now_ms(client) + 30})
            await until(lambda i=i: len(events.jobs) == i + 1)


async def test_a_flush_of_the_whole_server_wakes_the_leader(backend, client, name, keys):
    metrics = RecordingMetrics()
    settings = PromoterSettings(lock_ttl_ms=600_000, poll_interval_ms=3_600_000)
    async with Promoter(backend, name, settings, metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health()[0].leads)
        await asyncio.sleep(0.05)
        await client.flushall()
        await until(
            lambda: [o for _, o in metrics.outcomes] == [LockOutcome.ACQUIRED, LockOutcome.HELD, LockOutcome.ACQUIRED]
        )


async def test_three_promoters_on_one_queue_of_1000_jobs_promote_each_exactly_once(valkey, client, name, keys):
    async with connect(valkey.url) as a, connect(valkey.url) as b, connect(valkey.url) as c:
        await DelayedQueue(a, name).schedule_many([Job(data=i, delay=i / 1000, job_id=f"j{i}") for i in range(1000)])
        promoters = [Promoter(x, name, PromoterSettings(promote_batch=16, lock_ttl_ms=200)) for x in (a, b, c)]
        tasks = [asyncio.create_task(p.run()) for p in promoters]
        for _ in range(4):  # leadership goes round
            await asyncio.sleep(0.25)
            i = next((i for i, p in enumerate(promoters) if p.health()[0].leads), 0)
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
    async with Promoter(backend, name, metrics=[metrics]).running() as promoter:
        await until(lambda: promoter.health()[0].leads)
        later, before = await now_ms(client) + 600_000, len(metrics.ticks)
        for i in range(60):
            pipeline = client.pipeline(transaction=False)
            for j in range(50):
                pipeline.zadd(keys.delayed, {member(f"{i}-{j}"): later - i * 50 - j})
            await pipeline.execute()
        ticks = len(metrics.ticks) - before
    assert ticks < 3000 / 10, f"{ticks} ticks for 3000 writes, each of a new head"


async def test_a_leader_that_was_woken_goes_back_to_sleep(backend, client, name, keys):
    metrics = RecordingMetrics()
    async with Promoter(backend, name, metrics=[metrics]).running():
        await until(lambda: metrics.ticks)
        await client.zadd(keys.delayed, {member("later"): await now_ms(client) + 600_000})
        await asyncio.sleep(0.2)
        before = len(metrics.ticks)
        await asyncio.sleep(1.0)
        assert len(metrics.ticks) - before <= 2, "an idle leader renews its lease and does no more"


async def test_the_lock_is_released_on_exit_and_never_another_holders(backend, client, name, keys):
    async with Promoter(backend, name).running() as promoter:
        await until(lambda: promoter.health()[0].leads)
        await client.set(keys.lock, "usurper")
    assert await client.get(keys.lock) == b"usurper"
    await client.delete(keys.lock)
    async with Promoter(backend, name).running() as promoter:
        await until(lambda: promoter.health()[0].leads)
    assert not await client.exists(keys.lock)


async def test_the_tick_is_one_round_trip(backend, client, name, keys):
    """Between two ticks the server sees one EVALSHA a tick from us and nothing else."""
    metrics = RecordingMetrics()
    async with Promoter(backend, name, PromoterSettings(promote_batch=10), metrics=[metrics]).running():
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
