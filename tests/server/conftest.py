"""A queue of the test's own on the server that most tests use."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, connect
from promoter_core.spi import CHASQUIMQ


@pytest.fixture
def name():
    return f"q-{ULID()}"


@pytest.fixture
def keys(name):
    return CHASQUIMQ.keys_of(name)


@pytest.fixture
async def client(valkey):
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
async def backend(valkey):
    async with connect(valkey.url) as backend:
        yield backend


@pytest.fixture
def queue(backend, name):
    return DelayedQueue(backend, name)
