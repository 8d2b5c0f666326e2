"""Servers that refuse, restart, stall or are demoted: the promoter waits it out, says so, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import msgpack
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingMetrics
from tests import processes
from tests.proxy import proxy
from tests.server.bench import TICKS, connected, member, the_one, until
from tests.servers import Server, find
from tests.typed import untyped

pytestmark = [pytest.mark.server, pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")]
K = CHASQUIMQ.keys_of("q")


@pytest.fixture
async def admin(server):
    async with Redis(port=server.port) as client:
        yield client


async def streamed(client):
    return [msgpack.unpackb(f[b"d"])[0] for _, f in await client.xrange(K.stream)]


@contextlib.asynccontextmanager
async def promoting(url, **settings):
    metrics = RecordingMetrics()
    async with connect(url) as backend:
        promoter = Promoter(backend, "q", PromoterSettings(**settings), metrics=[metrics])
        async with promoter.running():
            await until(lambda: promoter.health()[0].leads)
            yield promoter, metrics


async def bgsave_fails(admin, server):
    (server.dir / "dump.rdb").mkdir(exist_ok=True)
    await admin.config_set("save", "3600 1")
    await admin.config_set("stop-writes-on-bgsave-error", "yes")
    await admin.bgsave()

    async def failed():
        return (await admin.info("persistence"))["rdb_last_bgsave_status"] == "err"

    await until(failed)


async def bgsave_works(admin, server):
    await admin.config_set("stop-writes-on-bgsave-error", "no")


async def config(admin, name, value):
    await admin.config_set(name, value)


async def replicas_wanted(admin, n):
    await admin.config_set("min-replicas-to-write", n)


FAULTS = {
    "OOM": (lambda a, s: config(a, "maxmemory", "1"), lambda a, s: config(a, "maxmemory", "0")),
    "MISCONF": (bgsave_fails, bgsave_works),
    "NOREPLICAS": (lambda a, s: replicas_wanted(a, 1), lambda a, s: replicas_wanted(a, 0)),
    "READONLY": (lambda a, s: a.replicaof("127.0.0.1", "1"), lambda a, s: a.replicaof("NO", "ONE")),
}


@pytest.mark.parametrize("scheme", ["redis", "glide"])
@pytest.mark.parametrize("code", FAULTS)
async def test_what_a_server_refuses_for_a_while_is_waited_out(server, admin, code, scheme):
    begin, end = FAULTS[code]
    poll_ms = 3_600_000 if scheme == "redis" else 100  # woken by pushes alone where there are any
    settings = {"lock_ttl_ms": 1_000, "poll_interval_ms": poll_ms}
    async with promoting(f"{scheme}://{server.address}", **settings) as (promoter, metrics):
        await admin.zadd(K.delayed, {member(f"before-{i}"): 1 for i in range(5)})
        await until(lambda: metrics.promoted == 5)
        due_ms = int(time.time() * 1000) + 400
        await admin.zadd(K.delayed, {member(f"during-{i}"): due_ms for i in range(5)})
        await begin(admin, server)
        await until(lambda: any(e.code == code for _, e in metrics.errors))
        assert promoter.health()[0].last_error.startswith(code)
        with pytest.raises(TransientError) as raised:
            async with connect(server.url) as producing:
                await DelayedQueue(producing, "q").schedule(1, delay=60, job_id="refused")
        assert raised.value.code == code
        await end(admin, server)
        await until(lambda: metrics.promoted == 10, 20)
        await until(lambda: promoter.health()[0].last_error is None)
        await admin.zadd(K.delayed, {member(f"after-{i}"): 1 for i in range(5)})
        await until(lambda: metrics.promoted == 15, 20)
    assert sorted(await streamed(admin)) == sorted(f"{w}-{i}" for w in ("before", "during", "after") for i in range(5))


@pytest.mark.parametrize(
    ("scheme", "lost"), [("redis", ""), ("redis", "tick"), ("redis", "all"), ("glide", ""), ("glide", "all")]
)
async def test_somebodys_endless_script_is_waited_out(server, admin, scheme, lost):
    """When connections are lost meanwhile, the server answers BUSY to all that is needed to watch it again."""
    await admin.config_set("busy-reply-threshold", "50")
    metrics = RecordingMetrics()
    settings = PromoterSettings(lock_ttl_ms=1_000)
    async with (
        proxy(server.port) as network,
        Redis(port=server.port) as hogging,
        connected(f"{scheme}://{network.address}?command_timeout_ms=500") as backend,
        Promoter(backend, "q", settings, metrics=[metrics]).running() as promoter,
    ):
        await until(lambda: promoter.health()[0].leads)
        wake = backend.capabilities.wake
        assert wake != "poll"
        together = hogging.pipeline(transaction=False)
        if lost == "tick":
            together.execute_command("CLIENT", "KILL", "ID", await the_one(admin, TICKS))
        hog = asyncio.create_task(together.eval("while true do end", 0).execute())
        await until(lambda: any(e.code in ("BUSY", "TIMEOUT") for _, e in metrics.errors), 20)
        if lost == "all":
            network.reset()
            seen = len(metrics.errors)
            await until(lambda: any(e.code in ("BUSY", "TIMEOUT") for _, e in metrics.errors[seen:]), 20)
            await asyncio.sleep(0.5)
        await admin.script_kill()
        await asyncio.gather(hog, return_exceptions=True)
        await admin.zadd(K.delayed, {member("a"): 1})
        await until(lambda: metrics.promoted == 1, 20)
        await until(lambda: promoter.health()[0].last_error is None)
        await until(lambda: backend.capabilities.wake == wake)


async def test_a_server_that_loads_its_data_is_waited_for():
    server = Server(appendonly="yes", appendfsync="always", key_load_delay="200")
    server.start()
    try:
        async with promoting(server.url, lock_ttl_ms=1_000) as (_, metrics):
            async with Redis(port=server.port) as client:
                await client.zadd(K.delayed, {member("a"): int(time.time() * 1000) + 500})
                async with client.pipeline(transaction=False) as fillers:
                    for i in range(12_000):  # a server that loads answers once in a thousand commands
                        fillers.set(f"filler-{i}", "x")
                    await fillers.execute()
            server.kill()
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await until(lambda: any(e.code == "LOADING" for _, e in metrics.errors), 20)
            await starting
            await until(lambda: metrics.promoted == 1, 20)
    finally:
        server.stop()


@pytest.mark.timeout(240)
async def test_a_server_killed_and_restarted_ten_times_under_load_loses_nothing():
    server = Server(appendonly="yes", appendfsync="always")
    server.start()
    due: dict[str, int] = {}  # by when each acknowledged job may run, at the earliest
    asked_ms: dict[str, float] = {}
    try:
        metrics = RecordingMetrics()
        async with connect(server.url) as one, connect(server.url) as two, connect(server.url) as producing:
            queue = DelayedQueue(producing, "q")

            async def produce():
                n = 0
                while True:
                    jobs = [Job(data=i, delay=0.05 + (i % 40) / 20, job_id=f"j{i}") for i in range(n, n + 20)]
                    for job in jobs:  # whichever try takes effect, it is not before the first
                        asked_ms.setdefault(str(job.job_id), time.time() * 1000)
                    try:
                        await queue.schedule_many(jobs)
                    except TransientError:
                        await asyncio.sleep(0.05)
                        continue  # safe to repeat: the jobs have ids
                    for job in jobs:
                        due[str(job.job_id)] = int(asked_ms[str(job.job_id)] + untyped(job.delay) * 1000)
                    n += 20
                    await asyncio.sleep(0.02)

            settings = PromoterSettings(lock_ttl_ms=600)
            promoters = [Promoter(b, "q", settings, metrics=[metrics]) for b in (one, two)]
            tasks = [asyncio.create_task(p.run()) for p in promoters]
            producer = asyncio.create_task(produce())
            for _ in range(10):
                before = metrics.promoted
                await until(lambda before=before: metrics.promoted > before + 20, 20)
                server.kill()
                await asyncio.sleep(0.1)
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.5)
            producer.cancel()
            await asyncio.gather(producer, return_exceptions=True)
            assert not any(t.done() for t in tasks), "the promoters never exit"

            async def drained():
                with contextlib.suppress(TransientError):
                    return (await queue.stats()).depth == 0

            await until(drained, 20)
            for p in promoters:
                p.stop()
            await asyncio.gather(*tasks)
        async with Redis(port=server.port) as client:
            entries = [(id, msgpack.unpackb(f[b"d"])[0]) for id, f in await client.xrange(K.stream)]
        ids = [job_id for _, job_id in entries]
        assert len(ids) == len(set(ids)), "nothing twice"
        assert set(due) <= set(ids), "nothing that was acknowledged is lost"
        early = [j for id, j in entries if j in due and int(id.split(b"-")[0]) < due[j] - 1]
        assert early == []
    finally:
        server.stop()


def run_promoter(server, holder, ttl_ms):
    command = [sys.executable, "-m", "promoter_core", "run", "--url", server.url, "--queue", "q", "--holder-id", holder]
    return processes.Popen([*command, "--lock-ttl-ms", str(ttl_ms)], stderr=subprocess.PIPE, text=True)


async def leads(admin, holder):
    with contextlib.suppress(RedisError):
        return await admin.get(K.lock) == holder.encode()


async def test_a_suspended_leader_promotes_nothing_when_it_goes_on(server, admin):
    first = run_promoter(server, "first", 600)
    second = None
    try:
        await until(lambda: leads(admin, "first"))
        second = run_promoter(server, "second", 600)
        os.kill(first.pid, signal.SIGSTOP)
        await until(lambda: leads(admin, "second"))
        await admin.zadd(K.delayed, {member(f"{i}"): 1 for i in range(100)})

        async def drained():
            return await admin.xlen(K.stream) == 100

        await until(drained)
        os.kill(first.pid, signal.SIGCONT)
        await asyncio.sleep(1)
        assert await leads(admin, "second")
        assert await admin.xlen(K.stream) == 100
        first.terminate()
        assert first.wait(10) == 0
        log = first.stderr.read()
        assert "this process no longer leads" in log, "it reports the loss"
        assert "another process leads: second, " in log
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
                process.stderr.close()


async def test_a_clean_stop_hands_over_long_before_the_lease_would_end(server, admin):
    ttl_ms = 20_000
    first = run_promoter(server, "first", ttl_ms)
    try:
        await until(lambda: leads(admin, "first"))
        async with connect(server.url) as backend:
            follower = Promoter(backend, "q", PromoterSettings(lock_ttl_ms=ttl_ms, follower_poll_ms=3_600_000))
            async with follower.running():
                await asyncio.sleep(0.3)
                assert follower.health()[0].state == "follower"
                began = time.monotonic()
                first.terminate()
                await until(lambda: follower.health()[0].leads)
                assert time.monotonic() - began < ttl_ms / 1000 / 4
    finally:
        first.kill()
        first.wait()
        first.stderr.close()
