"""Producers that write the wire format with a plain client: what its own retries do, as the page says."""

from __future__ import annotations

import asyncio
import time

import msgpack
import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from promoter_core import DelayedQueue, Promoter, connect
from tests.proxy import proxy

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(int(redis.__version__.split(".")[0]) < 6, reason="redis-py before 6 has no retries by default"),
]


def due_now(name):
    now_ms = int(time.time() * 1000)
    envelope = msgpack.packb(["an-id", msgpack.packb({"to": "a@b.c"}), now_ms, 0])
    return f"{{chasqui:{name}}}:delayed", {b"\0\0\0\0" + envelope: now_ms}


async def lose_the_reply(valkey, name, write, **options):
    """`write(client)` writes a due job; the reply is lost after the promotion: how often the job came, what it got."""
    async with proxy(valkey.port) as between, connect(valkey.url) as backend:
        async with Redis(port=between.port, **options) as client:
            await client.ping()
            async with Promoter(backend, name).running():
                between.mode = "swallow"
                writing = asyncio.create_task(write(client))
                queue = DelayedQueue(backend, name)
                async with asyncio.timeout(20):
                    while (await queue.stats()).stream_len < 1:
                        await asyncio.sleep(0.01)
                between.mode = "pass"
                between.drop()
                answers = await asyncio.gather(writing, return_exceptions=True)
                await asyncio.sleep(0.3)
                return (await queue.stats()).stream_len, answers[0]


async def test_the_default_retries_of_a_plain_client_can_double_a_job(valkey, name):
    times, error = await lose_the_reply(valkey, name, lambda client: client.zadd(*due_now(name)))
    assert (times, error) == (2, 1), "the client repeats the ZADD after the promotion, and says that all is well"


async def test_without_retries_the_producer_gets_the_error_and_the_job_comes_once(valkey, name):
    none = Retry(NoBackoff(), 0)
    times, error = await lose_the_reply(valkey, name, lambda client: client.zadd(*due_now(name)), retry=none)
    assert times == 1
    assert isinstance(error, redis.ConnectionError)


async def test_a_repeat_with_an_id_by_this_library_is_safe(valkey, name):
    async with connect(valkey.url) as backend, Promoter(backend, name).running():
        queue = DelayedQueue(backend, name)
        for _ in range(2):
            await queue.schedule({"to": "a@b.c"}, delay=0.001, job_id="order-7")
            await asyncio.sleep(0.3)
        assert (await queue.stats()).stream_len == 1
