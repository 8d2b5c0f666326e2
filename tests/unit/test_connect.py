"""`connect("memory://", clock=clock)`: the reference model, on a test's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

import pytest

from promoter_core import ConfigError, DelayedQueue, Promoter, PromoterFleet, PromoterSettings, Registry, connect
from promoter_core.testing import RecordingEvents, VirtualClock

DAY_S = 86_400


async def test_a_memory_backend_lives_by_the_clock_that_it_is_given():
    clock = VirtualClock(start_ms=5_000)
    async with connect("memory://", clock=clock) as backend:
        assert (await backend.stats("q")).now_ms == 5_000
        await backend.lock("q", "me", 1_000)
        await DelayedQueue(backend, "q", clock=clock).schedule("x", delay=30 * DAY_S)
        clock.jump(0.999)
        assert (await backend.stats("q")).holder == "me"
        clock.jump(0.001)
        stats = await backend.stats("q")
        assert (stats.now_ms, stats.holder, stats.due) == (6_000, None, 0)
        clock.jump(30 * DAY_S)
        assert (await backend.stats("q")).due == 1


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
async def test_a_month_on_that_clock_takes_no_time(kind):
    clock, events, began_s = VirtualClock(), RecordingEvents(), time.monotonic()
    async with connect("memory://", clock=clock) as backend:
        settings = PromoterSettings(lock_ttl_ms=3_600_000)
        make = partial(Promoter, backend, "q") if kind == "promoter" else partial(PromoterFleet, backend, ["q"])
        async with make(settings, clock=clock, events=[events]).running():
            await DelayedQueue(backend, "q", clock=clock).schedule("x", delay=30 * DAY_S, job_id="a")
            await clock.sleep(30 * DAY_S + 1)
    assert [(job.id, job.promoted_ms - job.due_ms) for job in events.jobs] == [("a", 0)]
    assert time.monotonic() - began_s < DAY_S / 100


async def test_without_a_clock_it_lives_by_the_systems():
    async with connect("memory://") as backend:
        now_ms = datetime.now(UTC).timestamp() * 1000
        assert (await backend.stats("q")).now_ms == pytest.approx(now_ms, abs=60_000)


async def test_backends_that_share_a_store_by_name_share_its_clock():
    clock = VirtualClock(start_ms=7_000)
    async with connect("memory://by-name", clock=clock) as one, connect("memory://by-name") as two:
        clock.jump(1)
        assert [(await backend.stats("q")).now_ms for backend in (one, two)] == [8_000, 8_000]
        await DelayedQueue(one, "q", clock=clock).schedule("x", delay=1)
        assert (await two.stats("q")).depth == 1


async def test_each_unnamed_store_has_its_clock():
    clock, other = VirtualClock(start_ms=1_000), VirtualClock(start_ms=2_000)
    async with connect("memory://", clock=clock) as one, connect("memory://", clock=other) as two:
        assert [(await backend.stats("q")).now_ms for backend in (one, two)] == [1_000, 2_000]


async def test_a_registry_passes_the_clock_on():
    clock = VirtualClock(start_ms=9_000)
    async with Registry().connect("memory://", clock=clock) as backend:
        assert (await backend.stats("q")).now_ms == 9_000
    backend = Registry().backend("memory://", clock=clock)
    await backend.open()
    assert (await backend.stats("q")).now_ms == 9_000


async def test_the_clock_is_no_option_of_the_url():
    with pytest.raises(ConfigError, match="unknown option 'clock'"):
        async with connect("memory://?clock=virtual"):
            pass
