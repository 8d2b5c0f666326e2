"""A queue that both have, on each server and with each client of ours."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, connect
from tests.conftest import start_or_skip


@pytest.fixture(scope="module", params=[("valkey-9.1", "redis"), ("redis-8.2", "glide")], ids="-".join)
def pair(request):
    """A server, and the client that ours is on."""
    name, scheme = request.param
    if scheme == "glide":
        pytest.importorskip("glide")
    for server in start_or_skip(name):
        yield server, scheme


@pytest.fixture
def server(pair):
    return pair[0]


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
async def backend(pair):
    server, scheme = pair
    async with connect(f"{scheme}://{server.address}") as backend:
        yield backend


@pytest.fixture
def queue(backend, name):
    return DelayedQueue(backend, name)


@pytest.fixture
async def theirs(server, name):
    chasquimq = pytest.importorskip("chasquimq")
    async with chasquimq.Queue(name, redis_url=server.url) as queue:
        yield queue
