"""Fleets on real servers: through both clients, in a cluster, by processes, and with the documented permissions."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, Job, PermanentError, PromoterFleet, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ, StreamName
from promoter_core.testing import RecordingEvents
from tests.proxy import proxy
from tests.server.bench import member, now_ms, until
from tests.server.test_cli import inspect, running
from tests.server.test_cli import until as until_sync
from tests.topologies import Cluster
from tests.typed import untyped

pytestmark = pytest.mark.server

SETTINGS = PromoterSettings(lock_ttl_ms=1_000)


@pytest.fixture
def prefix():
    return f"f-{ULID()}"


def url_of(server, scheme):
    return server.url.replace("redis://", f"{scheme}://")


async def surely(queue, job_id):
    """Schedule a job, again after a connection that was killed."""
    while True:
        with contextlib.suppress(TransientError):
            return await queue.schedule(1, delay=0.2, job_id=job_id)


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_a_fleet_promotes_all_jobs_of_all_queues(any_server, scheme, prefix):
    events = RecordingEvents()
    queues = [f"{prefix}-{i}" for i in range(40)]
    async with connect(url_of(any_server, scheme)) as backend:
        async with PromoterFleet(backend, [*queues[:20], f"{prefix}-*"], events=[events]).running() as fleet:
            for i, queue in enumerate(queues):
                jobs = [Job(data=n, delay=0.2 + (n * 7 + i) % 10 / 10, job_id=f"{queue}/{n}") for n in range(5)]
                await DelayedQueue(backend, queue).schedule_many(jobs)
            await until(lambda: len(events.jobs) == 200)
            assert len(set(events.ids)) == 200
            assert sum(h.leads for h in fleet.health()) == 40
        assert [(await backend.stats(q)).holder for q in queues] == [None] * 40


async def test_a_plain_zadd_wakes_a_fleet(valkey, client, prefix):
    events = RecordingEvents()
    queues = [f"{prefix}-{i}" for i in range(50)]
    template = PromoterSettings(poll_interval_ms=3_600_000)
    async with connect(valkey.url) as backend:
        async with PromoterFleet(backend, queues, settings=template, events=[events]).running() as fleet:
            await until(lambda: len([h for h in fleet.health() if h.last_tick_age_s is not None]) == 50)
            await asyncio.sleep(0.3)
            due = await now_ms(client) + 300
            for queue in queues:
                await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {member(queue): due})
            await until(lambda: len(events.jobs) == 50)
            late = sorted(job.promoted_ms - job.due_ms for job in events.jobs)
            assert late[0] >= 0
            assert late[25] < 1_000, "pushed; the next look without a push would come after 3.3 s"


async def test_flushed_scripts_and_lost_connections_are_survived(valkey, client, prefix):
    events = RecordingEvents()
    queues = [f"{prefix}-{i}" for i in range(20)]
    async with connect(valkey.url) as backend, connect(valkey.url) as producing:
        async with PromoterFleet(backend, queues, settings=SETTINGS, events=[events]).running():
            for round_ in range(6):
                for queue in queues:
                    await surely(DelayedQueue(producing, queue), f"{queue}-{round_}")
                if round_ % 2:
                    await client.script_flush()
                else:
                    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await until(lambda r=round_: len(events.jobs) == 20 * (r + 1))
    assert set(Counter(events.ids).values()) == {1}


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("scheme", ["redis+cluster", "glide+cluster"])
async def test_a_fleet_serves_all_nodes_of_a_cluster(cluster, scheme, prefix):
    events = RecordingEvents()
    queues = [f"{prefix}-{i}" for i in range(30)]
    assert {cluster.owner(CHASQUIMQ.keys_of(q).lock) for q in queues} == {0, 1, 2}
    async with connect(cluster.urls(scheme)) as backend:
        for queue in queues:
            await DelayedQueue(backend, queue).schedule(1, delay=1.0, job_id=f"{queue}-0")
        fleet = PromoterFleet(backend, [f"{prefix}-*"], SETTINGS, events=[events])
        async with fleet.running():
            await until(lambda: len(events.jobs) == 30)
            assert len(fleet.health()) == 30
            await asyncio.sleep(1.5)  # leases of a second are renewed, node by node
            assert all(h.leads and h.last_error is None for h in fleet.health())
            for queue in queues:
                await DelayedQueue(backend, queue).schedule(1, delay=0.1)
            await until(lambda: len(events.jobs) == 60)


def test_processes_share_the_queues_of_a_pattern(valkey, prefix):
    queues = [f"{prefix}-{i}" for i in range(30)]

    async def schedule():
        async with connect(valkey.url) as backend:
            for queue in queues:
                jobs = [Job(data=i, delay=0.5 + i * 0.5) for i in range(10)]
                await DelayedQueue(backend, queue).schedule_many(jobs)

    def holders():
        with SyncRedis.from_url(valkey.url, decode_responses=True) as client:
            return Counter(client.mget([CHASQUIMQ.keys_of(q).lock for q in queues]))

    arguments = ("--url", valkey.url, "--queue", f"{prefix}-*", "--lock-ttl-ms", "1000")
    with running(*arguments, "--holder-id", "a") as a, running(*arguments, "--holder-id", "b") as b:
        asyncio.run(schedule())
        until_sync(lambda: holders().keys() == {"a", "b"})
        a.send_signal(signal.SIGKILL)
        until_sync(lambda: holders().keys() == {"b"}, 5)
        with running(*arguments, "--holder-id", "c") as c:
            until_sync(lambda: holders().keys() == {"b", "c"})
            b.send_signal(signal.SIGTERM)
            assert b.wait(10) == 0
            until_sync(lambda: holders().keys() == {"c"}, 3)
            with SyncRedis.from_url(valkey.url) as client:
                until_sync(lambda: {client.xlen(CHASQUIMQ.keys_of(q).stream) for q in queues} == {10})
            c.send_signal(signal.SIGINT)
            assert c.wait(10) == 0


def test_several_queues_until_idle(valkey, prefix):
    async def schedule():
        async with connect(valkey.url) as backend:
            for i in range(3):
                await DelayedQueue(backend, f"{prefix}-{i}").schedule_many(
                    [Job(data=n, delay=0.001) for n in range(500)]
                )

    asyncio.run(schedule())
    queues = ("--queue", f"{prefix}-0", "--queue", f"{prefix}-[12]")
    with running("--url", valkey.url, *queues, "--until-idle") as process:
        assert process.wait(20) == 0
    assert [inspect(valkey.url, f"{prefix}-{i}")["stream_len"] for i in range(3)] == [500] * 3


async def test_the_documented_permissions_are_enough(any_server, prefix):
    text = (Path(__file__).parents[2] / "docs/reference/wire-format.md").read_text()
    (acl,) = re.findall(r"ACL SETUSER (promoter .*?)```", text, re.S)
    (more,) = re.findall(r"A fleet needs `([^`]*)`", text)
    events = RecordingEvents()
    async with Redis.from_url(any_server.url) as admin:
        words = [w for w in f"{acl} {more}".split() if any_server.name != "redis-7.0" or w != "+client|setinfo"]
        await admin.execute_command("ACL", "SETUSER", *words)
        await admin.execute_command("ACL", "LOG", "RESET")
        async with connect(f"redis://promoter:password@{any_server.address}/0") as backend:
            async with PromoterFleet(backend, [f"{prefix}-*"], events=[events], discover_s=0.3).running():
                await DelayedQueue(backend, f"{prefix}-a").schedule(1, delay=0.5)
                await until(lambda: len(events.jobs) == 1)
            assert len(await backend.read(f"{prefix}-a", StreamName.JOBS, "", 10)) == 1
        refused = [str(entry) for entry in await admin.execute_command("ACL", "LOG")]
        await admin.execute_command("ACL", "DELUSER", "promoter")
    assert [entry for entry in refused if "setinfo" not in entry] == []


async def test_without_a_permission_that_a_group_needs_a_fleet_ends_and_the_doctor_warns(any_server, prefix):
    text = (Path(__file__).parents[2] / "docs/reference/wire-format.md").read_text()
    (acl,) = re.findall(r"ACL SETUSER (promoter .*?)```", text, re.S)
    words = [w for w in f"{acl} +scan +psubscribe".split() if any_server.name != "redis-7.0" or w != "+client|setinfo"]
    async with Redis.from_url(any_server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", *words)
        async with connect(f"redis://promoter:password@{any_server.address}/0") as backend:
            refused = "NOPERM" if any_server.name == "redis-7.0" else "zremrangebyscore"  # that one does not say what
            with pytest.raises(PermanentError, match=refused):
                await asyncio.wait_for(PromoterFleet(backend, [prefix, f"{prefix}-2"]).run(), 10)
            (finding,) = [f for f in await untyped(backend).diagnose() if "several queues" in f.summary]
            assert (finding.severity, refused in finding.summary) == ("warning", True), finding
        await admin.execute_command("ACL", "DELUSER", "promoter")
        await admin.execute_command("ACL", "LOG", "RESET")


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_names_that_cannot_be_served_are_passed_over_with_one_warning_each(
    valkey, client, prefix, scheme, caplog
):
    raw = prefix.encode()
    names = [raw + b"-\xff\xfe", raw + b"-" + b"x" * 250, raw + b"-{a}", raw + b"-\x07"]
    for name in names:
        await client.zadd(b"{chasqui:" + name + b"}:delayed", {member("x"): 4e12})
    await client.set(b"{chasqui:" + raw + b"-no-queue}:stream", "x")
    await client.set(b"{chasqui:" + raw + b"-no-queue}:didx:promoter:lock", "x")
    async with connect(url_of(valkey, scheme)) as backend:
        fleet = PromoterFleet(backend, [f"{prefix}-*"], SETTINGS, discover_s=0.3)
        async with fleet.running():
            await DelayedQueue(backend, f"{prefix}-good").schedule(1, delay=60)
            for name in names:  # as a producer announces them
                key = b"{chasqui:" + name + b"}:"
                await client.publish(key + b"promoter:wake", key + b"delayed")
            await until(lambda: [h.queue for h in fleet.health()] == [f"{prefix}-good"])
            await asyncio.sleep(1.2)
            assert [h.queue for h in fleet.health()] == [f"{prefix}-good"]
        assert [key async for key in client.scan_iter(b"{chasqui:" + raw + b"-*}:promoter:lock")] == []
    said = [r.message for r in caplog.records if r.levelname == "WARNING" and prefix in r.message]
    assert len(said) == len(names), said


async def test_a_newcomer_far_away_takes_no_lock_but_those_that_become_its_own(valkey, client, prefix):
    queues = [f"{prefix}-{i}" for i in range(300)]
    locks = [CHASQUIMQ.keys_of(queue).lock for queue in queues]
    looks = []

    async def look():
        while True:
            looks.append(await client.mget(locks))
            await asyncio.sleep(0.02)

    async with proxy(valkey.port) as far, contextlib.AsyncExitStack() as stack:
        far.mode = "delay"  # a round trip takes 100 ms
        one, two = [await stack.enter_async_context(connect(f"redis://{far.address}")) for _ in range(2)]
        settings = PromoterSettings(lock_ttl_ms=5_000)
        async with PromoterFleet(one, queues, settings, holder_id="a").running() as fleet:
            await until(lambda: len(fleet.health()) == 300 and all(h.leads for h in fleet.health()), 60)
            looking = asyncio.create_task(look())
            async with PromoterFleet(two, queues, settings, holder_id="b").running() as other:
                await until(lambda: len(other.health()) > 100 and all(h.leads for h in other.health()), 60)
                await asyncio.sleep(6)  # more than a lease
                looking.cancel()
    kept = [i for i, holder in enumerate(looks[-1]) if holder == b"a"]
    assert 100 < len(kept) < 200
    assert {holders[i] for holders in looks for i in kept} == {b"a"}, "renewals go on during the hand-over"


def test_a_backend_that_cannot_serve_many_queues_says_so(tmp_path):
    with running("--url", "memory://", "--queue", "{bad*") as process:
        assert process.wait(10) == 2
        assert "braces" in process.stderr.read()
