"""How often a sampler asks a store: more where somebody looks, less where there is much."""

from __future__ import annotations

from itertools import pairwise

import pytest

from promoter_core import PermanentError
from promoter_core.monitor import Coming, snapshot
from tests.unit.test_monitor import Watched, clock, ended, fill, sampled, store, watched

__all__ = ["clock", "store", "watched"]  # fixtures


async def test_queues_in_focus_are_read_again_and_again_though_a_pass_is_long(watched, store, clock):
    names = [f"q{i:03}" for i in range(200)]
    await fill(store, clock, *names, delay=10_000)
    for name in names:
        await store.lock(name, "somebody", 10**9)
    sampler, task = await sampled(watched, clock, 30, queues_per_s=16, every_s=2)
    sampler.focus(["q000", "q100", "unheard-of"])
    watched.read.clear()
    await clock.sleep(60)
    assert min(watched.read.count("q000"), watched.read.count("q100")) >= 18
    assert watched.read.count("q001") >= 3, "the others have their turns"
    assert len(watched.read) <= 61 * 16, "within the same pace"
    await ended(task)


@pytest.mark.parametrize(("queues", "share"), [(300, 1), (500, 0.5), (900, 0.25)])
async def test_with_many_queues_what_comes_is_counted_less_often(queues, share, watched, store, clock):
    await fill(store, clock, *(f"q{i}" for i in range(queues)), delay=10_000)
    counted = []
    count_jobs = watched.count_jobs

    async def counting(queue, bounds_ms):
        counted.append(queue)
        return await count_jobs(queue, bounds_ms)

    watched.count_jobs = counting
    sampler, task = await sampled(watched, clock, 60)
    watched.read.clear()
    counted.clear()
    await clock.sleep(120)
    assert len(counted) == pytest.approx(share * len(watched.read), rel=0.2)
    assert len(watched.read) <= 121 * 80 * (0.8 if queues > 800 else 1)
    assert all(queue.coming == Coming(minute=0, hour=0, day=1) for queue in sampler.state().queues)
    await ended(task)


async def test_where_nothing_is_due_within_a_day_nothing_is_counted(watched, store, clock):
    await fill(store, clock, "q", delay=90_000)

    async def count_jobs(queue, bounds_ms):
        raise PermanentError("it was counted", code="COUNTED")

    watched.count_jobs = count_jobs
    (seen,) = (await snapshot(watched, clock=clock)).queues
    assert (seen.error, seen.coming) == (None, Coming(minute=0, hour=0, day=0))


@pytest.mark.parametrize(("steps", "pace"), [(100, 14), (1_000, 5)])
async def test_a_search_that_takes_many_steps_takes_them_slower(steps, pace, store, clock):
    taken = []

    class Paged(Watched):
        async def find_queues(self, patterns):
            for _ in range(steps):
                taken.append(clock.monotonic())
                yield ()

    backend = Paged(store)
    for name in ("promote", "schedule", "list_jobs", "get_jobs", "change_jobs"):
        setattr(backend, name, getattr(store, name))
    _, task = await sampled(backend, clock, 30)
    first = len(taken)
    await clock.sleep(60)
    gaps = sorted(after - before for before, after in pairwise(taken[first:]))
    assert 1 / gaps[len(gaps) // 2] == pytest.approx(pace, rel=0.25)
    await ended(task)
