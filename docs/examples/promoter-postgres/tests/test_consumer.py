"""A consumer: each job has one owner at a time, and an unacknowledged job is delivered again."""

import asyncio
from uuid import uuid4

import psycopg
import pytest
from promoter_postgres.consumer import Consumer

from promoter_core import DelayedQueue, Promoter, PromoterSettings, connect


@pytest.fixture
def queue(backend):
    return DelayedQueue(backend, f"q-{uuid4()}")


@pytest.fixture
async def backend(server_url):
    async with connect(server_url) as backend:
        yield backend


@pytest.fixture
async def consumer(server_url, backend, queue):
    """Of a queue with three promoted jobs."""
    for n in range(3):
        await queue.schedule({"n": n}, job_id=f"j{n}", name="count")
    await Promoter(backend, queue.name).run(until_idle=True)
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as connection:
        yield Consumer(connection, queue.name)


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


async def test_many_consumers_share_the_jobs(consumer):
    taken = await asyncio.gather(*(consumer.claim(1, 60) for _ in range(5)))
    assert sorted(id for some in taken for id in ids(some)) == ["j0", "j1", "j2"]


async def test_a_full_stream_has_room_again_when_a_job_is_acknowledged(consumer, backend, queue):
    await queue.schedule("more", job_id="j3")
    async with Promoter(backend, queue.name, PromoterSettings(max_stream_len=3)).running():
        await asyncio.sleep(0.1)
        assert (await queue.stats()).depth == 1
        (done,) = await consumer.claim(1, 60)
        await consumer.acknowledge(done)
        for _ in range(200):
            if (await queue.stats()).depth == 0:
                break
            await asyncio.sleep(0.02)
    assert (await queue.stats()).depth == 0


async def test_consumers_do_not_wait_for_one_another(consumer, server_url, queue):
    async with await psycopg.AsyncConnection.connect(server_url) as busy:  # not committed yet
        slow = Consumer(busy, queue.name)
        assert ids(await slow.claim(1, 60)) == ["j0"]
        assert ids(await asyncio.wait_for(consumer.claim(1, 60), 5)) == ["j1"]
        await busy.rollback()
    assert ids(await consumer.claim(3, 60)) == ["j0", "j2"]
