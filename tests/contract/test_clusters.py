"""The kit on clusters, with both clients: what is about waiting jobs and their ids."""

from __future__ import annotations

import pytest
from redis.asyncio.cluster import RedisCluster

from promoter_core import connect
from promoter_core.testing.conformance.changes import ChangesContract
from promoter_core.testing.conformance.kept_ids import KeptIdsContract
from promoter_core.testing.conformance.management import ManagementContract
from promoter_core.testing.conformance.overdue import OverdueContract
from promoter_core.testing.conformance.paging import PagingContract
from promoter_core.testing.conformance.races import RacesContract
from promoter_core.testing.conformance.replacing import ReplacingContract
from promoter_core.testing.conformance.running_now import RunningNowContract
from tests.contract.stores import ServerFixtures
from tests.servers import find
from tests.topologies import Cluster

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed"),
]


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.stop()


class OnACluster(
    ServerFixtures,
    ManagementContract,
    PagingContract,
    ChangesContract,
    RunningNowContract,
    ReplacingContract,
    RacesContract,
    KeptIdsContract,
    OverdueContract,
):
    matrix_server = "valkey-9.1"
    scheme: str

    @pytest.fixture
    async def backend(self, cluster):
        async with connect(cluster.urls(self.scheme)) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, cluster):
        async with connect(cluster.urls(self.scheme)) as second:
            yield backend, second

    @pytest.fixture
    async def client(self, cluster):
        async with RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
            yield client


class TestRedisPyCluster(OnACluster):
    matrix_backend = "redis+cluster"
    scheme = "redis+cluster"


class TestGlideCluster(OnACluster):
    matrix_backend = "glide+cluster"
    scheme = "glide+cluster"
