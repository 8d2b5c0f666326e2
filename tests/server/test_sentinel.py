"""redis+sentinel:// follows the primary through fail-overs."""

from __future__ import annotations

import asyncio

import msgpack
import pytest
from redis.asyncio import Redis

from promoter_core import ConfigError, DelayedQueue, Job, Promoter, PromoterSettings, Registry, TransientError, connect
from promoter_core.testing import RecordingMetrics
from promoter_resp.keys import keys_of
from tests.server.bench import until
from tests.servers import find
from tests.topologies import Sentinels

pytestmark = [pytest.mark.server, pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")]


@pytest.fixture
def sentinels():
    sentinels = Sentinels()
    yield sentinels
    sentinels.stop()


@pytest.fixture(scope="module")
def standing():
    """Sentinels that no test fails over."""
    sentinels = Sentinels()
    yield sentinels
    sentinels.stop()


async def ids(server):
    async with Redis(port=server.port) as client:
        return [msgpack.unpackb(f[b"d"])[0] for _, f in await client.xrange(keys_of("q").stream)]


@pytest.mark.parametrize("how", ["demoted", "killed"])
async def test_the_promoter_follows_a_fail_over(sentinels, how):
    metrics = RecordingMetrics()
    async with connect(sentinels.url) as backend, connect(sentinels.url + "?wait_replicas=1") as producing:
        queue = DelayedQueue(producing, "q")
        await queue.schedule_many([Job(data=i, delay=0.2, job_id=f"before-{i}") for i in range(50)])
        await queue.schedule_many([Job(data=i, delay=8, job_id=f"across-{i}") for i in range(50)])
        async with Promoter(
            backend, PromoterSettings(queue="q", lock_ttl_ms=1_000), metrics=[metrics]
        ).running() as promoter:
            await until(lambda: metrics.promoted == 50)
            if how == "demoted":
                await asyncio.to_thread(sentinels.fail_over)
            else:
                sentinels.primary.kill()
                await asyncio.to_thread(sentinels.wait_for_new_primary)
            await until(lambda: promoter.health().leads and promoter.health().last_error is None, 20)
            async with connect(sentinels.url) as after:
                await DelayedQueue(after, "q").schedule_many(
                    [Job(data=i, delay=0.1, job_id=f"after-{i}") for i in range(20)]
                )
            await until(lambda: metrics.promoted >= 120, 30)
            # woken by writes on the new primary, not by polling
            await until(lambda: backend.capabilities.wake == "any-write", 20)
    there = await ids(sentinels.replica)
    assert len(there) == len(set(there)), "nothing twice"
    expected = {f"{when}-{i}" for when, n in (("before", 50), ("across", 50), ("after", 20)) for i in range(n)}
    assert set(there) == expected


async def test_no_sentinel_and_no_service_are_clear_errors(standing):
    with pytest.raises(ConfigError, match="expected redis\\+sentinel://host:26379,host:26379/service"):
        Registry().backend("redis+sentinel://localhost:26379")
    with pytest.raises(TransientError, match="knows no primary of the name 'other'"):
        async with connect(standing.url.replace("/main", "/other")):
            pass


async def test_what_no_replica_has_acknowledged_is_told(standing):
    standing.replica.kill()
    async with connect(standing.url + "?wait_replicas=1") as backend:
        with pytest.raises(TransientError, match="scheduled, but only 0 replicas have it") as raised:
            await DelayedQueue(backend, "q").schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"
