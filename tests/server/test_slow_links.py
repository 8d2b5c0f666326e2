"""A way to the server that is long, unsteady or changes while we lead slows no drain more than it must."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from promoter_core import Job, Promoter, PromoterSettings, connect
from promoter_core.testing import RecordingMetrics
from tests.proxy import proxy
from tests.server.bench import until

pytestmark = [pytest.mark.server, pytest.mark.parametrize("scheme", ["redis", "glide"])]

WAYS = {  # of each direction
    "long": lambda: 0.05,
    "unsteady": lambda: random.uniform(0.0075, 0.0175),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_backlog_behind_a_slow_link_is_drained_in_large_batches(valkey, queue, name, scheme, way):
    metrics = RecordingMetrics()
    settings = PromoterSettings(max_tick_ms=20)
    async with proxy(valkey.port) as network, connect(f"{scheme}://{network.address}") as promoting:
        async with Promoter(promoting, name, settings, metrics=[metrics]).running():
            await until(lambda: metrics.ticks)
            for i in range(40):  # so much has to be learnt about the link as it was, and as it becomes
                network.way_s = WAYS[way] if i >= 20 else network.way_s
                await queue.schedule(i, delay=0.01)
                await asyncio.sleep(0.02)
            await until(lambda: metrics.promoted == 40)
            before = len(metrics.ticks)
            await queue.schedule_many([Job(data=i, delay=0.5) for i in range(30_000)])
            began = time.monotonic()
            await until(lambda: metrics.promoted == 30_040, 60)
            print(f"30,000 jobs in {len(metrics.ticks) - before} ticks, {time.monotonic() - began:.2f} s")
            assert len(metrics.ticks) - before <= 150, "of a thousand jobs or so, as on a short way"


async def test_a_link_that_becomes_slow_while_jobs_come_in_leaves_no_backlog(valkey, queue, name, scheme):
    metrics = RecordingMetrics()
    async with proxy(valkey.port) as network, connect(f"{scheme}://{network.address}") as promoting:
        async with Promoter(promoting, name, metrics=[metrics]).running():
            await until(lambda: metrics.ticks)
            for i in range(200):
                network.way_s = WAYS["long"] if i >= 20 else network.way_s
                await queue.schedule(i, delay=0.01)
                await asyncio.sleep(0.025)
            await until(lambda: metrics.promoted == 200)
    print(f"longest lag {max(tick.promotion.oldest_pending_lag_ms for _, tick in metrics.ticks)} ms")
    small = [tick for _, tick in metrics.ticks if tick.promotion.oldest_pending_lag_ms]
    assert len(small) <= 5, "each tick takes all that is due by then"
