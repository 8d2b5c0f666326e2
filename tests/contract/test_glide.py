"""The kit on Valkey GLIDE, against every server."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from promoter_core import Registry, connect
from promoter_core.testing.conformance import BackendContract
from tests.contract.stores import ServerFixtures
from tests.servers import free_port

pytest.importorskip("glide")
pytestmark = [pytest.mark.server, pytest.mark.newest_server]  # redis-py's kit runs on the oldest


class TestGlide(ServerFixtures, BackendContract):
    matrix_backend = "glide"

    @pytest.fixture
    async def backend(self, any_server):
        async with connect(f"glide://{any_server.address}") as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, any_server):
        async with connect(f"glide://{any_server.address}") as second:
            yield backend, second

    @pytest.fixture
    async def client(self, any_server):
        async with Redis.from_url(any_server.url) as client:
            yield client

    @pytest.fixture
    def unreachable(self):
        return Registry().backend(f"glide://127.0.0.1:{free_port()}?command_timeout_ms=1000")
