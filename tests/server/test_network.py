"""A network that goes wrong: delays, drops, resets, half-open connections, and replies lost after the effect."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings, TransientError
from promoter_core.testing import RecordingMetrics
from tests.proxy import proxy
from tests.server.bench import connected, until

pytestmark = [pytest.mark.server, pytest.mark.parametrize("scheme", ["redis", "glide"])]


def url_of(scheme, network, timeout_ms=300):
    return f"{scheme}://{network.address}?command_timeout_ms={timeout_ms}"


async def all_promoted_once(client, keys, n):
    async def there():
        return await client.xlen(keys.stream) >= n

    await until(there, 20)
    assert await client.xlen(keys.stream) == n
    assert await client.xlen(keys.events) == n, "one event each, no more and no less"


@pytest.mark.parametrize("trouble", ["delay", "drop", "reset", "blackhole", "swallow", "refuse"])
async def test_the_promoter_outlives_it_and_promotes_each_job_once(
    valkey, backend, client, name, keys, scheme, trouble
):
    metrics = RecordingMetrics()
    async with proxy(valkey.port) as network, connected(url_of(scheme, network)) as promoting:
        jobs = [Job(data=i, delay=0.05 + i / 250, job_id=f"j{i}") for i in range(400)]
        await DelayedQueue(backend, name).schedule_many(jobs)
        settings = PromoterSettings(promote_batch=5, lock_ttl_ms=1_000)
        async with Promoter(promoting, name, settings, metrics=[metrics]).running() as promoter:
            await until(lambda: metrics.promoted > 20)
            for _ in range(2):
                if trouble in ("drop", "reset"):
                    getattr(network, trouble)()
                    await asyncio.sleep(0.1)
                elif trouble == "refuse":
                    network.refuse = True
                    network.reset()
                    await asyncio.sleep(0.4)
                    network.refuse = False
                else:
                    network.mode = trouble
                    await asyncio.sleep(0.5)
                    network.mode = "pass"
                    if trouble in ("blackhole", "swallow"):
                        network.reset()  # as a network that comes back does, sooner or later
            await all_promoted_once(client, keys, 400)
            await until(lambda: promoter.health()[0].last_error is None)
        if trouble in ("blackhole", "swallow"):
            assert any(e.code in ("TIMEOUT", "CONNECTION") for _, e in metrics.errors), "it shows in the metrics"


async def test_a_half_open_connection_ends_with_the_commands_timeout(valkey, name, scheme):
    async with proxy(valkey.port) as network, connected(url_of(scheme, network)) as backend:
        network.mode = "blackhole"
        async with asyncio.timeout(10):
            with pytest.raises(TransientError) as raised:
                await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
        assert raised.value.code in ("TIMEOUT", "CONNECTION")


async def test_scheduling_again_after_a_lost_reply_is_safe_with_a_job_id(valkey, client, name, keys, scheme):
    async with proxy(valkey.port) as network, connected(url_of(scheme, network)) as backend:
        queue = DelayedQueue(backend, name)
        network.mode = "swallow"
        with pytest.raises(TransientError):
            await queue.schedule(1, delay=60, job_id="a")
        network.mode = "pass"
        network.reset()

        async def again():
            try:
                return await queue.schedule(1, delay=60, job_id="a")
            except TransientError:
                return None

        scheduled = await until(again)
        assert not scheduled.created, "the first attempt had taken effect"
        assert await client.zcard(keys.delayed) == 1
