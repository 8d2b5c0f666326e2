"""`wait_replicas`: a job is answered for only when replicas have it, whichever connection asks."""

from __future__ import annotations

import signal
import time

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from tests.server.bench import until
from tests.servers import Server

pytestmark = pytest.mark.server

SCHEMES = ["redis", "glide"]


@pytest.fixture
def replica(server):
    with Server(replicaof=f"127.0.0.1 {server.port}") as replica:
        yield replica


@pytest.fixture
async def primary(server, replica):
    async with Redis(port=server.port) as client, Redis(port=replica.port) as other:

        async def in_touch():
            return (await other.info("replication"))["master_link_status"] == "up" and await client.wait(1, 100) == 1

        await until(in_touch, 30)
        yield client


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_repeat_on_another_connection_is_not_acknowledged_until_a_replica_has_the_job(
    server, replica, primary, name, scheme
):
    url = f"{scheme}://{server.address}?wait_replicas=1&command_timeout_ms=1500"
    async with connect(url) as backend:
        await DelayedQueue(backend, name).schedule(1, delay=60, job_id="before")
        replica.kill(signal.SIGSTOP)
        with pytest.raises(TransientError) as raised:
            await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"
    for _ in range(2):
        async with connect(url) as backend:
            began = time.monotonic()
            with pytest.raises(TransientError) as raised:
                await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
            assert raised.value.code == "NOREPLICAS", "and not TIMEOUT: WAIT ends before the command's time is up"
            assert time.monotonic() - began < 1.5
    replica.kill(signal.SIGCONT)
    async with connect(url) as backend:

        async def repeated():
            try:
                return [await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")]
            except TransientError:
                return []

        (answer,) = await until(repeated, 20)
        assert not answer.created
    async with Redis(port=replica.port) as other:
        assert await other.zcard(CHASQUIMQ.keys_of(name).delayed) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_repeat_is_a_write_when_only_the_index_tells_of_the_job(server, replica, primary, name, scheme):
    url = f"{scheme}://{server.address}?wait_replicas=1&command_timeout_ms=1500"
    async with connect(url) as backend:
        await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
    await primary.delete(CHASQUIMQ.keys_of(name).marker + b"a")  # as if it had ended
    replica.kill(signal.SIGSTOP)
    async with connect(url) as backend:
        with pytest.raises(TransientError) as raised:
            await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_scripts_that_were_flushed_are_waited_for_too(server, replica, primary, name, scheme):
    async with connect(f"{scheme}://{server.address}?wait_replicas=1") as backend:
        for id in "ab":
            await primary.script_flush()
            assert (await DelayedQueue(backend, name).schedule(1, delay=60, job_id=id)).created
    async with Redis(port=replica.port) as other:
        assert await other.zcard(CHASQUIMQ.keys_of(name).delayed) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_missing_replica_is_told_as_such_when_scripts_were_flushed(server, replica, primary, name, scheme):
    async with connect(f"{scheme}://{server.address}?wait_replicas=2&command_timeout_ms=2000") as backend:
        await primary.script_flush()
        with pytest.raises(TransientError) as raised:
            await DelayedQueue(backend, name).schedule(1, delay=60, job_id="a")
        assert raised.value.code == "NOREPLICAS"
