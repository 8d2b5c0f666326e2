"""A layout in place in a cluster: all keys of a queue in one slot, or refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from promoter_core import ConfigError, PromoterFleet, connect
from tests.server.bench import promote, until
from tests.servers import find
from tests.topologies import Cluster

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed"),
]
QUEUES = [f"q{i}" for i in range(12)]


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("scheme", ["redis+cluster", "glide+cluster"])
async def test_queues_on_every_node_are_found_and_promoted(cluster, scheme):
    from redis.asyncio import RedisCluster

    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(RedisCluster.from_url(cluster.urls("redis", 0)))
        for queue in QUEUES:
            await client.zadd(f"{scheme}queues:{{{queue}}}:delayed", {"a": 1, "b": 9e9})
        layout = f"laravel:prefix={scheme},cluster=true"
        backend = await stack.enter_async_context(connect(cluster.urls(scheme), layout=layout))
        await stack.enter_async_context(PromoterFleet(backend, ["q*"]).running())

        async def all_moved():
            lists = await asyncio.gather(*(client.lrange(f"{scheme}queues:{{{q}}}", 0, -1) for q in QUEUES))
            return lists == [[b"a"]] * len(QUEUES)

        await until(all_moved, 20)
        assert (await backend.stats("q0")).depth == 1


async def test_what_lua_writes_is_in_the_slot_of_the_set(cluster):
    from redis.asyncio import RedisCluster

    task = dict.fromkeys(("key", "when", "function", "args", "kwargs", "attempt"), "a")
    async with RedisCluster.from_url(cluster.urls("redis", 0)) as client:
        for queue in QUEUES:
            await client.hset(f"{{{queue}}}:a", mapping=task)
            await client.hset(f"asynq:{{{queue}}}:t:a", mapping={"msg": "m"})
            await client.zadd(f"{{{queue}}}:queue", {"a": 1})
            await client.zadd(f"asynq:{{{queue}}}:scheduled", {"a": 1})
        for layout in ("docket:cluster=true", "asynq"):
            async with connect(cluster.urls("redis+cluster"), layout=layout) as backend:
                for queue in QUEUES:
                    assert (await promote(backend, queue)).promoted == 1
        for queue in QUEUES:
            assert await client.xlen(f"{{{queue}}}:stream") == 1
            assert await client.hget(f"{{{queue}}}:runs:a", "state") == b"queued"
            assert await client.lrange(f"asynq:{{{queue}}}:pending", 0, -1) == [b"a"]


@pytest.mark.parametrize("layout", ["sidekiq", "laravel", "rq", "docket", "saq", "huey", "streaq", "bee-queue"])
async def test_keys_in_different_slots_are_refused_in_one_sentence(layout):
    with pytest.raises(ConfigError, match="in a cluster the keys of .* must be in one slot"):
        async with connect("redis+cluster://localhost:1", layout=layout):
            pass
