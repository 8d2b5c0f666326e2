"""The adaptive batch, as pure logic and in a promoter on a store whose calls take (virtual) time."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promoter_core import Promoter, PromoterSettings
from promoter_core.engine.batch_size import MAX_BATCH, MIN_BATCH, PAYS, PROBE_AFTER, BatchSize
from promoter_core.spi import JobRequest, Promotion, pack_envelope
from promoter_core.testing import RecordingMetrics, VirtualClock
from promoter_memory.backend import MemoryBackend

ENOUGH = 0.7  # of the rate of the best fixed batch


def drain(size: BatchSize, jobs: int, *, job_ms: float, fixed_ms: float = 0.03) -> list[tuple[int, float]]:
    """(jobs, work in ms) of each tick of a backlog, on a store with these costs."""
    ticks = []
    while jobs:
        moved = min(jobs, size.limit)
        ticks.append((moved, fixed_ms + moved * job_ms))
        jobs -= moved
        size.observe_tick(*ticks[-1])
    return ticks


def test_a_backlog_is_drained_in_ticks_of_the_right_length():
    ticks = drain(BatchSize(256, 5), 500_000, job_ms=0.004)
    assert max(work for _, work in ticks) <= 5 * 1.05
    probes = [moved for moved, _ in ticks[4:-1] if moved < 1_200]
    assert len(probes) <= len(ticks) / PROBE_AFTER + 1
    assert len(ticks) < 500_000 / 1_000 + 3


def test_large_jobs_shrink_it_at_once_and_small_ones_let_it_grow_again():
    size = BatchSize(256, 5)
    heavy = drain(size, 2_000, job_ms=0.5)
    assert [work > 6 for _, work in heavy].count(True) == 1
    drain(size, 50_000, job_ms=0.004)
    assert size.limit >= 512


def test_it_stays_within_its_bounds():
    size = BatchSize(1, 5)
    ticks = drain(size, 100, job_ms=1_000)
    assert [moved for moved, _ in ticks].count(1) > 60, "a probe now and then, and no more"
    size = BatchSize(256, 5)
    ticks = drain(size, 2_000, job_ms=1_000)
    sizes = [moved for moved, _ in ticks[1:]]
    assert sizes.count(MIN_BATCH) > 0.8 * len(sizes)
    assert max(sizes) <= MIN_BATCH * 8, "right from the second tick on it shrinks"
    drain(size, 300_000, job_ms=0, fixed_ms=0)
    assert size.limit == MAX_BATCH
    drain(size, 300_000, job_ms=1e-5, fixed_ms=8)
    assert size.limit == MAX_BATCH


def test_ticks_that_are_slow_now_and_then_change_little():
    size, chance, limits = BatchSize(256, 5), random.Random(1), []
    for i in range(200):
        limits.append(size.limit)
        size.observe_tick(
            size.limit, (0.03 + size.limit * 0.004) * chance.lognormvariate(0, 0.1) + (50 if i % 10 == 9 else 0)
        )
    assert sum(limits[10:]) / len(limits[10:]) > 1_250 * ENOUGH


def test_jobs_that_have_become_dear_shrink_it_within_some_ticks():
    size = BatchSize(256, 5)
    drain(size, 50_000, job_ms=0.004)
    heavy = drain(size, 5_000, job_ms=0.4)
    assert [work > 6 for _, work in heavy].count(True) <= 4


def test_a_fixed_cost_above_the_limit_lets_a_tick_take_what_pays():
    size = BatchSize(256, 5)
    ticks = drain(size, 500_000, job_ms=0.005, fixed_ms=8)
    assert max(work for _, work in ticks) <= PAYS * 8 * 1.1
    jobs, work_ms = sum(moved for moved, _ in ticks), sum(work for _, work in ticks)
    assert jobs * 0.005 / work_ms > ENOUGH, "of the store's work"


def test_ticks_with_little_to_do_change_nothing():
    size = BatchSize(256, 5)
    for _ in range(100):
        size.observe_tick(0, 4.0)
        size.observe_tick(3, 0.1)
    assert size.limit == 256


def test_zero_means_that_it_stays():
    size = BatchSize(256, 0)
    drain(size, 10_000, job_ms=100)
    drain(size, 10_000, job_ms=0)
    assert size.limit == 256


def test_where_the_store_cannot_tell_it_stays():
    size = BatchSize(256, 5)
    for _ in range(100):
        size.observe_tick(size.limit, None)
    assert size.limit == 256


@dataclass(frozen=True)
class Costs:
    """Of a store and the way to it, in ms."""

    way: float
    jitter: float  # as a part of the way, to either side
    fixed: float
    job: float

    def work(self, jobs: int) -> float:
        return self.fixed + jobs * self.job

    def allowed(self, max_tick_ms: float) -> float:
        return max(max_tick_ms, PAYS * self.fixed)

    def best(self, max_tick_ms: float) -> int:
        """The fastest fixed batch of those whose tick fits `max_tick_ms`, or, where the fixed cost is so high that none
        which pays would, of those whose tick fits PAYS times that cost."""
        fits = (self.allowed(max_tick_ms) - self.fixed) / self.job
        return max(min(int(fits), MAX_BATCH), 1)


costs = st.builds(
    Costs,
    way=st.sampled_from([0.05, 0.2, 2.0, 16.0, 100.0]),
    jitter=st.sampled_from([0.0, 0.4, 0.9]),
    fixed=st.sampled_from([0.0, 0.03, 0.3]) | st.floats(0, 20),
    job=st.floats(-4, 0.5).map(lambda exponent: 10**exponent),
)


def rate(
    of: Costs, size: BatchSize, ticks: int, max_tick_ms: float, chance: random.Random
) -> tuple[float, list[float]]:
    """Jobs a ms while a backlog is drained for the time that the best fixed batch needs for so many ticks, as a part of
    what that would have moved; and how long each tick worked."""
    best = of.best(max_tick_ms)
    until_ms = ticks * (of.way + of.work(best))
    now_ms, moved, works = 0.0, 0, []
    while now_ms < until_ms:
        works.append(of.work(size.limit))
        now_ms += of.way * (1 + of.jitter * chance.uniform(-1, 1)) + works[-1]
        moved += size.limit
        size.observe_tick(size.limit, works[-1])
    return moved / now_ms / (best / (of.way + of.work(best))), works


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1, 10, 256, 5_000]),
    st.sampled_from([1, 5, 20]),
    st.lists(costs, min_size=1, max_size=4),
    st.integers(0, 2**32).map(random.Random),
)
def test_whatever_the_costs_and_their_changes_a_backlog_drains_nearly_as_fast_as_with_the_best_fixed_batch(
    start, max_tick_ms, phases, chance
):
    size = BatchSize(start, max_tick_ms)
    for phase in phases:
        share, works = rate(phase, size, 150, max_tick_ms, chance)
        assert share >= ENOUGH, (phase, share)
        longest = max(1.5 * phase.allowed(max_tick_ms), phase.work(MIN_BATCH))
        assert sum(work > longest for work in works) <= 20, "what is longer than it may be is soon over"


class Costly(MemoryBackend):
    """A call takes the store time and is on its way for some; both on the virtual clock."""

    of = Costs(way=0.0, jitter=0.0, fixed=0.03, job=0.1)
    knows = True
    works_ms: tuple[float, ...] = ()
    chance = random.Random(1)

    async def promote(self, lease, request):
        way_s = self.of.way / 1000 * (1 + self.of.jitter * self.chance.uniform(-1, 1))
        await self._clock.sleep(way_s / 2)
        answer = await super().promote(lease, request)
        assert isinstance(answer, Promotion)
        work_ms = self.of.work(answer.promoted) if answer.promoted else 0.03
        self.works_ms = (*self.works_ms, work_ms)
        await self._clock.sleep(work_ms / 1000 + way_s / 2)
        return replace(answer, work_ms=work_ms if self.knows and request.want_work else None)


async def lagging(of, jobs, **options):
    """A promoter on a store with a backlog, and what it tells of its ticks."""
    clock, metrics = VirtualClock(), RecordingMetrics()
    backend = Costly(clock=clock)
    backend.of = of
    await backend.open()
    await backend.schedule("q", [JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=1) for i in range(jobs)])
    await clock.sleep(1)
    return (
        clock,
        metrics,
        backend,
        Promoter(backend, "q", PromoterSettings(**options), clock=clock, metrics=[metrics]),
    )


@pytest.mark.parametrize(("max_tick_ms", "longest_ms"), [(5, 6.0), (20, 21.0), (0, 100.0)])
async def test_a_promoter_keeps_its_ticks_short(max_tick_ms, longest_ms):
    _, metrics, backend, promoter = await lagging(Costly.of, 5_000, promote_batch=200, max_tick_ms=max_tick_ms)
    await promoter.run(until_idle=True)
    works_ms = backend.works_ms
    assert metrics.promoted == 5_000
    assert max(works_ms[6:-1]) <= longest_ms
    if max_tick_ms:
        assert max(works_ms[6:-1]) > max_tick_ms / 3  # and no shorter than they need be


@pytest.mark.parametrize(
    "of",
    [
        Costs(way=100, jitter=0, fixed=0.03, job=0.005),
        Costs(way=25, jitter=0.4, fixed=0.03, job=0.005),
        Costs(way=0.2, jitter=0, fixed=8, job=0.005),
    ],
    ids=["a long way", "jitter", "a dear commit"],
)
async def test_a_promoter_drains_nearly_as_fast_as_with_the_best_fixed_batch(of):
    seconds = {}
    for batch, max_tick_ms in ((of.best(5), 0), (256, 5)):
        clock, _, _, promoter = await lagging(of, 40_000, promote_batch=batch, max_tick_ms=max_tick_ms)
        began_s = clock.monotonic()
        await promoter.run(until_idle=True)
        seconds[max_tick_ms] = clock.monotonic() - began_s
    assert seconds[0] / seconds[5] >= ENOUGH, seconds


async def test_a_way_that_becomes_long_while_leading_changes_no_batch_and_leaves_no_backlog():
    """40 jobs a second come in, and each tick takes 100 ms more from now on."""
    clock, metrics, backend, promoter = await lagging(Costs(way=0.2, jitter=0, fixed=0.03, job=0.005), 1)
    async with promoter.running():
        for second in range(60):
            backend.of = replace(backend.of, way=0.2 if second < 10 else 100)
            for n in range(40):
                await backend.schedule(
                    "q", [JobRequest(f"{second}-{n}", pack_envelope(f"{second}-{n}", b"", 0, 0), delay_ms=50)]
                )
                await clock.sleep(0.025)
        await clock.sleep(0.3)
    assert metrics.promoted == 2_401
    late_ms = [tick.promotion.oldest_pending_lag_ms for _, tick in metrics.ticks]
    assert max(late_ms) == 0, "no batch was too small for what was due"


async def test_while_jobs_come_in_during_a_long_round_trip_the_leader_goes_on_at_once():
    of = Costs(way=100, jitter=0, fixed=0.03, job=0.005)
    clock, metrics, backend, promoter = await lagging(of, 1)
    await backend.schedule(
        "q", [JobRequest(f"x{i}", pack_envelope(f"x{i}", b"", 0, 0), delay_ms=1 + i * 5) for i in range(2_000)]
    )
    async with promoter.running():
        began_s = clock.monotonic()
        await clock.sleep(5)
        ticks = len(metrics.ticks)
        assert ticks * 0.1 >= 0.95 * (clock.monotonic() - began_s), "one tick after the other"


async def test_a_store_is_asked_for_its_work_in_a_backlog_and_now_and_then():
    clock, _, backend, promoter = await lagging(Costly.of, 5_000, promote_batch=200)
    asked = []

    async def promote(lease, request, promote=backend.promote):
        answer = await promote(lease, request)
        asked.append((answer.promoted, request.want_work))
        return answer

    backend.promote = promote
    async with promoter.running():
        await clock.sleep(2)
        assert all(want for _, want in asked[:-1]), "while it drains"
        asked.clear()
        for _ in range(160):
            await backend.schedule("q", [JobRequest("a", pack_envelope("a", b"", 0, 0), delay_ms=10)])
            await clock.sleep(0.1)
    wants = [want for moved, want in asked if moved]
    assert 4 <= wants.count(True) <= len(wants) / 8


async def test_dear_jobs_shrink_the_batch_though_no_tick_is_full():
    of = Costs(way=0.2, jitter=0, fixed=0.03, job=2)
    clock, _, backend, promoter = await lagging(of, 1)
    async with promoter.running():
        for burst in range(40):
            await backend.schedule(
                "q",
                [JobRequest(f"{burst}-{i}", pack_envelope(f"{burst}-{i}", b"", 0, 0), delay_ms=10) for i in range(200)],
            )
            await clock.sleep(1)
    assert max(backend.works_ms[-200:]) < 40


async def test_a_store_that_cannot_tell_its_work_is_asked_for_the_same_each_time():
    _, metrics, backend, promoter = await lagging(Costly.of, 5_000, promote_batch=200)
    backend.knows = False
    await promoter.run(until_idle=True)
    assert {tick.promotion.promoted for _, tick in metrics.ticks} == {200, 0}
