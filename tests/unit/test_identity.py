"""Runners that share one settings object are different promoters: identity is no part of the settings."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from promoter_core import DelayedQueue, Promoter, PromoterFleet, PromoterSettings, Runner, connect
from promoter_core.testing import RecordingEvents, RecordingMetrics
from promoter_memory.backend import MemoryBackend

QUEUES = [f"q{i}" for i in range(20)]


@pytest.fixture
async def backends(store):
    """Two, as of two processes on one store."""
    opened = MemoryBackend(store), MemoryBackend(store)
    for backend in opened:
        await backend.open()
    return opened


async def test_two_promoters_that_share_one_settings_object_elect_one_leader(backends, clock):
    settings = PromoterSettings()
    one, two = (Promoter(backend, "q", settings, clock=clock) for backend in backends)
    async with one.running():
        await clock.sleep(0.1)
        async with two.running():
            for _ in range(20):  # well beyond the lease
                await clock.sleep(1)
                assert [health.state for p in (one, two) for health in p.health()] == ["leader", "follower"]
            assert one.health()[0].holder == two.health()[0].holder == one.holder_id
        assert (await backends[0].stats("q")).holder == one.holder_id, "the follower has released nothing"


async def test_a_job_is_reported_by_one_of_two_promoters_that_share_their_settings(backends, clock):
    settings, sinks = PromoterSettings(), (RecordingEvents(), RecordingEvents())
    one, two = (Promoter(b, "q", settings, clock=clock, events=[sink]) for b, sink in zip(backends, sinks, strict=True))
    async with one.running(), two.running():
        for n in range(50):
            await DelayedQueue(backends[0], "q", clock=clock).schedule(n, delay=0.5, job_id=f"{n}")
            await clock.sleep(0.3)
        await clock.sleep(1)
    assert sorted(len(sink.jobs) for sink in sinks) == [0, 50]


@pytest.mark.parametrize("spread", [True, False])
async def test_two_fleets_that_share_one_settings_object_elect_one_leader_for_each_queue(
    backends, store, clock, spread
):
    settings, metrics = PromoterSettings(lock_ttl_ms=2_000), RecordingMetrics()
    one, two = (PromoterFleet(b, QUEUES, settings, clock=clock, spread=spread, metrics=[metrics]) for b in backends)
    async with one.running():
        await clock.sleep(0.1)  # it leads them all: on a busy machine each would take some of them first
        async with two.running():
            await clock.sleep(2)
            for _ in range(10):
                await clock.sleep(1)
                leads = [{h.queue for h in f.health() if h.leads} for f in (one, two)]
                assert leads[0] | leads[1] == set(QUEUES)
                assert not leads[0] & leads[1], "one leader for each"
                for f, led in zip((one, two), leads, strict=True):
                    assert {store[q].holder(clock.time_ms()) for q in led} <= {f.holder_id}
                if not spread:
                    assert sorted(map(len, leads)) == [0, 20], "the other one follows"
                    states = Counter(h.state for f in (one, two) for h in f.health())
                    assert states == {"leader": 20, "follower": 20}
                else:
                    assert min(map(len, leads)) >= 3, "each leads its share"


async def test_a_promoter_and_a_fleet_share_settings_too(backends, clock):
    settings = PromoterSettings()
    promoter = Promoter(backends[0], "q", settings, clock=clock)
    fleet = PromoterFleet(backends[1], ["q"], settings, clock=clock)
    async with promoter.running():
        await clock.sleep(0.1)
        async with fleet.running():
            await clock.sleep(10)
            assert [h.state for r in (promoter, fleet) for h in r.health()] == ["leader", "follower"]


async def test_no_two_runners_have_one_holder_id():
    async with connect("memory://") as backend:
        made = [Promoter(backend, "q"), Promoter(backend, "q"), PromoterFleet(backend, ["q"])]
        assert len({runner.holder_id for runner in made}) == 3
        assert all(isinstance(runner, Runner) for runner in made)


@pytest.mark.parametrize("kind", [Promoter, PromoterFleet])
async def test_a_given_holder_id_is_on_the_lock_and_stays_from_run_to_run(backend, clock, kind):
    runner = kind(backend, "q" if kind is Promoter else ["q"], holder_id="pod-7", clock=clock)
    for _ in range(2):
        async with runner.running():
            await clock.sleep(1)
            assert runner.holder_id == "pod-7"
            assert (await backend.stats("q")).holder == "pod-7"


@pytest.mark.parametrize("holder_id", ["x", "x" * 512, "ü" * 256])
async def test_a_holder_id_may_have_1_to_512_bytes(backend, clock, holder_id):
    async with Promoter(backend, "q", holder_id=holder_id, clock=clock).running():
        await clock.sleep(1)
        assert (await backend.stats("q")).holder == holder_id


async def test_settings_are_shared_and_not_copied_or_changed(backends, clock):
    settings = PromoterSettings(lock_ttl_ms=700)
    before = repr(settings)
    runners = [Promoter(backends[0], "a", settings, clock=clock), PromoterFleet(backends[1], ["b"], settings)]
    assert all(runner.settings is settings for runner in runners)
    assert repr(settings) == before
    task = asyncio.create_task(runners[0].run())
    await clock.sleep(0.1)
    assert (await backends[0].stats("a")).lease_remaining_ms in range(1, 701)
    runners[0].stop()
    await task
