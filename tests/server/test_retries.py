"""Retries on a server: what ChasquiMQ's producer wrote stays as it is, and a second retry is no second job."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from promoter_core import Backoff, DelayedQueue, JobOutcome, Promoter, Scheduled, connect, unpack_envelope
from promoter_core.spi import CHASQUIMQ, StreamName
from promoter_core.spi.wire import repack_attempt

pytestmark = pytest.mark.server
chasquimq = pytest.importorskip("chasquimq")


async def entries(backend, name, count=1):
    """What is in the stream once `count` jobs are."""
    async with asyncio.timeout(10):
        while len(found := await backend.read(name, StreamName.JOBS, "", 100)) < count:
            await Promoter(backend, name).run(until_idle=True)
    return found


@pytest.mark.parametrize("id", ["my-id-1", "x" * 40, "ü" * 150, "\N{SNOWMAN}\0"])
@pytest.mark.parametrize(
    ("backoff", "attempts"),
    [
        (None, None),
        (None, 7),
        ({"kind": "fixed", "delay_ms": 60_000, "max_delay_ms": 90_000, "jitter_ms": 0}, None),
        ({"kind": "exponential", "delay_ms": 60_000, "multiplier": 1.5, "max_delay_ms": 90_000, "jitter_ms": 0}, 4),
    ],
)
async def test_a_job_of_their_producer_keeps_all_but_its_attempt(
    valkey, backend, client, name, keys, id, backoff, attempts
):
    async with chasquimq.Queue(name, redis_url=valkey.url) as theirs:
        await theirs.add("n", {"to": "a"}, job_id=id, delay_ms=1, backoff=backoff, attempts=attempts)
        (entry,) = await entries(backend, name)
        before = unpack_envelope(entry.fields["d"])
        assert (before.id, before.attempt, before.retry is None) == (id, 0, backoff is attempts is None)
        queue = DelayedQueue(backend, name)
        retried = await queue.retry(entry, backoff=Backoff.fixed(60))
        assert retried == Scheduled(id)
        ((member, score),) = await client.zrange(keys.delayed, 0, -1, withscores=True)
        assert CHASQUIMQ.decode_member(member) == ("n", repack_attempt(before.raw, 1))
        now_ms = (await queue.stats()).now_ms
        assert 50_000 < score - now_ms <= 60_000
        again = msgpack.unpackb(CHASQUIMQ.decode_member(member)[1])
        assert again == [*msgpack.unpackb(before.raw)[:3], 1, *msgpack.unpackb(before.raw)[4:]]
        assert await queue.cancel(id) is JobOutcome.REMOVED


async def test_their_producers_index_and_ours_find_a_retry(valkey, backend, name):
    queue = DelayedQueue(backend, name)
    await queue.schedule({"n": 1}, job_id="a", name="n")
    (entry,) = await entries(backend, name)
    await queue.retry(entry, delay=60)
    async with chasquimq.Queue(name, redis_url=valkey.url) as theirs:
        assert await theirs.cancel_delayed("a")
    assert (await queue.stats()).depth == 0


@pytest.mark.parametrize("scheme", ["redis", "glide"])
@pytest.mark.parametrize("index", [True, False])
async def test_a_second_retry_of_one_delivery_is_no_second_job(valkey, client, name, keys, scheme, index):
    if scheme == "glide":
        pytest.importorskip("glide")
    async with connect(valkey.url.replace("redis://", f"{scheme}://")) as backend:
        queue = DelayedQueue(backend, name, index=index)
        await queue.schedule({"n": 1}, name="n")
        (entry,) = await entries(backend, name)
        await queue.retry(entry, delay=60)
        await queue.retry(entry, delay=0)
        assert (await queue.stats()).depth == 1
        first, second = await entries(backend, name, 2)
        assert second.fields == {"d": repack_attempt(first.fields["d"], 1), "n": b"n"}
        assert not [key async for key in client.scan_iter(keys.index + b"*")], "nothing is left of it"
