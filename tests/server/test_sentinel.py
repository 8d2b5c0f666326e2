"""redis+sentinel:// follows the primary through fail-overs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import msgpack
import pytest
from redis.asyncio import Redis

from promoter_core import (
    ConfigError,
    DelayedQueue,
    Job,
    PermanentError,
    Promoter,
    PromoterSettings,
    Registry,
    TransientError,
    connect,
)
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingMetrics
from tests.injected import injected_sentinel
from tests.server.bench import until
from tests.servers import find, free_port
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
        return [msgpack.unpackb(f[b"d"])[0] for _, f in await client.xrange(CHASQUIMQ.keys_of("q").stream)]


@pytest.mark.parametrize("how", ["demoted", "killed"])
async def test_the_promoter_follows_a_fail_over(sentinels, how):
    metrics = RecordingMetrics()
    async with connect(sentinels.url) as backend, connect(sentinels.url + "?wait_replicas=1") as producing:
        queue = DelayedQueue(producing, "q")
        await queue.schedule_many([Job(data=i, delay=0.2, job_id=f"before-{i}") for i in range(50)])
        await queue.schedule_many([Job(data=i, delay=4, job_id=f"across-{i}") for i in range(50)])
        async with Promoter(backend, "q", PromoterSettings(lock_ttl_ms=1_000), metrics=[metrics]).running() as promoter:
            await until(lambda: metrics.promoted >= 50)
            if how == "demoted":
                await asyncio.to_thread(sentinels.fail_over)
            else:
                sentinels.primary.kill()
                await asyncio.to_thread(sentinels.wait_for_new_primary)
            await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 20)
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


async def all_ids(server):
    """Of the jobs in the stream and in the set."""
    async with Redis(port=server.port) as client:
        waiting = await client.zrange(CHASQUIMQ.keys_of("q").delayed, 0, -1)
    return await ids(server) + [msgpack.unpackb(member[4:])[0] for member in waiting]


@pytest.mark.parametrize("lost", [None, 0, 2], ids=["all sentinels", "the first is lost", "the last is lost"])
async def test_a_planned_fail_over_loses_nothing_that_was_acknowledged(sentinels, lost):
    """The old primary goes on taking writes, of which none survives, for ten seconds after the sentinels' switch."""
    acknowledged = set()
    ended = asyncio.Event()
    async with connect(sentinels.url) as backend, connect(sentinels.url) as promoting:
        queue = DelayedQueue(backend, "q")

        async def produce(k):
            i = 0
            while not ended.is_set():
                i += 1
                id = f"{k}-{i}"
                with contextlib.suppress(TransientError):
                    await queue.schedule(1, delay=0.2 if k % 2 else 3600, job_id=id)
                    acknowledged.add(id)
                await asyncio.sleep(0.01)

        async with Promoter(promoting, "q", PromoterSettings(lock_ttl_ms=2_000)).running() as promoter:
            producing = [asyncio.create_task(produce(k)) for k in range(4)]
            await until(lambda: len(acknowledged) > 100)
            if lost is not None:
                sentinels.sentinels[lost].kill()
            await asyncio.to_thread(sentinels.fail_over, 1)
            before, began = len(acknowledged), time.monotonic()
            await until(lambda: len(acknowledged) > before + 100, 5)
            print(f"100 jobs taken within {time.monotonic() - began:.2f} s of the switch")
            ended.set()
            await asyncio.gather(*producing)
            await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 5)
            assert promoting.capabilities.wake == "any-write"
            async with Redis(port=sentinels.primary.port) as old:
                assert (await old.execute_command("ROLE"))[0] == b"master", "nobody has told it yet"
            async with Redis(port=sentinels.replica.port) as new:
                assert await new.get(CHASQUIMQ.keys_of("q").lock) is not None
            await until(lambda: promoter.health()[0].last_tick_age_s is not None)
            await asyncio.sleep(0.5)
        there = await all_ids(sentinels.replica)
    assert len(there) == len(set(there)), "nothing twice"
    lost = acknowledged - set(there)
    print(f"{len(lost)} of {len(acknowledged)} acknowledged jobs are lost")
    assert len(lost) <= 4, "at most what each producer had under way when the replica was cut off"


async def test_sentinels_that_are_away_cost_nothing(standing):
    """The first two names of the URL: one takes connections and never answers, of the other nothing is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        away = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{free_port()},"
        url = standing.url.replace("://", f"://{away}") + "?command_timeout_ms=30000"
        async with asyncio.timeout(10):
            for _ in range(3):
                async with connect(url) as backend:
                    queue = DelayedQueue(backend, "away")
                    await asyncio.gather(*(queue.schedule(i, delay=3600) for i in range(20)))


async def test_the_sentinel_that_knows_of_the_newest_fail_over_is_believed(standing):
    async with (
        injected_sentinel(standing.replica.port, 3) as lagging,
        injected_sentinel(standing.primary.port, 4) as informed,
        injected_sentinel(free_port(), 2) as outdated,
    ):
        url = f"redis+sentinel://127.0.0.1:{outdated},127.0.0.1:{lagging},127.0.0.1:{informed}/main"
        for _ in range(3):
            async with connect(url) as backend:
                await DelayedQueue(backend, "newest").schedule(1, delay=3600)


async def test_a_server_that_a_sentinel_names_and_that_is_a_replica_is_not_used(standing):
    async with injected_sentinel(standing.replica.port, 1) as wrong:
        with pytest.raises(TransientError, match="which the sentinels name, is not the primary") as raised:
            async with connect(f"redis+sentinel://127.0.0.1:{wrong}/main"):
                pass
        assert raised.value.code == "READONLY"


async def test_sentinels_with_a_password_of_their_own(request):
    guarded = Sentinels(password="s3cret")
    request.addfinalizer(guarded.stop)
    for options, expected in (("", "NOAUTH"), ("?sentinel_password=wrong", "WRONGPASS")):
        with pytest.raises(PermanentError, match="sentinel_password are options of the URL") as raised:
            async with connect(guarded.url + options):
                pass
        assert raised.value.code == expected
    url = guarded.url + "?sentinel_password=s3cret"
    assert "s3cret" not in repr(Registry().backend(url))
    async with connect(url) as backend, connect(f"{url}&sentinel_username=default") as other:
        await DelayedQueue(backend, "q").schedule(1, delay=3600, job_id="before")
        await asyncio.sleep(0.5)  # the replica has it
        await asyncio.to_thread(guarded.fail_over)
        await DelayedQueue(backend, "q").schedule(1, delay=3600, job_id="after")
        await DelayedQueue(other, "q").schedule(1, delay=3600, job_id="other")
    assert set(await all_ids(guarded.replica)) == {"before", "after", "other"}


def test_options_of_sentinels_are_for_urls_with_sentinels():
    for scheme in ("redis", "redis+cluster"):
        with pytest.raises(ConfigError, match="unknown option 'sentinel_password'"):
            Registry().backend(f"{scheme}://localhost?sentinel_password=s3cret")
    with pytest.raises(ConfigError, match="sentinel_username needs sentinel_password"):
        Registry().backend("redis+sentinel://localhost/main?sentinel_username=me")


async def test_no_sentinel_and_no_service_are_clear_errors(standing):
    with pytest.raises(ConfigError, match="expected redis\\+sentinel://host:26379,host:26379/service"):
        Registry().backend("redis+sentinel://localhost:26379")
    with pytest.raises(TransientError, match="knows no primary named 'other'"):
        async with connect(standing.url.replace("/main", "/other")):
            pass


async def test_what_too_few_replicas_have_acknowledged_is_told(standing):
    async with connect(standing.url + "?wait_replicas=2&command_timeout_ms=2000") as backend:
        with pytest.raises(TransientError, match="scheduled, but only 1 replicas have it") as raised:
            await DelayedQueue(backend, "q").schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"
