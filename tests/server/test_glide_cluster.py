"""GLIDE and a cluster that goes wrong: all of it is away, a node falls silent, the node that announces to us dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import msgpack
import pytest

from promoter_core import DelayedQueue, Promoter, PromoterSettings, TransientError
from promoter_core.spi import CHASQUIMQ, StreamName, Wake
from promoter_core.testing import RecordingEvents
from tests.server.bench import connected, until
from tests.servers import find
from tests.topologies import Cluster, raw
from tests.typed import present

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed"),
    pytest.mark.timeout(240),
]


@pytest.fixture
async def cluster():
    cluster = await asyncio.to_thread(lambda: Cluster(replicas=True))
    yield cluster
    for server in cluster.servers:
        with contextlib.suppress(ProcessLookupError):
            present(server.process).send_signal(signal.SIGCONT)
    await asyncio.to_thread(cluster.stop)


def queue_on(cluster, node):
    return next(n for n in (f"q{node}-{i}" for i in range(999)) if cluster.owner(CHASQUIMQ.keys_of(n).lock) == node)


async def schedule(backend, queue, job_id):
    """Until it is acknowledged: safe to repeat, the job has an id."""

    async def scheduled():
        with contextlib.suppress(TransientError):
            return await DelayedQueue(backend, queue).schedule(1, delay=0.05, job_id=job_id)

    await until(scheduled, 40)


async def arrived(backend, queue):
    return [msgpack.unpackb(e.fields["d"])[0] for e in await backend.read(queue, StreamName.JOBS, "", 1_000)]


@contextlib.asynccontextmanager
async def promoting(backend, queues, events, **settings):
    promoters = [Promoter(backend, q, PromoterSettings(**settings), events=[events]) for q in queues]
    tasks = [asyncio.create_task(p.run()) for p in promoters]
    try:
        await until(lambda: all(p.health()[0].leads for p in promoters))
        yield promoters
    finally:
        for p in promoters:
            p.stop()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("fault", ["the whole cluster is away", "a node falls silent"])
async def test_every_queue_is_promoted_again_once_the_cluster_is_back(cluster, fault):
    queues = [queue_on(cluster, node) for node in range(3)]
    events = RecordingEvents()
    async with connected(cluster.urls("glide+cluster") + "?command_timeout_ms=500") as backend:
        async with promoting(backend, queues, events, lock_ttl_ms=1_000) as promoters:
            for q in queues:
                await schedule(backend, q, f"{q}-before")
            if fault == "a node falls silent":
                cluster.servers[0].kill(signal.SIGSTOP)
            else:
                for server in cluster.servers:
                    server.kill(signal.SIGKILL)
                await until(lambda: all(p.health()[0].last_error for p in promoters), 30)
                await asyncio.sleep(2)
                for server in cluster.servers:
                    await asyncio.to_thread(server.start)
            began = time.monotonic()
            for q in queues:
                await schedule(backend, q, f"{q}-after")
            await until(lambda: {f"{q}-after" for q in queues} <= set(events.ids), 40)
            print(f"{fault}: all queues are promoted again after {time.monotonic() - began:.1f} s")
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED, 20)
            await until(lambda: all(p.health()[0].leads and not p.health()[0].last_error for p in promoters), 20)
        for q in queues:
            ids = await arrived(backend, q)
            assert len(ids) == len(set(ids))


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
async def test_announcements_are_heard_again_after_the_node_that_we_listen_to_has_gone(cluster, sign):
    events, woken_only = RecordingEvents(), {"lock_ttl_ms": 60_000, "poll_interval_ms": 3_600_000}
    queues = [queue_on(cluster, node) for node in range(3)]
    async with connected(cluster.urls("glide+cluster") + "?command_timeout_ms=500") as backend:
        async with promoting(backend, queues, events, **woken_only):
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED)
            (node,) = [i for i, c in enumerate(cluster.clients) if raw(c, "PUBSUB", "NUMPAT")]
            cluster.servers[node].kill(sign)
            await asyncio.sleep(5)  # more than a probe takes
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED, 40)
            elsewhere = queues[(node + 1) % 3]
            await schedule(backend, elsewhere, "after")
            await until(lambda: "after" in events.ids)
