"""Clusters that lose nodes, slots, seeds or all of it, and come back: real servers, killed and started again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

import pytest

from promoter_core import DelayedQueue, Job, Promoter, PromoterFleet, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ, FleetSupport, StreamName, Wake
from promoter_core.testing import RecordingEvents
from tests.server.bench import member, until
from tests.servers import find
from tests.topologies import a_cluster
from tests.topologies import until as until_sync
from tests.typed import untyped

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed"),
]

PARTIAL = {"cluster_require_full_coverage": "no"}
SETTINGS = PromoterSettings(lock_ttl_ms=1_000)
MORE_THAN_A_LEASE_S = 1.2 * SETTINGS.lock_ttl_ms / 1000
both_clients = pytest.mark.parametrize("scheme", ["redis+cluster", "glide+cluster"])


def queue_on(cluster, node, prefix="q"):
    names = (f"{prefix}-{i}" for i in range(999))
    return next(name for name in names if cluster.owner(CHASQUIMQ.keys_of(name).lock) == node)


def queues_on_all(cluster, prefix="q", each=2):
    """`each` queues on each node, by node."""
    found: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for i in range(999):
        name = f"{prefix}-{i}"
        found[cluster.owner(CHASQUIMQ.keys_of(name).lock)].append(name)
    return {node: names[:each] for node, names in found.items()}


async def surely(queue, delay, job_id):
    """Schedule a job, again as long as the cluster is in trouble."""
    while True:
        try:
            return await queue.schedule(1, delay=delay, job_id=job_id)
        except TransientError:
            await asyncio.sleep(0.1)


async def arrived(backend, queue):
    return Counter(entry.fields["d"] for entry in await backend.read(queue, StreamName.JOBS, "", 10_000))


async def led(promoter):
    await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 30)


@both_clients
@pytest.mark.parametrize("name", ["valkey-9.1", "redis-7.0"])
async def test_the_whole_cluster_is_away_and_comes_back(scheme, name):
    if find(name) is None:
        pytest.skip(f"{name} is not installed")
    events = RecordingEvents()
    async with a_cluster(name=name) as cluster:
        queue = queue_on(cluster, 1)
        async with connect(cluster.urls(scheme, 0)) as backend:
            jobs = DelayedQueue(backend, queue)
            await jobs.schedule_many([Job(data=i, delay=1 + i / 20, job_id=f"j{i}") for i in range(100)])
            async with Promoter(backend, queue, SETTINGS, events=[events]).running() as p:
                await until(lambda: len(events.ids) > 5)
                for _ in range(2):
                    await asyncio.to_thread(cluster.kill)
                    await until(lambda: p.health()[0].last_error is not None)
                    await asyncio.sleep(MORE_THAN_A_LEASE_S)  # and two seconds that a node takes to serve again
                    await asyncio.to_thread(cluster.restart)
                    began = time.monotonic()
                    await led(p)
                    print(f"leads again {time.monotonic() - began:.2f} s after the nodes answer")
                await surely(jobs, 0.1, "after")

                async def all_are_there():
                    try:
                        return len(await arrived(backend, queue)) == 101
                    except TransientError:
                        return False

                await until(all_are_there, 30)
            assert set((await arrived(backend, queue)).values()) == {1}


@both_clients
async def test_slots_that_nobody_serves_concern_their_queues_alone(scheme):
    async with a_cluster(**PARTIAL) as cluster:
        lost, others = queue_on(cluster, 0), [queue_on(cluster, 1), queue_on(cluster, 2)]
        await asyncio.to_thread(cluster.give_up, 0)
        events = RecordingEvents()
        async with connect(cluster.urls(scheme)) as backend:
            promoters = [Promoter(backend, q, SETTINGS, events=[events]) for q in (lost, *others)]
            tasks = [asyncio.create_task(p.run()) for p in promoters]
            for q in others:
                await surely(DelayedQueue(backend, q), 0.1, q)
            await until(lambda: sorted(map(str, events.ids)) == sorted(others), 20)
            await until(lambda: promoters[0].health()[0].last_error is not None, 20)
            assert not any(task.done() for task in tasks)
            await asyncio.to_thread(cluster.take_back, 0)
            await surely(DelayedQueue(backend, lost), 0.1, lost)
            await until(lambda: lost in events.ids, 20)
            for p in promoters:
                p.stop()
            await asyncio.gather(*tasks)


@both_clients
async def test_the_only_seed_dies_while_the_rest_is_well(scheme):
    async with a_cluster(**PARTIAL) as cluster:
        lost, well = queue_on(cluster, 0), queue_on(cluster, 2)
        events = RecordingEvents()
        async with connect(cluster.urls(scheme, 0)) as backend:
            promoters = [Promoter(backend, q, SETTINGS, events=[events]) for q in (lost, well)]
            tasks = [asyncio.create_task(p.run()) for p in promoters]
            for p in promoters:
                await led(p)
            await asyncio.to_thread(cluster.kill, 0)
            await until(lambda: promoters[0].health()[0].last_error is not None)
            for i in range(5):
                await surely(DelayedQueue(backend, well), 0.1, f"{well}-{i}")
                await asyncio.sleep(0.3)
            await until(lambda: len(events.ids) == 5)
            assert not any(task.done() for task in tasks)
            await asyncio.to_thread(cluster.restart, 0)
            await surely(DelayedQueue(backend, lost), 0.1, lost)
            await until(lambda: lost in events.ids, 20)
            for p in promoters:
                p.stop()
            await asyncio.gather(*tasks)


@both_clients
async def test_all_seeds_die_and_their_replicas_are_found_through_the_others(scheme):
    async with a_cluster(replicas=True) as cluster:
        queues = [queue_on(cluster, node) for node in range(3)]
        events = RecordingEvents()
        async with connect(cluster.urls(scheme, 0, 1)) as backend:
            promoters = [Promoter(backend, q, SETTINGS, events=[events]) for q in queues]
            tasks = [asyncio.create_task(p.run()) for p in promoters]
            for p in promoters:
                await led(p)
            for node in range(2):  # one at a time, or there is no majority to promote a replica
                await asyncio.to_thread(cluster.kill, node)
                await asyncio.to_thread(until_sync, lambda node=node: cluster.promoted(3 + node))
                await led(promoters[node])
            for q in queues:
                await surely(DelayedQueue(backend, q), 0.1, q)
            await until(lambda: sorted(map(str, events.ids)) == sorted(queues), 30)
            for p in promoters:
                p.stop()
            await asyncio.gather(*tasks)


@both_clients
async def test_nodes_that_take_no_more_connections_are_waited_for(scheme):
    async with a_cluster() as cluster:
        queue, events = queue_on(cluster, 1), RecordingEvents()
        async with connect(cluster.urls(scheme)) as backend:
            promoter = Promoter(backend, queue, SETTINGS, events=[events])
            async with promoter.running():
                await led(promoter)
                for client in cluster.clients:
                    client.config_set("maxclients", 1)  # those of the cluster bus count, too
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await until(lambda: promoter.health()[0].last_error is not None)
                await asyncio.sleep(1)
                for client in cluster.clients:
                    client.config_set("maxclients", 1_000)
                await surely(DelayedQueue(backend, queue), 0.1, "a")
                await until(lambda: events.ids == ["a"], 30)
                await led(promoter)


async def names(backend, prefix):
    found = set()
    async for page in untyped(backend).find_queues([f"{prefix}*"]):
        found.update(page)
    return found


@both_clients
async def test_queues_are_found_after_a_fail_over_that_no_other_call_has_met(scheme):
    async with a_cluster(replicas=True) as cluster, connect(cluster.urls(scheme)) as backend:
        queues = {queue_on(cluster, node, "f") for node in range(3)}
        for q in queues:
            await DelayedQueue(backend, q).schedule(1, delay=600, job_id=q)
        assert await names(backend, "f-") == queues
        await asyncio.to_thread(cluster.kill, 0)
        await asyncio.to_thread(until_sync, lambda: cluster.promoted(3))

        async def found():
            try:
                return await names(backend, "f-") == queues
            except TransientError:
                return False

        await until(found, 20)


async def test_a_scan_gives_what_the_living_nodes_have_before_it_raises():
    async with a_cluster(**PARTIAL) as cluster, connect(cluster.urls("redis+cluster")) as backend:
        queues = [queue_on(cluster, node, "f") for node in range(3)]
        for q in queues:
            await DelayedQueue(backend, q).schedule(1, delay=600, job_id=q)
        for dead in range(3):
            await asyncio.to_thread(cluster.kill, dead)
            found: set[str] = set()

            async def scan(found=found):
                async for page in untyped(backend).find_queues(["f-*"]):
                    found.update(page)

            with pytest.raises(TransientError):
                await scan()
            assert found == set(queues) - {queues[dead]}
            await asyncio.to_thread(cluster.restart, dead)


async def test_announcements_are_heard_after_the_death_of_the_node_that_they_came_from():
    async with a_cluster(**PARTIAL) as cluster, connect(cluster.urls("redis+cluster")) as backend:
        queues = {s.port: queue_on(cluster, i) for i, s in enumerate(cluster.servers)}
        assert isinstance(backend, FleetSupport)
        feed = await backend.subscribe()
        for _ in range(3):
            subscribed = [i for i, c in enumerate(cluster.clients) if c.pubsub_numpat()]
            assert len(subscribed) == 1, "one node is enough: the cluster passes announcements on to all"
            (heard,) = subscribed
            await asyncio.to_thread(cluster.kill, heard)
            other = queues[cluster.servers[(heard + 1) % 3].port]
            heard_of: set[str] = set()

            async def told(other=other, heard_of=heard_of):
                await backend.announce([other])
                heard_of |= (await feed.next(0.1)).jobs
                return other in heard_of

            await until(told, 15)
            await asyncio.to_thread(cluster.restart, heard)


async def drains(backend, events, queues, tag):
    """Jobs scheduled now on these queues are promoted."""
    for q in queues:
        await surely(DelayedQueue(backend, q), 0.1, f"{q}/{tag}")
    wanted = {f"{q}/{tag}" for q in queues}
    await until(lambda: wanted <= set(events.ids), 30)


async def test_a_fleet_outlives_each_node_and_the_whole_cluster():
    async with a_cluster(**PARTIAL) as cluster:
        by_node = queues_on_all(cluster, "fl", 3)
        queues = [q for names in by_node.values() for q in names]
        events = RecordingEvents()
        async with connect(cluster.urls("redis+cluster", 0)) as backend:
            fleet = PromoterFleet(backend, queues, SETTINGS, events=[events])
            async with fleet.running():
                await drains(backend, events, queues, "before")
                for node in range(3):
                    await asyncio.to_thread(cluster.kill, node)
                    living = [q for n, names in by_node.items() if n != node for q in names]
                    await drains(backend, events, living, f"without-{node}")
                    await asyncio.to_thread(cluster.restart, node)
                    await drains(backend, events, queues, f"with-{node}")
                await asyncio.to_thread(cluster.kill)
                await asyncio.sleep(MORE_THAN_A_LEASE_S)
                await asyncio.to_thread(cluster.restart)
                await drains(backend, events, queues, "after")
                await until(lambda: all(h.leads and h.last_error is None for h in fleet.health()), 30)
            for q in queues:
                assert set((await arrived(backend, q)).values()) == {1}


@both_clients
async def test_a_fleet_follows_a_fail_over(scheme):
    async with a_cluster(replicas=True) as cluster:
        queues = [q for names in queues_on_all(cluster, "fo", 3).values() for q in names]
        events = RecordingEvents()
        async with connect(cluster.urls(scheme, 0)) as backend:
            settings = SETTINGS
            async with PromoterFleet(backend, ["fo-*"], settings, events=[events]).running() as fleet:
                await drains(backend, events, queues, "before")
                await asyncio.to_thread(cluster.kill, 0)
                await drains(backend, events, queues, "after")
                await until(lambda: all(h.leads and h.last_error is None for h in fleet.health()), 30)
                late = queue_on(cluster, 0, "fo-late")
                await drains(backend, events, [late], "found")


async def test_a_fleet_begins_with_the_queues_of_the_nodes_that_there_are():
    async with a_cluster(**PARTIAL) as cluster:
        by_node = queues_on_all(cluster, "be", 3)
        queues = [q for names in by_node.values() for q in names]
        events = RecordingEvents()
        async with connect(cluster.urls("redis+cluster")) as backend:
            for q in queues:
                await DelayedQueue(backend, q).schedule(1, delay=0.1, job_id=q)
            await asyncio.to_thread(cluster.kill, 0)
            settings = SETTINGS
            fleet = PromoterFleet(backend, ["be-*"], settings, events=[events], discover_s=1, spread=False)
            async with fleet.running():
                await until(lambda: set(events.ids) == {*by_node[1], *by_node[2]}, 20)
                await asyncio.to_thread(cluster.restart, 0)
                await until(lambda: set(events.ids) == set(queues), 20)


async def test_a_node_that_hangs_costs_a_fleet_one_time_out_and_not_one_a_step():
    async with a_cluster(cluster_require_full_coverage="no", cluster_node_timeout="60000") as cluster:
        by_node = queues_on_all(cluster, "h", 20)
        living = by_node[1] + by_node[2]
        events = RecordingEvents()
        async with connect(cluster.urls("redis+cluster") + "?command_timeout_ms=1000") as backend:
            settings = PromoterSettings(lock_ttl_ms=3_000)
            fleet = PromoterFleet(backend, living + by_node[0], settings=settings, spread=False, events=[events])
            async with fleet.running():
                await until(lambda: [h.leads for h in fleet.health()] == [True] * len(living + by_node[0]))
                cluster.servers[0].kill(signal.SIGSTOP)
                await asyncio.sleep(5)  # the time-out of the first call, and some renewals
                for n in range(5):
                    began_s = time.monotonic()
                    await drains(backend, events, living, f"hung-{n}")
                    assert time.monotonic() - began_s < 5, "forty queues in turn, each of which waits for the hung node"
                assert backend.capabilities.wake is Wake.POLL
                assert [h.queue for h in fleet.health() if h.leads and h.queue in living] == sorted(living)
                cluster.servers[0].kill(signal.SIGCONT)
                await drains(backend, events, by_node[0], "awake")
                await until(lambda: all(h.leads and h.last_error is None for h in fleet.health()), 30)
                await until(lambda: untyped(backend).capabilities.wake is Wake.ANY_WRITE, 20)


async def test_wake_says_what_holds_on_every_node_that_is_in_use():
    """Plain ZADDs, which announce nothing, and an hour between polls: only tracking can wake the promoters."""
    async with a_cluster(**PARTIAL) as cluster:
        queues = [queue_on(cluster, node) for node in range(3)]
        events = RecordingEvents()
        async with connect(cluster.urls("redis+cluster")) as backend:
            settings = PromoterSettings(poll_interval_ms=3_600_000, lock_ttl_ms=2_000)
            promoters = [Promoter(backend, q, settings, events=[events]) for q in queues]
            tasks = [asyncio.create_task(p.run()) for p in promoters]
            for p in promoters:
                await led(p)
            assert backend.capabilities.wake is Wake.ANY_WRITE
            for node in range(3):
                await asyncio.to_thread(cluster.kill, node)
                await until(lambda: untyped(backend).capabilities.wake is Wake.POLL, 10)
                await asyncio.to_thread(cluster.restart, node)
                await led(promoters[node])
                await until(lambda: untyped(backend).capabilities.wake is Wake.ANY_WRITE, 10)
                for q, client in zip(queues, cluster.clients, strict=True):
                    s, us = client.time()
                    client.zadd(CHASQUIMQ.keys_of(q).delayed, {member(f"{q}/{node}"): s * 1000 + us // 1000 + 300})
                wanted = {f"{q}/{node}" for q in queues}
                await until(lambda wanted=wanted: wanted <= set(events.ids), 20)
            for p in promoters:
                p.stop()
            await asyncio.gather(*tasks)
