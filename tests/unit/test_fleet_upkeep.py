"""A fleet renews its membership and its leases beside its steps: due jobs do not wait for either."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import DelayedQueue, Job, PromoterFleet, PromoterSettings
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents
from tests.unit.test_fleet import QUEUES, leaders

SLOW_S = 0.9
SLOW = [Fault(method, nth=2, onwards=True, error=None, delay_s=SLOW_S) for method in ("join_group", "renew_many")]


def fleet(backend, clock, **options):
    return PromoterFleet(backend, QUEUES, PromoterSettings(), clock=clock, **options)


async def test_jobs_are_on_time_while_membership_and_leases_take_long_to_renew(backend, clock):
    faulty, events = FaultyBackend(backend, *SLOW, clock=clock), RecordingEvents()
    async with fleet(faulty, clock, events=[events]).running() as f:
        await clock.sleep(10)
        for queue in QUEUES[:10]:
            jobs = [Job(data=n, delay=1 + n * 0.171) for n in range(100)]
            await DelayedQueue(backend, queue).schedule_many(jobs)
        await clock.sleep(30)
        assert len(events.jobs) == 1_000
        assert {job.promoted_ms - job.due_ms for job in events.jobs} == {0}
        assert all(health.leads for health in f.health())
        assert faulty.calls["join_group"] > 10
        assert faulty.calls["renew_many"] > 10


@pytest.mark.parametrize("slow", SLOW, ids=lambda fault: fault.method)
async def test_a_stop_during_a_renewal_leaves_the_group_and_releases_all_locks(slow, backend, clock):
    faulty = FaultyBackend(backend, slow, clock=clock)
    f = fleet(faulty, clock)
    async with f.running():
        await clock.sleep(5)
        calls = faulty.calls[slow.method]
        while faulty.calls[slow.method] == calls:
            await clock.sleep(0.05)
    assert await leaders(backend) == [None] * 100
    assert (await backend.join_group(f._group, "another", 1_000)).names == frozenset({"another"})


async def test_a_cancellation_during_a_renewal_leaves_no_task(backend, clock):
    faulty = FaultyBackend(backend, *SLOW, clock=clock)
    f = fleet(faulty, clock)
    running = asyncio.create_task(f.run())
    await clock.sleep(5)
    calls = faulty.calls["renew_many"]
    while faulty.calls["renew_many"] == calls:
        await clock.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await leaders(backend) == [None] * 100
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "promoter-upkeep"]
