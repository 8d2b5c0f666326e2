"""The connections of a driver: how many there are, and what waiting for one costs."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Registry, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from promoter_redis.connections import LIMIT
from tests.proxy import proxy
from tests.server.bench import until
from tests.typed import present, untyped

pytestmark = pytest.mark.server


async def most_connections(server, ended):
    most = 0
    async with Redis(port=server.port) as client:
        while not ended.is_set():
            most = max(most, (await client.info("clients"))["connected_clients"])
            await asyncio.sleep(0.01)
    return most


async def test_three_thousand_jobs_scheduled_at_once_share_a_few_connections(server):
    ended = asyncio.Event()
    looking = asyncio.create_task(most_connections(server, ended))
    async with connect(f"{server.url}?command_timeout_ms=30000") as backend, Redis(port=server.port) as client:
        queue = DelayedQueue(backend, "q")
        await asyncio.gather(*(queue.schedule(i, delay=3600) for i in range(3_000)))
        assert await client.zcard(CHASQUIMQ.keys_of("q").delayed) == 3_000
        ended.set()
        assert await looking <= LIMIT + 2


async def test_waiting_for_a_connection_is_not_the_servers_time(valkey, name):
    """Each call takes 0.1 s and more on the way, and they go in many turns: altogether far more than a time-out."""
    async with proxy(valkey.port) as network, connect(f"redis://{network.address}?command_timeout_ms=1500") as backend:
        queue = DelayedQueue(backend, name)
        await asyncio.gather(*(queue.schedule(i, delay=3600) for i in range(LIMIT)))
        network.mode = "delay"
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(queue.schedule(i, delay=3600) for i in range(20 * LIMIT)))
        assert asyncio.get_running_loop().time() - began > 1.5, "what the test is about"


async def test_who_waits_for_a_connection_is_told_when_the_backend_is_closed(valkey, name):
    async with proxy(valkey.port) as network:
        async with connect(f"redis://{network.address}?command_timeout_ms=60000") as backend:
            network.mode = "blackhole"
            waiting = [asyncio.create_task(DelayedQueue(backend, name).schedule(1, delay=60)) for _ in range(3 * LIMIT)]
            await asyncio.sleep(0.2)
            cancelled = waiting.pop()
            cancelled.cancel()
            await asyncio.wait((cancelled,), timeout=5)
            assert cancelled.cancelled()
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {TransientError}
        assert {untyped(answer).code for answer in answers} == {"CLOSED"}


async def test_a_cancellation_between_two_calls_is_not_lost(server):
    """As Ctrl-C does it while the program reckons: the task is cancelled, and waits for nothing at that moment."""
    async with connect(server.url) as backend:
        queue = DelayedQueue(backend, "q")

        async def counts():
            await queue.count()
            present(asyncio.current_task()).cancel()
            await queue.count()

        answers = await asyncio.gather(asyncio.create_task(counts()), return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert await queue.count() == 0


async def test_a_close_that_is_cancelled_leaves_no_connection(server):
    async with Redis(port=server.port) as client:
        backend = Registry().backend(server.url)
        await backend.open()
        await asyncio.gather(*(DelayedQueue(backend, "q").schedule(i, delay=3600) for i in range(10)))
        closing = asyncio.create_task(backend.close())
        await asyncio.sleep(0)  # its parts are tasks now, which have not begun
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)

        async def alone():
            return (await client.info("clients"))["connected_clients"] == 1

        await until(alone)
