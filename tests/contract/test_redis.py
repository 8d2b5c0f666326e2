"""The kit on redis-py: against every server, against fakeredis, and against an embedded server."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from fakeredis import FakeAsyncRedis as FakeRedis
from redis.asyncio import Redis

from promoter_core import Registry, connect
from promoter_core.testing.conformance import BackendContract
from tests.contract.stores import ServerFixtures
from tests.servers import free_port

pytestmark = pytest.mark.server

FAKE_CLOCKS = (
    "_socket._base",
    "commands_mixins.server_mixin",
    "model._stream",
    "_helpers",
)  # modules that tell the time


class TestRedisPy(ServerFixtures, BackendContract):
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
    async def client(self, any_server):
        async with Redis.from_url(any_server.url) as client:
            yield client

    @pytest.fixture
    def unreachable(self):
        return Registry().backend(f"redis://127.0.0.1:{free_port()}")


class TestFake(ServerFixtures, BackendContract):
    matrix_backend = "fakeredis"

    @pytest.fixture
    def url(self, request):
        return f"fake://{id(request)}"

    @pytest.fixture
    async def backend(self, url):
        async with connect(url) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, url):
        async with connect(url) as second:
            yield backend, second

    @pytest.fixture
    def set_time(self, monkeypatch):
        async def set_time(ms):
            stopped = SimpleNamespace(**vars(time) | {"time": lambda: ms / 1000})
            for module in FAKE_CLOCKS:
                monkeypatch.setattr(f"fakeredis.{module}.time", stopped)

        return set_time

    @pytest.fixture
    async def client(self, backend):
        async with FakeRedis(server=backend._driver.server) as client:
            yield client


@pytest.mark.whole_matrix
class TestEmbedded(ServerFixtures, BackendContract):
    """A server that one process has to itself: there is no second backend on it."""

    matrix_backend = "embedded"

    @pytest.fixture
    async def backend(self):
        async with connect("embedded://") as backend:
            yield backend

    @pytest.fixture
    async def client(self, backend):
        async with Redis(unix_socket_path=str(backend._driver._home / "s")) as client:
            yield client
