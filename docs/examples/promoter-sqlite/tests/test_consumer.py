"""A consumer: each job has one owner at a time, and an unacknowledged job is delivered again."""

import asyncio

import pytest
from promoter_sqlite.consumer import Consumer

from promoter_core import DelayedQueue, Promoter, PromoterSettings, connect


@pytest.fixture
async def consumer(tmp_path):
    """Of a queue with three promoted jobs."""
    path = str(tmp_path / "jobs.db")
    async with connect(f"sqlite://{path}") as backend:
        for n in range(3):
            await DelayedQueue(backend, "q").schedule({"n": n}, job_id=f"j{n}", name="count")
        await Promoter(backend, "q").run(until_idle=True)
        yield Consumer(path, "q")


def ids(deliveries):
    return [delivery.envelope.id for delivery in deliveries]


async def test_a_job_is_taken_once_and_leaves_the_stream_when_it_is_acknowledged(consumer):
    first, second = await consumer.claim(2, 60), await consumer.claim(2, 60)
    assert (ids(first), ids(second)) == (["j0", "j1"], ["j2"])
    assert (first[1].envelope.data(), first[1].name, first[1].deliveries) == ({"n": 1}, "count", 1)
    assert [await consumer.acknowledge(delivery) for delivery in first + second] == [True] * 3
    assert await consumer.claim(10, 60) == []


async def test_a_claim_that_runs_out_is_anybodys_and_no_longer_ours(consumer):
    (late,) = await consumer.claim(1, 0.01)
    await asyncio.sleep(0.02)
    (again,) = await consumer.claim(1, 60)
    assert (again.envelope.id, again.deliveries) == ("j0", 2)
    assert not await consumer.acknowledge(late)
    assert not await consumer.give_back(late)
    assert await consumer.acknowledge(again)


async def test_a_job_that_is_given_back_comes_again_after_a_while(consumer):
    failed, *_ = await consumer.claim(3, 60)
    assert await consumer.give_back(failed, 0.05)
    assert await consumer.claim(3, 60) == []
    await asyncio.sleep(0.06)
    assert ids(await consumer.claim(3, 60)) == ["j0"]


async def test_a_delivery_has_the_producers_trace_context(consumer, tmp_path):
    traceparent = f"00-{1:032x}-{1:016x}-01"
    async with connect(f"sqlite://{tmp_path / 'jobs.db'}") as backend:
        await DelayedQueue(backend, "q").schedule("traced", job_id="j3", traceparent=traceparent, tracestate="vendor=1")
        await Promoter(backend, "q").run(until_idle=True)
    *others, traced = await consumer.claim(4, 60)
    assert {(delivery.traceparent, delivery.tracestate) for delivery in others} == {("", "")}
    assert (traced.envelope.id, traced.traceparent, traced.tracestate) == ("j3", traceparent, "vendor=1")


async def test_many_consumers_share_the_jobs(consumer):
    taken = await asyncio.gather(*(consumer.claim(1, 60) for _ in range(5)))
    assert sorted(id for some in taken for id in ids(some)) == ["j0", "j1", "j2"]


async def test_a_full_stream_has_room_again_when_a_job_is_acknowledged(consumer, tmp_path):
    async with connect(f"sqlite://{tmp_path / 'jobs.db'}") as backend:
        promoter = Promoter(backend, "q", PromoterSettings(max_stream_len=3))
        queue = DelayedQueue(backend, "q")
        await queue.schedule("more", job_id="j3")
        async with promoter.running():
            await asyncio.sleep(0.1)
            assert (await queue.stats()).depth == 1
            (done,) = await consumer.claim(1, 60)
            await consumer.acknowledge(done)
            for _ in range(200):
                if (await queue.stats()).depth == 0:
                    break
                await asyncio.sleep(0.02)
        assert (await queue.stats()).depth == 0
