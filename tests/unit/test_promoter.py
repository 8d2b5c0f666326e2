"""The runner, against the memory backend on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, Promoter, PromoterSettings, connect
from promoter_core.spi import LockOutcome, StreamName
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.unit.memory_bench import promoter, streamed


async def test_jobs_are_promoted_at_their_due_time_and_told_to_sinks(backend, clock, queue):
    sink, metrics = RecordingEvents(), RecordingMetrics()
    await queue.schedule_many([Job(data=i, delay=i, name=f"n{i}", job_id=f"j{i}") for i in (3, 1, 2)])
    async with promoter(backend, clock, events=[sink], metrics=[metrics]).running():
        await clock.sleep(4)
    assert sink.ids == ["j1", "j2", "j3"]
    assert [job.name for job in sink.jobs] == ["n1", "n2", "n3"]
    assert [job.promoted_ms - job.due_ms for job in sink.jobs] == [0, 0, 0]
    assert metrics.promoted == 3
    assert sink.closed


def test_a_pattern_is_taken_as_a_name_with_a_warning(backend, clock, caplog):
    Promoter(backend, "mail-*", clock=clock)
    (record,) = caplog.records
    assert record.getMessage() == "queue 'mail-*': taken as the name of one queue; a PromoterFleet takes patterns"


async def test_a_job_due_in_thirty_days_takes_no_time_to_test(backend, clock, queue):
    sink = RecordingEvents()
    await queue.schedule("later", delay=30 * 86_400)
    async with promoter(backend, clock, events=[sink], lock_ttl_ms=3_600_000).running():
        await clock.sleep(30 * 86_400 + 1)
    assert [job.promoted_ms - job.due_ms for job in sink.jobs] == [0]


async def test_a_new_earlier_job_ends_the_wait(backend, clock, queue):
    sink = RecordingEvents()
    await queue.schedule("late", delay=60)
    async with promoter(backend, clock, events=[sink], lock_ttl_ms=600_000).running():
        await clock.sleep(1)
        await queue.schedule("soon", delay=0.5)
        await clock.sleep(1)
        assert len(sink.jobs) == 1
        assert sink.jobs[0].promoted_ms - sink.jobs[0].due_ms == 0


async def test_a_full_batch_drains_without_sleeping(backend, clock, queue):
    metrics = RecordingMetrics()
    await queue.schedule_many([Job(data=i, delay=1) for i in range(25)])
    async with promoter(backend, clock, metrics=[metrics], promote_batch=10, max_tick_ms=0).running():
        await clock.sleep(1.5)
    busy = [t.promotion for _, t in metrics.ticks if t.promotion.promoted]
    assert [p.promoted for p in busy] == [10, 10, 5]
    assert len({p.now_ms for p in busy}) == 1, "no time passed between the batches"
    assert [p.depth for p in busy] == [15, 5, 0]
    assert [p.oldest_pending_lag_ms for p in busy] == [0, 0, 0]


async def test_a_tick_is_reported_every_tick_and_the_lock_on_transitions_only(backend, clock):
    metrics = RecordingMetrics()
    async with promoter(backend, clock, metrics=[metrics], lock_ttl_ms=3_000).running():
        await clock.sleep(10.5)
    assert len(metrics.ticks) == 11
    assert metrics.outcomes == [("q", LockOutcome.ACQUIRED), ("q", LockOutcome.RELEASED)]


async def test_it_can_be_stopped_from_another_thread():
    async with connect("memory://") as backend:
        p = Promoter(backend, "q", PromoterSettings(lock_ttl_ms=600_000))
        task = asyncio.create_task(p.run())
        await asyncio.sleep(0.05)
        assert p.health()[0].leads
        await asyncio.to_thread(p.stop)
        await asyncio.wait_for(task, 5)
        assert (await backend.stats("q")).holder is None


async def test_cleanup_and_emit_are_done_where_they_are_not_fused(backend, clock, queue):
    await queue.schedule("x", delay=1, job_id="j", name="n")
    async with promoter(backend, clock).running():
        await clock.sleep(2)
    (event,) = await streamed(backend, StreamName.EVENTS)
    assert event.fields["e"] == b"waiting"
    assert event.fields["id"] == b"j"
    assert event.fields["n"] == b"n"
    assert not (await queue.schedule("x", delay=1, job_id="j")).created, "the dedup marker stays"


async def test_no_event_is_written_when_they_are_disabled(backend, clock, queue):
    await queue.schedule("x", delay=1)
    async with promoter(backend, clock, events=[]).running():
        pass
    async with Promoter(backend, "q", PromoterSettings(events=False), clock=clock).running():
        await clock.sleep(2)
    assert len(await streamed(backend)) == 1
    assert await streamed(backend, StreamName.EVENTS) == ()


async def test_the_lock_is_released_on_stop(backend, clock):
    async with promoter(backend, clock).running():
        await clock.sleep(1)
        assert (await backend.stats("q")).holder == "me"
    assert (await backend.stats("q")).holder is None


async def test_the_lock_is_released_when_the_task_is_cancelled(backend, clock):
    task = asyncio.create_task(promoter(backend, clock).run())
    await clock.sleep(1)
    assert (await backend.stats("q")).holder == "me"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await backend.stats("q")).holder is None


async def test_another_holders_lock_is_never_released(backend, clock):
    await backend.lock("q", "other", 60_000)
    async with promoter(backend, clock).running() as p:
        await clock.sleep(1)
        assert p.health()[0].state == "follower"
    assert (await backend.stats("q")).holder == "other"


async def test_shutdown_interrupts_every_wait(backend, clock):
    p = promoter(backend, clock, lock_ttl_ms=3_600_000)
    task = asyncio.create_task(p.run())
    await clock.sleep(1)
    before_s = clock.monotonic()
    p.stop()
    await task
    assert clock.monotonic() == before_s


async def test_stop_before_run_ends_it_at_once(backend, clock):
    p = promoter(backend, clock)
    p.stop()
    await p.run()
    assert not p.health()[0].leads


async def test_it_can_run_again_after_it_was_stopped(backend, clock, queue):
    p = promoter(backend, clock)
    for _ in range(2):
        await queue.schedule("x", delay=1)
        async with p.running():
            await clock.sleep(2)
    assert len(await streamed(backend)) == 2


async def test_it_cannot_run_twice_at_once(backend, clock):
    p = promoter(backend, clock)
    async with p.running():
        await clock.sleep(1)
        with pytest.raises(ConfigError, match="already running"):
            await p.run()


async def test_until_idle_promotes_what_is_due_and_ends(backend, clock, queue):
    await queue.schedule_many([Job(data=i, delay=1) for i in range(20)])
    await queue.schedule("later", delay=50)
    clock.jump(2)
    await promoter(backend, clock, promote_batch=6).run(until_idle=True)
    assert len(await streamed(backend)) == 20
    stats = await backend.stats("q")
    assert (stats.depth, stats.holder) == (1, None)


async def test_until_idle_a_follower_ends_once_the_leader_has_drained_the_queue(backend, clock, queue):
    await queue.schedule("x", delay=1)
    clock.jump(2)
    await backend.lock("q", "other", 60_000)
    task = asyncio.create_task(promoter(backend, clock, lock_ttl_ms=1_000).run(until_idle=True))
    await clock.sleep(1)
    assert not task.done()
    async with promoter(backend, clock).running():
        await backend.unlock(type(await backend.lock("q", "other", 1))("q", "other", 1))
        await clock.sleep(5)
    await task


async def test_health_tells_state_and_age(backend, clock):
    p = promoter(backend, clock, lock_ttl_ms=3_600_000)
    assert p.health()[0].state == "stopped"
    assert p.health()[0].last_tick_age_s is None
    async with p.running():
        await clock.sleep(5)
        (health,) = p.health()
        assert (health.state, health.leads, health.last_error) == ("leader", True, None)
        assert health.last_tick_age_s == pytest.approx(5, abs=0.1)


async def test_a_second_promoter_follows_and_takes_over_at_once_on_a_clean_stop(clock):
    store = MemoryStore(clock)
    one, two = MemoryBackend(store), MemoryBackend(store)
    await one.open()
    await two.open()
    first = Promoter(one, "q", holder_id="one", clock=clock)
    second = Promoter(two, "q", holder_id="two", clock=clock)
    leading = asyncio.create_task(first.run())
    await clock.sleep(1)
    async with second.running():
        await clock.sleep(1)
        assert not second.health()[0].leads
        first.stop()
        await leading
        at_s = clock.monotonic()
        while not second.health()[0].leads:
            await clock.sleep(0.001)
        assert clock.monotonic() - at_s < 0.05


async def test_three_promoters_on_one_queue_of_1000_jobs_promote_each_exactly_once(clock):
    store = MemoryStore(clock)
    backends = [MemoryBackend(store) for _ in range(3)]
    for backend in backends:
        await backend.open()
    await DelayedQueue(backends[0], "q", clock=clock).schedule_many(
        [Job(data=i, delay=1 + i / 500, job_id=f"j{i}") for i in range(1000)]
    )
    promoters = [Promoter(b, "q", PromoterSettings(lock_ttl_ms=300, promote_batch=7), clock=clock) for b in backends]
    tasks = [asyncio.create_task(p.run()) for p in promoters]
    for _ in range(10):  # leadership goes round
        await clock.sleep(0.35)
        leader = next(p for p in promoters if p.health()[0].leads)
        i = promoters.index(leader)
        leader.stop()
        await tasks[i]
        tasks[i] = asyncio.create_task(leader.run())
    await clock.sleep(2)
    for p in promoters:
        p.stop()
    await asyncio.gather(*tasks)
    ids = [e.fields["d"] for e in await backends[0].read("q", StreamName.JOBS, "", 2000)]
    assert len(ids) == len(set(ids)) == 1000


async def test_a_stalled_leader_promotes_nothing_once_another_has_taken_over(clock):
    """200 rounds of: the leader is suspended beyond its lease, another takes over and drains, the first goes on."""
    store = MemoryStore(clock)
    for round_ in range(200):
        stale, fresh = MemoryBackend(store), MemoryBackend(store)
        await stale.open()
        await fresh.open()
        queue = f"q{round_}"
        jobs = DelayedQueue(fresh, queue, clock=clock)
        await jobs.schedule_many([Job(data=i, delay=2) for i in range(3)])
        metrics = RecordingMetrics()
        # The stale leader's promote call is on its way (suspended) while its lease runs out.
        stuck = FaultyBackend(stale, Fault("promote", nth=2 + round_ % 2, error=None, delay_s=5.0), clock=clock)
        first = Promoter(stuck, queue, PromoterSettings(lock_ttl_ms=900), clock=clock, metrics=[metrics])
        second = Promoter(fresh, queue, PromoterSettings(lock_ttl_ms=900), clock=clock)
        one = asyncio.create_task(first.run())
        await clock.sleep(0.1)
        async with second.running():
            await clock.sleep(4)
            assert second.health()[0].leads
            await clock.sleep(4)
            assert not first.health()[0].leads
            assert metrics.promoted == 0
            assert metrics.outcomes == [(queue, LockOutcome.ACQUIRED), (queue, LockOutcome.HELD)]
            assert len(await fresh.read(queue, StreamName.JOBS, "", 10)) == 3
            first.stop()
            await one


async def test_a_stream_that_stays_full_is_a_warning_and_so_is_not_one_that_is_full_for_a_moment(
    backend, store, clock, queue, caplog
):
    caplog.set_level("INFO", logger="promoter")
    await queue.schedule_many([Job(data=i) for i in range(7)])

    def said():
        return [said for said in caplog.messages if "is full" in said or "has room" in said]

    async with promoter(backend, clock, max_stream_len=5).running():
        await clock.sleep(4)
        assert said() == []
        await clock.sleep(20)
        (warning,) = said()
        assert "queue 'q': the stream is full (5 entries), and 2 due jobs wait." in warning
        store["q"].streams[StreamName.JOBS].entries.clear()
        await clock.sleep(1)
        assert said()[1:] == ["queue 'q': the stream has room again, after 24.0 s"]
        await queue.schedule_many([Job(data=i) for i in range(5)])
        await clock.sleep(2)
        store["q"].streams[StreamName.JOBS].entries.clear()
        await clock.sleep(10)
    assert len(said()) == 2, "that was a moment"
