"""The minimal ACL of the docs is the one that works, and what is missing from it is degraded or clearly told."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, Job, PermanentError, Promoter, PromoterSettings, connect
from promoter_core.monitor import snapshot
from promoter_core.spi import (
    CHASQUIMQ,
    JobQuery,
    JobRequest,
    Lease,
    LeaseLost,
    Remove,
    Renewal,
    Replace,
    Reschedule,
    RunNow,
    pack_envelope,
)
from promoter_core.testing import RecordingEvents
from tests.server.bench import member, until
from tests.typed import present, untyped

pytestmark = pytest.mark.server

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTED = (DOCS / "reference/wire-format.md").read_text()
EXPORTER = (DOCS / "how-to/monitor/exporter.md").read_text()


@pytest.fixture
async def admin(any_server):
    async with Redis.from_url(any_server.url) as client:
        yield client


def documented(server):
    """The words of the documented ACL SETUSER command."""
    (text,) = re.findall(r"ACL SETUSER (promoter .*?)```", DOCUMENTED, re.S)
    return [word for word in text.split() if server != "redis-7.0" or word != "+client|setinfo"]


def request(id, **more):
    return JobRequest(id, pack_envelope(id, b"\xc0", 0, 0), unique=True, **{"delay_ms": 60_000} | more)


async def see_and_change(backend, queue):
    """Each operation on a job that waits, with an index and without; one of them runs."""
    await backend.schedule(queue, [request("m", traceparent="00-a", keep_id_ms=5), request("n")])
    assert None not in await backend.get_jobs(queue, ["m", "n"])
    first = await backend.list_jobs(queue, JobQuery(limit=1, want_details=True))
    await backend.list_jobs(queue, JobQuery(after=first.cursor, reverse=True, name="x"))
    await backend.count_jobs(queue, [5])
    changes = [Replace(request=request("m", keep_id_ms=5, traceparent="00-a")), Reschedule(job="m", delay_ms=60_000)]
    assert "not-found" not in await backend.change_jobs(queue, [*changes, RunNow(job="m"), Remove(job="n")])


@pytest.mark.parametrize(
    ("scheme", "more", "wake"), [("redis", [], "any-write"), ("glide", ["+info", "+psubscribe"], "announced")]
)
async def test_the_documented_acl_is_enough(any_server, admin, scheme, more, wake):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), *more)
    queue, events = f"q-{ULID()}", RecordingEvents()
    async with connect(f"{scheme}://promoter:password@{any_server.address}/0") as backend:
        jobs = DelayedQueue(backend, queue)
        async with Promoter(backend, queue, events=[events]).running():
            await jobs.schedule(1, delay=0.05, job_id="a")
            cancelled = await jobs.schedule(2, delay=60)
            await jobs.cancel(cancelled)
            await admin.zadd(CHASQUIMQ.keys_of(queue).delayed, {member("b"): 10**13, member("c"): 1})
            await jobs.cancel("nobody")
            assert (await jobs.cancel("b")).value == "removed", "it has no index"
            await jobs.schedule(3, job_id="d")
            await jobs.schedule(3, job_id="d")
            await backend.schedule(queue, [request("kept", delay_ms=1, keep_id_ms=0)])
            await see_and_change(backend, queue)
            await admin.zadd(CHASQUIMQ.keys_of(queue).delayed, {member("e"): 1})
            await jobs.schedule(4, job_id="f", delay=60)
            async with asyncio.timeout(10):
                while not {"a", "c", "d", "e", "kept"} <= set(events.ids):
                    await asyncio.sleep(0.01)
            assert backend.capabilities.wake == wake
            assert (await jobs.stats()).stream_len == 6
            (again,) = await backend.schedule(queue, [request("kept")])
            assert again.created, "GETDEL is permitted"
    refused = [str(entry) for entry in await admin.execute_command("ACL", "LOG")]
    assert [entry for entry in refused if "setinfo" not in entry] == []


async def test_a_missing_permission_is_a_permanent_error_that_names_the_command(any_server, admin):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), "-evalsha", "-eval")
    with pytest.raises(PermanentError, match="evalsha") as raised:
        async with connect(f"redis://promoter:password@{any_server.address}") as backend:
            await DelayedQueue(backend, "q").schedule(1, delay=1)
    assert raised.value.code == "NOPERM"
    assert "password" not in str(raised.value)
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_nobody_leads_who_may_add_jobs_and_not_remove_them(any_server, admin, scheme):
    more = ["+info", "+psubscribe", "-zremrangebyrank"]
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), *more)
    queue = f"q-{ULID()}"
    async with connect(f"{scheme}://promoter:password@{any_server.address}/0") as backend:
        await DelayedQueue(backend, queue).schedule(1, delay=0)
        for _ in range(2):
            with pytest.raises(PermanentError, match="zremrangebyrank") as raised:
                await Promoter(backend, queue).run(until_idle=True)
            assert raised.value.code == "NOPERM"
        stats = await backend.stats(queue)
        assert (stats.depth, stats.stream_len, stats.holder) == (1, 0, None)
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


async def test_glide_tells_what_it_may_not_do_when_it_connects(any_server, admin):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), "-info")
    with pytest.raises(PermanentError, match="info") as raised:
        async with connect(f"glide://promoter:password@{any_server.address}"):
            pass
    assert raised.value.code == "NOPERM"
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("-subscribe",), "+subscribe and the channel &__redis__:invalidate"),
        (("resetchannels", "&{chasqui:*"), "+subscribe and the channel &__redis__:invalidate"),
        (("-client|tracking",), "+client|tracking"),
        (("-client|id",), None),
        (("-info",), None),
    ],
    ids=["subscribe", "channel", "tracking", "client-id", "info"],
)
async def test_without_what_watching_needs_it_polls_and_says_once_what_is_missing(
    any_server, admin, missing, named, caplog
):
    caplog.set_level(logging.INFO, "promoter.redis")
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), *missing)
    connections = (await admin.info("stats"))["total_connections_received"]
    queue, events = f"q-{ULID()}", RecordingEvents()
    async with connect(f"redis://promoter:password@{any_server.address}/0") as backend:
        jobs = DelayedQueue(backend, queue)
        settings = PromoterSettings(poll_interval_ms=50)
        async with Promoter(backend, queue, settings, events=[events]).running():
            for i in range(4):
                await jobs.schedule(i, delay=0.3, job_id=str(i))
                async with asyncio.timeout(10):
                    while str(i) not in events.ids:
                        await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # the pauses between connections that are merely lost are shorter
            assert backend.capabilities.wake == ("poll" if named else "any-write")
    said = [record.getMessage() for record in caplog.records if "cannot watch for changes" in record.getMessage()]
    assert len(said) == (1 if named else 0)
    assert all(named in text for text in said)
    assert not [text for text in caplog.messages if "interrupted" in text]
    # the watcher, the ticks, the pool, the test's own; old ones of the server's other users aside
    assert (await admin.info("stats"))["total_connections_received"] - connections <= 5
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


async def test_a_permission_that_is_granted_later_ends_the_polling(any_server, admin, monkeypatch):
    monkeypatch.setattr("promoter_redis.invalidation_listener.REFUSED_S", 0.3)
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), "-client|tracking")
    queue = f"q-{ULID()}"
    async with connect(f"redis://promoter:password@{any_server.address}/0") as backend:
        async with Promoter(backend, queue, PromoterSettings(poll_interval_ms=50)).running():
            await until(lambda: backend.capabilities.wake == "poll")
            await admin.execute_command("ACL", "SETUSER", "promoter", "+client|tracking")
            await until(lambda: backend.capabilities.wake == "any-write")
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


@pytest.mark.parametrize("less", [[], ["-getex"]])
async def test_many_leases_are_renewed_with_getex_and_without(any_server, admin, less):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), *less)
    ours, other_keys, odd = (f"q-{ULID()}" for _ in range(3))
    await admin.set(CHASQUIMQ.keys_of(other_keys).lock, "another", px=90_000)
    await admin.hset(CHASQUIMQ.keys_of(odd).lock, "a", "b")
    async with connect(f"redis://promoter:password@{any_server.address}/0") as backend:
        await backend.lock(ours, "me", 5_000)
        leases = [Lease(queue, "me", 60_000) for queue in (ours, other_keys, odd)]
        before = (await admin.info("commandstats")).get("cmdstat_getex", {"calls": 0})["calls"]
        for _ in range(2):
            answers = await untyped(backend).renew_many(leases)
            assert [type(answer) for answer in answers] == [Renewal, LeaseLost, PermanentError]
        after = (await admin.info("commandstats")).get("cmdstat_getex", {"calls": 0})["calls"]
    assert after - before == (0 if less else 6)
    left = [await admin.pttl(CHASQUIMQ.keys_of(queue).lock) for queue in (ours, other_keys, odd)]
    assert left[0] > 50_000
    assert 80_000 < left[1] <= 90_000
    assert left[2] == -1


async def test_a_user_that_can_only_look_sees_all_and_changes_nothing(any_server, admin):
    (text,) = re.findall(r"ACL SETUSER (watcher .*?)```", EXPORTER, re.S)
    words = [word for word in text.split() if any_server.name != "redis-7.0" or word != "+client|setinfo"]
    assert not {"+set", "+del", "+zadd", "+zrem", "+xadd", "+publish"} & set(words)
    await admin.execute_command("ACL", "SETUSER", *words)
    queue = f"q-{ULID()}"
    async with connect(any_server.url) as backend:
        jobs = DelayedQueue(backend, queue)
        await jobs.schedule_many([Job(data=i, delay=60, job_id=f"j{i}") for i in range(3)])
        await jobs.schedule(1, delay=60, index=False)
        await jobs.run_now("j0")
        await admin.xgroup_create(CHASQUIMQ.keys_of(queue).stream, "group", "0")
    async with connect(f"redis://watcher:password@{any_server.address}/0") as backend:
        jobs = DelayedQueue(backend, queue)
        stats = await jobs.stats()
        assert (stats.depth, stats.stream_len, [group.name for group in stats.groups]) == (3, 1, ["group"])
        assert len((await untyped(backend).list_jobs(queue, JobQuery(want_details=True))).jobs) == 3
        assert await jobs.get("j1") is not None
        assert await jobs.get("none") is None
        assert await jobs.count() == 3
        seen = await snapshot(backend, queue)
        assert [(one.name, present(one.coming).hour, one.error) for one in seen.queues] == [(queue, 3, None)]
        for write in (jobs.schedule(1), jobs.cancel("j1"), jobs.run_now("j1"), backend.lock(queue, "me", 5_000)):
            with pytest.raises(PermanentError, match="NOPERM|permission"):
                await write
        assert (await jobs.stats()).depth == 3
