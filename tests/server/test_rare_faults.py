"""Rare faults of a server and its operation: a full disk, clocks that step, old backups, eviction, odd settings."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgpack
import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Job, JobOutcome, Overflow, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingEvents, RecordingMetrics
from tests.server.bench import member, now_ms, until
from tests.servers import Server, find

pytestmark = [pytest.mark.server, pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")]
K = CHASQUIMQ.keys_of("q")
LEASE_MS = 1_000


async def streamed(client):
    """The stream's entries: (the server's clock at the promotion, the id)."""
    entries = await client.xrange(K.stream)
    return [(int(at.split(b"-")[0]), msgpack.unpackb(fields[b"d"])[0]) for at, fields in entries]


async def ids(client):
    return sorted(id for _, id in await streamed(client))


@contextlib.asynccontextmanager
async def promoting(url, **settings):
    events, metrics = RecordingEvents(), RecordingMetrics()
    settings = {"lock_ttl_ms": LEASE_MS, "poll_interval_ms": 3_600_000} | settings
    async with connect(url) as backend:
        promoter = Promoter(backend, "q", PromoterSettings(**settings), events=[events], metrics=[metrics])
        async with promoter.running():
            await until(lambda: promoter.health()[0].leads)
            yield events, metrics


# A full disk


@pytest.fixture
def tiny_disk():
    """A folder on a disk of two megabytes."""
    folder = Path(tempfile.mkdtemp(prefix="promoter-tiny-"))
    mount: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("needs to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


async def test_a_full_disk_is_waited_out_and_loses_nothing(tiny_disk):
    server = Server(appendonly="yes", appendfsync="everysec")
    shutil.rmtree(server.dir)
    server.dir = tiny_disk
    try:
        server.start()
        async with (
            promoting(server.url) as (_, metrics),
            Redis(port=server.port) as admin,
            connect(server.url) as other,
        ):
            queue = DelayedQueue(other, "q")
            acknowledged = []
            refused = None
            for n in range(200):
                try:
                    await queue.schedule(os.urandom(50_000), delay=3, job_id=f"j{n:03}")
                except TransientError as error:
                    refused = error
                    break
                acknowledged.append(f"j{n:03}")
            assert refused is not None
            assert refused.code == "MISCONF", "what was not written is not acknowledged"
            await until(lambda: any(error.code == "MISCONF" for _, error in metrics.errors), 15)
            await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=100m", tiny_disk], check=True)
            await until(lambda: metrics.promoted >= len(acknowledged), 20)
            assert await ids(admin) == acknowledged
    finally:
        server.stop()


# Clocks that step


def faketime_library():
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else ctypes.util.find_library("faketime")


class SteppedServer(Server):
    """A server whose wall clock is moved by `step`; its monotonic clock goes on."""

    def step(self, seconds):
        (self.dir.parent / f"{self.dir.name}.clock").write_text(f"{seconds:+d}")

    def start(self, *arguments):
        self.step(0)
        ours = {
            "LD_PRELOAD": faketime_library(),
            "FAKETIME_TIMESTAMP_FILE": f"{self.dir}.clock",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        before = dict(os.environ)
        os.environ.update(ours)
        try:
            return super().start(*arguments)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def stop(self):
        super().stop()
        Path(f"{self.dir}.clock").unlink(missing_ok=True)


@pytest.mark.skipif(faketime_library() is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("step_s", [3_600, -3_600])
async def test_a_step_of_the_servers_clock_promotes_nothing_early_by_that_clock_and_nothing_twice(step_s):
    """Forward: what is due by the new clock is promoted. Back: it waits for the server's clock to come there again."""
    server = SteppedServer()
    try:
        server.start()
        async with Redis(port=server.port) as admin, promoting(server.url) as (events, _):
            began_ms = await now_ms(admin)
            due_ms = began_ms + 1_500
            await admin.zadd(K.delayed, {member("soon"): due_ms, member("hour"): began_ms + 3_500_000})
            await asyncio.sleep(0.7)  # it has seen them, and waits
            server.step(step_s)
            assert abs(await now_ms(admin) - began_ms - step_s * 1_000) < 60_000, "the clock has stepped"
            if step_s > 0:
                await until(lambda: sorted(events.ids) == ["hour", "soon"], 10)
            else:
                await asyncio.sleep(1.5)  # by which time it would be due
                assert events.ids == [], "by the server's clock it is an hour early"
                async with connect(server.url) as other:
                    await DelayedQueue(other, "q").schedule(1, delay=0.3, job_id="new")
                await until(lambda: events.ids == ["new"], 10)
                server.step(0)
                await until(lambda: sorted(events.ids) == ["new", "soon"], 10)
            seen = await streamed(admin)
            assert len(seen) == len({id for _, id in seen}), "nothing twice"
            assert all(job.promoted_ms >= job.due_ms for job in events.jobs)
    finally:
        server.stop()


# What persistence can lose


async def test_with_an_append_only_file_each_second_a_kill_of_the_server_alone_loses_nothing():
    """An answered write is in the kernel's hands; only a crash of the machine loses the last second."""
    server = Server(appendonly="yes", appendfsync="everysec")
    try:
        server.start()
        acknowledged = set()
        for round_ in range(3):
            async with connect(server.url) as backend:
                queue = DelayedQueue(backend, "q")
                for n in range(20):
                    jobs = [Job(data=1, delay=0.5, job_id=f"{round_}-{n}-{k}") for k in range(20)]
                    await queue.schedule_many(jobs)
                    acknowledged |= {str(job.job_id) for job in jobs}
                server.kill()
            server.start()
        async with promoting(server.url) as (_, metrics), Redis(port=server.port) as admin:
            await until(lambda: metrics.promoted >= len(acknowledged), 20)
            await asyncio.sleep(0.3)
            assert await ids(admin) == sorted(acknowledged)
    finally:
        server.stop()


async def test_a_restored_backup_loses_what_came_after_it_and_repeats_what_it_holds():
    """As with any store: jobs after the backup are lost, jobs that wait in it run again."""
    server = Server()
    try:
        server.start()
        async with connect(server.url) as backend, Redis(port=server.port) as admin:
            queue = DelayedQueue(backend, "q")
            await queue.schedule_many([Job(data=1, delay=0.1, job_id=f"held-{n}") for n in range(5)])
            await admin.save()
            backup = (server.dir / "dump.rdb").read_bytes()
            async with promoting(server.url) as (events, _):
                await queue.schedule_many([Job(data=1, delay=3600, job_id=f"after-{n}") for n in range(5)])
                await until(lambda: len(events.ids) == 5)
                server.kill()
                (server.dir / "dump.rdb").write_bytes(backup)
                await asyncio.to_thread(server.start)
                await until(lambda: len(events.ids) == 10, 20)
            assert sorted(events.ids) == sorted([f"held-{n}" for n in range(5)] * 2), "each of them twice"
            assert (await queue.stats()).depth == 0, "what came after the backup is lost"
            assert (await queue.schedule(1, delay=60, job_id="after-0")).created, "and can be scheduled again"
    finally:
        server.stop()


# Odd settings


async def test_two_promoters_of_one_queue_with_different_settings_promote_each_job_once(server):
    few = PromoterSettings(promote_batch=3, max_tick_ms=0, lock_ttl_ms=400, events=False, max_stream_len=100)
    many = PromoterSettings(promote_batch=1_000, lock_ttl_ms=5_000, overflow=Overflow.TRIM)
    async with Redis(port=server.port) as admin, connect(server.url) as one, connect(server.url) as two:
        queue = DelayedQueue(one, "q")
        leading = [
            Promoter(one, "q", few),
            Promoter(two, "q", many),
        ]
        for turn in range(4):
            jobs = [Job(data=1, delay=0.2, job_id=f"{turn}-{n}") for n in range(20)]
            async with leading[turn % 2].running(), leading[1 - turn % 2].running():
                await queue.schedule_many(jobs)
                await until(lambda turn=turn: _length(admin, 20 * (turn + 1)))
        seen = [id for _, id in await streamed(admin)]
        assert sorted(seen) == sorted(f"{turn}-{n}" for turn in range(4) for n in range(20))


async def _length(admin, n):
    return await admin.xlen(K.stream) >= n


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl"])
async def test_a_policy_that_evicts_keys_with_an_end_evicts_no_waiting_job(server, policy):
    async with Redis(port=server.port) as admin, connect(server.url) as backend:
        await admin.config_set("maxmemory-policy", policy)
        queue = DelayedQueue(backend, "q")
        wanted = [f"j{n}" for n in range(200)]
        await queue.schedule_many([Job(data=1, delay=2, job_id=id) for id in wanted])
        filler = admin.pipeline(transaction=False)
        for n in range(300):
            filler.set(f"filler-{n}", b"x" * 10_000, ex=36_000)
        await filler.execute()
        used = (await admin.info("memory"))["used_memory"]
        await admin.config_set("maxmemory", used - 1_000_000)
        await until(lambda: _evicted(admin))
        again = await queue.schedule_many([Job(data=1, delay=60, job_id=id) for id in wanted])
        assert not [job.id for job in again if job.created], "an id that waits is known"
        assert await queue.cancel("j0") is JobOutcome.REMOVED
        async with promoting(server.url) as (events, _):
            await until(lambda: len(events.ids) == 199, 20)
        assert await ids(admin) == sorted(wanted[1:])


async def _evicted(admin):
    return (await admin.info("stats"))["evicted_keys"] > 0
