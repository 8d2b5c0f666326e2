"""The memory backend keeps what waits, and nothing of what has gone."""

from __future__ import annotations

from promoter_core import DelayedQueue, Job
from promoter_core.spi import JobRequest, PromotionRequest, pack_envelope


async def test_cancelled_jobs_that_were_due_far_ahead_are_not_kept(queue, store):
    for _ in range(20):
        jobs = await queue.schedule_many([Job(data=i, delay=86_400 * 365, job_id=f"j{i}") for i in range(500)])
        await queue.cancel_many(jobs)
    kept = store["q"]
    assert kept.depth == 0
    assert len(kept._heap) <= 100
    assert not kept._index
    assert not kept._markers
    assert not kept._expiries


async def test_jobs_of_one_id_leave_nothing_of_those_that_have_gone(backend, store, clock):
    for i in range(500):
        await backend.schedule("q", [JobRequest("a", pack_envelope("a", b"%d" % i, 0, 0), delay_ms=1_000 + i)])
        if i % 2:
            await backend.cancel("q", ["a"])
    chain, job = 0, store["q"].waiting("a")
    while job is not None:
        chain, job = chain + 1, job.earlier
    assert chain <= store["q"].depth + 1 == 251


async def test_promoted_ids_are_forgotten_in_time(backend, store, clock):
    queue = DelayedQueue(backend, "q", clock=clock)
    await queue.schedule_many([Job(data=1, delay=1, job_id=f"j{i}") for i in range(100)])
    await clock.sleep(2)
    await backend.promote(await backend.lock("q", "me", 1_000), PromotionRequest(limit=1_000, max_stream_len=1_000))
    assert len(store["q"]._markers) == 100
    await clock.sleep(3_601)
    assert (await queue.schedule(1, delay=1, job_id="j0")).created
    assert not store["q"]._markers
