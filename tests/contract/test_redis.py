"""The kit on redis-py: against every server, against fakeredis, and against an embedded server."""

from __future__ import annotations

from functools import partial

import pytest
from fakeredis import FakeAsyncRedis as FakeRedis
from redis.asyncio import Redis

from promoter_core import Registry, connect
from promoter_core.testing.conformance.by_url import BackendContract
from tests.leap import leap
from tests.servers import free_port

pytestmark = pytest.mark.server


class TestRedisPy(BackendContract):
    matrix_backend = "redis-py"

    @pytest.fixture
    async def backend(self, any_server):
        async with connect(any_server.url) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, any_server):
        async with connect(any_server.url) as second:
            yield backend, second

    @pytest.fixture
    async def leap(self, any_server):
        async with Redis.from_url(any_server.url) as client:
            yield partial(leap, client)

    @pytest.fixture
    def unreachable(self):
        return Registry().backend(f"redis://127.0.0.1:{free_port()}")


class TestFake(BackendContract):
    matrix_backend = "fakeredis"

    @pytest.fixture
    def url(self, request):
        return f"fake://{id(request)}"

    @pytest.fixture
    async def backend(self, url):
        async with connect(url) as backend:
            yield backend

    @pytest.fixture
    async def leap(self, backend):
        async with FakeRedis(server=backend._driver.server) as client:
            yield partial(leap, client)

    @pytest.fixture
    async def pair(self, backend, url):
        async with connect(url) as second:
            yield backend, second
