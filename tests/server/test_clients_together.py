"""redis-py and GLIDE on one queue: as leader and producer, either way round; and the same errors from both."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import DelayedQueue, Job, PermanentError, Promoter, PromoterSettings, TransientError, connect
from promoter_core.testing import RecordingEvents
from tests.injected import injected_server
from tests.server.bench import member, now_ms, until

pytest.importorskip("glide")
pytestmark = pytest.mark.server


@pytest.mark.parametrize(("leader", "producer"), [("glide", "redis"), ("redis", "glide"), ("glide", "glide")])
async def test_an_announced_job_wakes_the_leader_whichever_client_schedules_it(valkey, name, leader, producer):
    events = RecordingEvents()
    settings = PromoterSettings(poll_interval_ms=3_600_000, lock_ttl_ms=600_000)
    async with (
        connect(f"{leader}://{valkey.address}") as leading,
        connect(f"{producer}://{valkey.address}") as producing,
    ):
        queue = DelayedQueue(producing, name)
        async with Promoter(leading, name, settings, events=[events]).running() as promoter:
            await until(lambda: (promoter.health()[0].last_tick_age_s or 0) > 0.2)
            await queue.schedule(1, delay=0.1, job_id="second")
            await queue.schedule(1, delay=0.05, job_id="first")
            await until(lambda: len(events.jobs) == 2)
    assert events.ids == ["first", "second"]


@pytest.mark.parametrize(("leader", "follower"), [("glide", "redis"), ("redis", "glide")])
async def test_a_clean_stop_hands_over_at_once_whichever_client_leads(valkey, name, leader, follower):
    async with connect(f"{leader}://{valkey.address}") as one, connect(f"{follower}://{valkey.address}") as two:
        settings = PromoterSettings(lock_ttl_ms=600_000, follower_poll_ms=3_600_000, poll_interval_ms=3_600_000)
        first = Promoter(one, name, settings)
        task = asyncio.create_task(first.run())
        await until(lambda: first.health()[0].leads)
        async with Promoter(two, name, settings).running() as second:
            await asyncio.sleep(0.2)
            assert second.health()[0].state == "follower"
            first.stop()
            await task
            await until(lambda: second.health()[0].leads)


async def test_a_glide_leader_polls_for_a_producer_that_does_not_announce(valkey, client, name, keys):
    events = RecordingEvents()
    async with connect(f"glide://{valkey.address}") as backend:
        assert backend.capabilities.wake == "announced"
        async with Promoter(
            backend, name, PromoterSettings(poll_interval_ms=20), events=[events]
        ).running() as promoter:
            await until(lambda: promoter.health()[0].leads)
            await client.zadd(keys.delayed, {member("a"): await now_ms(client) + 5})
            await until(lambda: events.ids == ["a"])


async def test_glide_leaders_and_redis_leaders_take_turns_and_promote_each_job_once(valkey, client, name, keys):
    async with connect(f"glide://{valkey.address}") as a, connect(valkey.url) as b:
        jobs = [Job(data=i, delay=i / 500, job_id=f"j{i}") for i in range(500)]
        await DelayedQueue(a, name).schedule_many(jobs[::2])
        await DelayedQueue(b, name).schedule_many(jobs[1::2])
        promoters = [Promoter(x, name, PromoterSettings(promote_batch=8)) for x in (a, b)]
        tasks = [asyncio.create_task(p.run()) for p in promoters]
        for turn in range(6):
            await asyncio.sleep(0.15)
            i = next((i for i, p in enumerate(promoters) if p.health()[0].leads), turn % 2)
            promoters[i].stop()
            await tasks[i]
            tasks[i] = asyncio.create_task(promoters[i].run())

        async def all_there():
            return await client.xlen(keys.stream) >= 500

        await until(all_there)
        for p in promoters:
            p.stop()
        await asyncio.gather(*tasks)
        assert await client.xlen(keys.stream) == 500


SAID = {
    "READONLY You can't write against a read only replica.": TransientError,
    "LOADING Redis is loading the dataset in memory": TransientError,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": TransientError,
    "CLUSTERDOWN The cluster is down": TransientError,
    "TRYAGAIN Multiple keys request during rehashing of slot": TransientError,
    "MOVED 3999 127.0.0.1:6381": TransientError,
    "ASK 3999 127.0.0.1:6381": TransientError,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": TransientError,
    "OOM command not allowed when used memory > 'maxmemory'.": TransientError,
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": TransientError,
    "NOREPLICAS Not enough good replicas to write.": TransientError,
    "NOAUTH Authentication required.": PermanentError,
    "NOPERM this user has no permissions to run the 'evalsha' command": PermanentError,
    "WRONGTYPE Operation against a key holding the wrong kind of value": PermanentError,
    "CROSSSLOT Keys in request don't hash to the same slot": PermanentError,
    "ERR user_script:7: attempt to call a nil value": PermanentError,
    "ERR upstream failure": TransientError,
    "UNKNOWNCODE something new": TransientError,
}


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_what_a_server_answers_comes_out_as_the_same_error_from_both_clients(scheme):
    async with injected_server() as server, connect(f"{scheme}://127.0.0.1:{server.port}") as backend:
        for said, cls in SAID.items():
            server.error = said
            queue = DelayedQueue(backend, "q")
            for call in (queue.stats, lambda: backend.lock("q", "me", 1_000), lambda: queue.schedule(1)):  # noqa: B023
                with pytest.raises(cls) as raised:
                    await call()
                assert type(raised.value) is cls, said
                assert raised.value.code == said.split()[0], said


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_waiting_for_a_replica_that_there_is_not_is_told_by_both_clients(valkey, name, scheme):
    async with connect(f"{scheme}://{valkey.address}?wait_replicas=1&command_timeout_ms=2000") as backend:
        queue = DelayedQueue(backend, name)
        with pytest.raises(TransientError, match="only 0 replicas have it") as raised:
            await queue.schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"
        assert (await queue.stats()).depth == 1, "it is scheduled all the same"


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_a_wrong_password_is_a_permanent_error_from_both_clients(valkey, scheme):
    with pytest.raises(PermanentError) as raised:
        async with connect(f"{scheme}://me:s3cret@{valkey.address}"):
            pass
    assert raised.value.code == "WRONGPASS"
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_a_wrong_database_is_a_permanent_error_from_both_clients(valkey, scheme):
    with pytest.raises(PermanentError, match="database"):
        async with connect(f"{scheme}://{valkey.address}/999"):
            pass
