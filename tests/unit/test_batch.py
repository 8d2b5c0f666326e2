"""The adaptive batch, as pure logic and in a promoter on a store whose ticks take (virtual) time."""

from __future__ import annotations

import pytest

from promoter_core import Promoter, PromoterSettings
from promoter_core.batch import MAX_BATCH, BatchSize
from promoter_core.model import JobRequest
from promoter_core.testing import RecordingMetrics, VirtualClock
from promoter_memory.backend import MemoryBackend


def drain(size: BatchSize, jobs: int, *, way_s: float, job_s: float) -> list[tuple[int, float]]:
    """(limit, seconds) of each tick of a backlog, on a store with these costs."""
    ticks = []
    size.travelled(way_s)
    while jobs:
        moved = min(jobs, size.limit)
        ticks.append((moved, way_s + moved * job_s))
        jobs -= moved
        size.ticked(*ticks[-1])
    return ticks


@pytest.mark.parametrize("way_s", [0.0001, 0.002, 0.1])
def test_a_backlog_is_drained_in_ticks_of_the_right_length_whatever_the_way(way_s):
    ticks = drain(BatchSize(256, 5), 500_000, way_s=way_s, job_s=4e-6)
    assert max(seconds for _, seconds in ticks) <= way_s + 0.005 * 1.05
    assert all(moved >= 512 for moved, _ in ticks[1:-1])
    assert len(ticks) < 500_000 / 512 + 3


def test_large_jobs_shrink_it_at_once_and_small_ones_let_it_grow_again():
    size = BatchSize(256, 5)
    heavy = drain(size, 2_000, way_s=0.0002, job_s=0.001)
    assert size.limit <= 5
    assert [seconds > 0.0056 for _, seconds in heavy].count(True) == 1
    drain(size, 50_000, way_s=0.0002, job_s=4e-6)
    assert size.limit >= 512


def test_it_stays_within_its_bounds():
    size = BatchSize(1, 5)
    drain(size, 100, way_s=0, job_s=1)
    assert size.limit == 1
    drain(size, 300_000, way_s=0, job_s=0)
    assert size.limit == MAX_BATCH


def test_ticks_that_are_slow_now_and_then_change_little():
    size = BatchSize(256, 5)
    size.travelled(0.0002)
    for i in range(40):
        size.ticked(size.limit, 0.0002 + size.limit * 4e-6 + (0.05 if i % 3 else 0))
    assert 900 <= size.limit <= 1_300


def test_jobs_that_have_become_dear_shrink_it_within_some_ticks():
    size = BatchSize(256, 5)
    drain(size, 50_000, way_s=0.0002, job_s=4e-6)
    heavy = drain(size, 5_000, way_s=0.0002, job_s=4e-4)
    assert [seconds > 0.006 for _, seconds in heavy].count(True) <= 4
    assert 10 <= size.limit <= 13


def test_ticks_with_nothing_to_do_change_nothing():
    size = BatchSize(256, 5)
    for _ in range(100):
        size.ticked(0, 0.2)
        size.ticked(3, 0.0001)
    assert size.limit == 256


def test_zero_means_that_it_stays():
    size = BatchSize(256, 0)
    drain(size, 10_000, way_s=0, job_s=0.1)
    drain(size, 10_000, way_s=0, job_s=0)
    assert size.limit == 256


class Costly(MemoryBackend):
    """Each job takes the store 100 µs."""

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        await self._clock.sleep(0.0005 + answer.promoted * 0.0001)
        return answer


@pytest.mark.parametrize(("max_tick_ms", "longest_ms"), [(5, 6.0), (20, 21.0), (0, 100.0)])
async def test_a_promoter_keeps_its_ticks_short(max_tick_ms, longest_ms):
    clock, metrics = VirtualClock(), RecordingMetrics()
    backend = Costly(clock=clock)
    await backend.open()
    await backend.schedule("q", [JobRequest(f"{i}", b"", delay_ms=1) for i in range(5_000)])
    await clock.sleep(1)
    settings = PromoterSettings(queue="q", promote_batch=200, max_tick_ms=max_tick_ms)
    await Promoter(backend, settings, clock=clock, metrics=[metrics]).run(until_idle=True)
    durations_ms = [tick.duration_s * 1000 for _, tick in metrics.ticks]
    assert sum(tick.promotion.promoted for _, tick in metrics.ticks) == 5_000
    assert max(durations_ms[6:-1]) <= longest_ms
    if max_tick_ms:
        assert max(durations_ms[6:-1]) > max_tick_ms / 3  # and no shorter than they need be
