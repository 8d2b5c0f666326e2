"""Clusters: queues on every node, a slot that moves while its queue drains, a primary that is failed over."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import (
    CHASQUIMQ,
    JobRequest,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StreamName,
    pack_envelope,
)
from promoter_core.testing import RecordingEvents, RecordingMetrics
from tests.server.bench import until
from tests.servers import find
from tests.topologies import Cluster, a_cluster
from tests.typed import untyped

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed"),
    pytest.mark.parametrize("scheme", ["redis+cluster", "glide+cluster"]),
]


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.stop()


def queue_on(cluster, node, prefix):
    names = (f"{prefix}-{i}" for i in range(999))
    return next(name for name in names if cluster.owner(CHASQUIMQ.keys_of(name).lock) == node)


async def once_it_answers(call):
    while True:
        try:
            return await call()
        except TransientError:
            await asyncio.sleep(0.05)


async def arrived(backend, queue):
    return [e.fields["d"] for e in await backend.read(queue, StreamName.JOBS, "", 10_000)]


async def test_one_process_serves_queues_on_every_node(cluster, scheme):
    queues = [queue_on(cluster, node, scheme) for node in range(3)]
    settings = PromoterSettings(poll_interval_ms=3_600_000, lock_ttl_ms=600_000)
    events = RecordingEvents()
    async with connect(cluster.urls(scheme)) as backend:
        promoters = [Promoter(backend, q, settings, events=[events]) for q in queues]
        tasks = [asyncio.create_task(p.run()) for p in promoters]
        await until(lambda: all((p.health()[0].last_tick_age_s or 0) > 0.3 for p in promoters))
        for q in queues:
            await DelayedQueue(backend, q).schedule(1, delay=0.1, job_id=q)
        await until(lambda: sorted(map(str, events.ids)) == sorted(queues))
        for p in promoters:
            p.stop()
        await asyncio.gather(*tasks)


async def test_a_slot_is_migrated_while_its_queue_drains(cluster, scheme):
    queue = f"moving-{scheme}"
    k = CHASQUIMQ.keys_of(queue)
    slot, source = cluster.slot(k.lock), cluster.owner(k.lock)
    target = (source + 1) % 3
    metrics = RecordingMetrics()
    async with connect(cluster.urls(scheme, target)) as backend:
        jobs = DelayedQueue(backend, queue)
        await jobs.schedule_many([Job(data=i, delay=0.2 + i / 250, job_id=f"j{i}") for i in range(500)])
        settings = PromoterSettings(promote_batch=4, lock_ttl_ms=1_000)
        async with Promoter(backend, queue, settings, metrics=[metrics]).running() as promoter:
            await until(lambda: metrics.promoted > 50)
            await asyncio.to_thread(cluster.begin_migration, slot, source, target)
            await asyncio.to_thread(cluster.move_keys, slot, source, target, 3)
            await asyncio.sleep(0.5)  # half-way: the queue may pause
            while await asyncio.to_thread(cluster.move_keys, slot, source, target):
                pass
            await asyncio.to_thread(cluster.end_migration, slot, source, target)
            await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 20)

            async def drained():
                return (await backend.stats(queue)).depth == 0

            await until(drained, 20)
            await jobs.schedule(1, delay=0.05, job_id="after")
            await until(drained, 10)
        there = await arrived(backend, queue)
        assert len(there) == len(set(there)) == 501
    cluster.begin_migration(slot, target, source)  # and back, for the next test
    while cluster.move_keys(slot, target, source):
        pass
    cluster.end_migration(slot, target, source)


def a_request(id, **more):
    return JobRequest(id, pack_envelope(id, b"\xc0", 0, 0), delay_ms=600_000, unique=True, **more)


def changes_of(*ids):
    for id in ids:
        request = a_request(id, keep_id_ms=6)
        yield from (Reschedule(job=id, delay_ms=1), Remove(job=id), Replace(request=request))
        yield from (Replace(request=request, keep_data=True), RunNow(job=id), RunNow(job=id, max_stream_len=0))


def writes(cluster):
    """How often each node's data has changed."""
    return [client.info("persistence")["rdb_changes_since_last_save"] for client in cluster.clients]


@pytest.mark.parametrize("name", ["valkey-9.1", "redis-7.0"])
async def test_what_is_refused_while_a_slot_moves_has_changed_nothing(scheme, name):
    """Some of a queue's keys are here and some there; those that a script makes of ids can be anywhere."""
    if find(name) is None:
        pytest.skip(f"{name} is not installed")
    async with a_cluster(name=name) as cluster, connect(cluster.urls(scheme)) as backend:
        queue = "moving"
        jobs, k = DelayedQueue(backend, queue), CHASQUIMQ.keys_of(queue)
        slot, source = cluster.slot(k.lock), cluster.owner(k.lock)
        target = (source + 1) % 3
        await jobs.schedule_many([Job(data=i, delay=600, job_id=f"j{i}") for i in range(6)])
        await backend.schedule(queue, [a_request("kept", keep_id_ms=5)])
        cluster.begin_migration(slot, source, target)
        client = cluster.clients[source]
        for key in (k.marker + b"j1", k.index + b"j2"):
            client.execute_command("MIGRATE", "127.0.0.1", cluster.servers[target].port, key, 0, 5000)
        calls = [
            lambda: jobs.schedule(1, delay=600, job_id="new"),
            lambda: jobs.schedule(1, delay=600, job_id="j1"),
            lambda: jobs.schedule(1, delay=600),
            lambda: jobs.schedule(1, delay=600, traceparent=f"00-{'a' * 32}-{'b' * 16}-01", index=False),
            lambda: jobs.cancel("j0"),
            lambda: jobs.cancel("j1"),
            lambda: jobs.cancel("j2"),
            *(
                lambda change=change: untyped(backend).change_jobs(queue, [change])
                for change in changes_of("j0", "j1", "j2", "kept")
            ),
        ]
        scores = client.zrange(k.delayed, 0, -1, withscores=True)
        changes = writes(cluster)
        # at once: one of the clients tries each of them again until its time is up
        answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        assert {type(answer) for answer in answers} == {TransientError}
        assert writes(cluster) == changes
        assert client.zrange(k.delayed, 0, -1, withscores=True) == scores
        assert client.get(k.index + b"j0") in dict(scores)
        assert client.pttl(k.marker + b"j0") > 3_600_000
        while await asyncio.to_thread(cluster.move_keys, slot, source, target):
            pass
        cluster.end_migration(slot, source, target)

        for job in ("j0", "j1", "j2", "kept"):
            assert await once_it_answers(lambda job=job: jobs.cancel(job)) == "removed"
        assert (await jobs.schedule(1, delay=600, job_id="j1")).created, "its id is free again"
        assert (await jobs.stats()).depth == 4


async def test_a_primary_is_failed_over(scheme):
    cluster = await asyncio.to_thread(lambda: Cluster(replicas=True))
    try:
        queue, metrics = "failing", RecordingMetrics()
        node = cluster.owner(CHASQUIMQ.keys_of(queue).lock)
        url = cluster.urls(scheme, node) + ("?wait_replicas=1" if scheme.startswith("redis") else "")
        async with connect(url) as backend:
            jobs = DelayedQueue(backend, queue)
            await jobs.schedule_many([Job(data=i, delay=0.1, job_id=f"before-{i}") for i in range(30)])
            await jobs.schedule_many([Job(data=i, delay=4, job_id=f"across-{i}") for i in range(30)])
            settings = PromoterSettings(lock_ttl_ms=1_000)
            async with Promoter(backend, queue, settings, metrics=[metrics]).running() as promoter:
                await until(lambda: metrics.promoted >= 30)
                await asyncio.sleep(0.5)
                cluster.servers[node].kill()
                # a client may ride it out without an error that we see, when the replica is quick
                await until(lambda: metrics.promoted == 60, 60)
                await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 30)
            there = await arrived(backend, queue)
            assert len(there) == len(set(there)) == 60
    finally:
        await asyncio.to_thread(cluster.stop)


async def test_a_layout_delivers_on_every_node(cluster, scheme):
    url = cluster.urls(scheme)
    async with connect(url, layout="list") as lists, connect(url, layout="stream:key=jobs:{{queue}}") as streams:
        for node in range(3):
            name = queue_on(cluster, node, f"layout-{scheme}")
            for backend in (lists, streams):
                queue = DelayedQueue(backend, name)
                async with Promoter(backend, name).running():
                    await queue.schedule(b"x", delay=0.05)

                    async def delivered(queue=queue):
                        return (await queue.stats()).stream_len == 1

                    await until(delivered)
    with pytest.raises(ConfigError, match="in a cluster the target 'tasks' must be in the slot of the queue's keys"):
        async with connect(url, layout="list:key=tasks"):
            pass
