"""Waiting jobs are seen and changed on a real server: what it refuses, what wakes promoters, what each call costs."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from promoter_core import PermanentError, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import (
    CHASQUIMQ,
    MAX_DUE_MS,
    ChangeKind,
    JobOutcome,
    JobQuery,
    JobRequest,
    ManagementSupport,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StreamName,
    pack_envelope,
)
from promoter_core.testing import RecordingEvents
from tests.server.bench import member, now_ms, promote, until
from tests.typed import present, untyped

pytestmark = pytest.mark.server

HOUR_MS = 3_600_000
both_clients = pytest.mark.parametrize("scheme", ["redis", "glide"])


def request(id, **more):
    due = {} if "due_ms" in more else {"delay_ms": 600_000}
    return JobRequest(id, pack_envelope(id, b"\xc0", 1, 0), **(due | more))


async def all_pages(backend, queue, **query):
    jobs, cursor = [], ""
    while True:
        page = await backend.list_jobs(queue, JobQuery(after=cursor, **query))
        jobs += page.jobs
        if not (cursor := page.cursor):
            return jobs


async def contents(client, keys):
    """All that the queue has, but for its lock."""
    found = {}
    async for key in client.scan_iter(keys.prefix + b"*", count=10_000):
        if key != keys.lock:
            found[key] = await client.dump(key)
    return found


@both_clients
async def test_a_promoter_that_waits_for_hours_is_woken_by_another_process(valkey, name, scheme):
    events = RecordingEvents()
    url = f"{scheme}://{valkey.address}"
    settings = PromoterSettings(poll_interval_ms=HOUR_MS, lock_ttl_ms=HOUR_MS)
    async with connect(url) as backend, connect(url) as other:
        await other.schedule(name, [request(id) for id in ("moved", "replaced", "later")])
        assert isinstance(other, ManagementSupport)
        async with Promoter(backend, name, settings, events=[events]).running() as promoter:
            await until(lambda: promoter.health()[0].last_tick_age_s is not None)
            await other.change_jobs(name, [Reschedule(job="moved", delay_ms=50)])
            await until(lambda: "moved" in events.ids)
            await other.change_jobs(name, [Replace(request=request("replaced", delay_ms=50))])
            await until(lambda: "replaced" in events.ids)
            (job,) = await other.get_jobs(name, ["later"])
            await other.change_jobs(name, [Reschedule(job=present(job), delay_ms=50)])
            await until(lambda: "later" in events.ids)


@both_clients
@pytest.mark.parametrize("whose", ["own", "another's"])
@pytest.mark.parametrize(
    "change",
    [
        Reschedule(job="head", delay_ms=1),
        Reschedule(job="head", delay_ms=HOUR_MS),
        Remove(job="head"),
        Reschedule(job="tail", delay_ms=1),
        RunNow(job="head"),
        Replace(request=request("new", delay_ms=1)),
    ],
    ids=["earlier", "later", "removed", "new head", "run now", "created"],
)
async def test_a_change_of_the_head_ends_a_wait(valkey, name, scheme, change, whose):
    url = f"{scheme}://{valkey.address}"
    async with connect(url) as backend, connect(url) as other:
        await other.schedule(name, [request("head"), request("tail", delay_ms=700_000)])
        await promote(backend, name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):  # GLIDE has subscribed meanwhile
                while await backend.wait(name, ChangeKind.JOBS, 0.1):
                    await promote(backend, name)
        waiting = asyncio.create_task(backend.wait(name, ChangeKind.JOBS, 10))
        await asyncio.sleep(0.05)
        await untyped(backend if whose == "own" else other).change_jobs(name, [change])
        assert await waiting


async def test_a_hundred_thousand_jobs_of_one_due_time_are_listed_though_the_cursors_job_has_gone(
    backend, client, name, keys
):
    ids = [f"j{i:06}" for i in range(100_000)]
    for first in range(0, len(ids), 10_000):
        await client.zadd(keys.delayed, {member(id): 10**13 for id in ids[first : first + 10_000]})
    for reverse in (False, True):
        waits = [job.id async for job in walk(backend, name, reverse)]
        await client.execute_command("CONFIG", "RESETSTAT")
        seen, cursor, pages = [], "", 0
        while True:
            page = await backend.list_jobs(name, JobQuery(limit=1_000, after=cursor, reverse=reverse))
            seen += [job.id for job in page.jobs]
            pages += 1
            if not (cursor := page.cursor):
                break
            if pages % 3 == 0:  # the cursor's job goes, or moves away
                await client.zrem(keys.delayed, page.jobs[-1].handle)
            elif pages % 3 == 1:
                await backend.change_jobs(name, [Reschedule(job=page.jobs[-1], due_ms=1 if reverse else 2 * 10**13)])
        assert [id for id in seen if id is not None][: len(waits) // 2] == waits[: len(waits) // 2]
        assert set(seen) == set(waits)
        assert (await client.info("commandstats"))["cmdstat_zrange"]["calls"] < pages * 30, (
            "found by rank, not by a walk"
        )


async def walk(backend, name, reverse):
    for job in await all_pages(backend, name, limit=1_000, reverse=reverse):
        yield job


async def test_pages_are_exact_for_scores_of_all_kinds(backend, client, name, keys):
    scores = {"-inf": 0, "-5": 0, "0": 0, "1000.5": 1001, "1001": 1001, "253402300799999": MAX_DUE_MS}
    parked = ["253402300799999.5", "1e300", "+inf"]
    for score in [*scores, *parked]:
        await client.zadd(keys.delayed, {member(score): score})
    for limit in (1, 2, 100):
        jobs = await all_pages(backend, name, limit=limit)
        assert [(job.id, job.due_ms) for job in jobs] == [*scores.items(), *((id, None) for id in parked)]
        assert await all_pages(backend, name, limit=limit, reverse=True) == jobs[::-1]
    bounds = [-5, 0, 1, 1001, 1002, MAX_DUE_MS, MAX_DUE_MS + 1, 2**53]
    assert await backend.count_jobs(name, bounds) == [0, 0, 3, 3, 5, 5, 6, 6]
    for low in bounds:
        for high in bounds:
            found = {job.id for job in await all_pages(backend, name, due_from_ms=low, due_to_ms=high, limit=2)}
            assert found == {id for id, due_ms in scores.items() if low <= due_ms < high}
    assert [job.id for job in await all_pages(backend, name, due_from_ms=MAX_DUE_MS + 1)] == parked
    assert await backend.change_jobs(name, [RunNow(job="+inf"), Reschedule(job="1e300", delay_ms=0)]) == [
        JobOutcome.PROMOTED,
        JobOutcome.MOVED,
    ]
    assert (await backend.stats(name)).parked == 1


async def test_a_filter_by_name_looks_at_a_thousand_jobs_a_call(backend, client, name, keys):
    await client.zadd(
        keys.delayed, {member(f"j{i}", name="odd" if i % 2_500 == 0 else "even"): i for i in range(5_000)}
    )
    page = await backend.list_jobs(name, JobQuery(limit=10, name="odd", after="", due_from_ms=1))
    assert (page.jobs, bool(page.cursor)) == ((), True)
    found = await all_pages(backend, name, limit=10, name="odd", want_details=True)
    assert [job.id for job in found] == ["j0", "j2500"]
    assert [job.id for job in await all_pages(backend, name, limit=1, name="odd", reverse=True)] == ["j2500", "j0"]
    assert await all_pages(backend, name, name="none") == []


async def test_large_jobs_come_a_megabyte_at_a_time(backend, client, name, keys):
    for i in range(8):
        await client.zadd(keys.delayed, {member(f"j{i}", data=b"\xc6" + b"x" * 700_000): 10**13 + i})
        await client.set(keys.index + b"j%d" % i, member(f"j{i}", data=b"\xc6" + b"x" * 700_000))
    pages, cursor = [], ""
    while True:
        page = await backend.list_jobs(name, JobQuery(after=cursor))
        pages.append([job.id for job in page.jobs])
        if not (cursor := page.cursor):
            break
    assert pages == [["j0", "j1"], ["j2", "j3"], ["j4", "j5"], ["j6", "j7"]]
    jobs = await backend.get_jobs(name, [f"j{i}" for i in range(8)])
    assert [job.id for job in jobs] == [f"j{i}" for i in range(8)]
    changes = [Replace(request=JobRequest(f"j{i}", jobs[i].envelope, due_ms=10**13 + 20 - i)) for i in range(8)]
    await client.execute_command("CONFIG", "RESETSTAT")
    assert set(await backend.change_jobs(name, changes)) == {JobOutcome.REPLACED}
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == 8, "one at a time"


@pytest.mark.parametrize("cursor", ["nonsense", "MQ==", "bmFuCngK", "MV8wMDAKeA==", "é", "x" * 1_000, "KDUKeA=="])
async def test_what_is_no_cursor_is_a_permanent_error(backend, name, cursor):
    with pytest.raises(PermanentError) as raised:
        await backend.list_jobs(name, JobQuery(after=cursor))
    assert raised.value.code == "BADCURSOR"


async def test_malformed_members_are_seen_moved_and_removed(backend, client, name, keys):
    hostile = [b"", b"\x00", b"\xff" * 5, b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\xc0", b"\x00\x00\x00\x00\x91\xa1a"]
    await client.zadd(keys.delayed, dict.fromkeys(hostile, 10**13))
    jobs = await all_pages(backend, name, want_details=True)
    assert {job.handle for job in jobs} == set(hostile)
    assert {job.handle for job in jobs if job.malformed} == set(hostile[:4])
    assert {job.id for job in jobs} == {None}
    now = await now_ms(client)
    outcomes = await backend.change_jobs(name, [RunNow(job=job) for job in jobs])
    assert outcomes == [JobOutcome.MOVED if job.malformed else JobOutcome.PROMOTED for job in jobs]
    assert all(now <= score <= now + 10_000 for _, score in await client.zrange(keys.delayed, 0, -1, withscores=True))
    assert (await backend.stats(name)).events_len == 0
    (one, *others) = [job for job in jobs if job.malformed]
    assert await backend.change_jobs(name, [Remove(job=one), Remove(job=one)]) == [
        JobOutcome.REMOVED,
        JobOutcome.NOT_FOUND,
    ]
    assert (await promote(backend, name)).malformed == len(others)


async def test_out_of_memory_nothing_is_half_done_and_jobs_can_be_removed(server, name, keys):
    async with connect(server.url) as backend, Redis(port=server.port) as client:
        await backend.schedule(name, [request(id, unique=True, traceparent="00-a", keep_id_ms=5) for id in "abc"])
        before = await contents(client, keys)
        assert isinstance(backend, ManagementSupport)
        await client.config_set("maxmemory", 1)
        for change in (
            Reschedule(job="a", delay_ms=1),
            RunNow(job="a"),
            Replace(request=request("a", unique=True)),
            Replace(request=request("new", unique=True)),
        ):
            with pytest.raises(TransientError, match="OOM"):
                await backend.change_jobs(name, [change])
            assert await contents(client, keys) == before
        assert await backend.change_jobs(name, [Remove(job="b")]) == [JobOutcome.REMOVED]
        assert [job.id for job in await all_pages(backend, name)] == ["a", "c"]
        await client.config_set("maxmemory", 0)
        assert await backend.change_jobs(name, [RunNow(job="a")]) == [JobOutcome.PROMOTED]


async def test_a_key_of_another_type_loses_no_job(backend, client, name, keys):
    await backend.schedule(name, [request("a", unique=True), request("b", unique=True)])
    await client.set(keys.stream, "of another type")
    before = await contents(client, keys)
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await backend.change_jobs(name, [RunNow(job="a")])
    assert await contents(client, keys) == before
    await client.delete(keys.stream)
    await client.set(keys.events, "of another type")
    assert await backend.change_jobs(name, [RunNow(job="a")]) == [JobOutcome.PROMOTED], "events never fail a promotion"


async def test_jobs_without_an_index_are_found_up_to_the_documented_bound(backend, client, name, keys):
    ids = [f"j{i:05}" for i in range(11_000)]
    for some in (ids[:6_000], ids[6_000:]):
        await client.zadd(keys.delayed, {member(id): 10**13 for id in some})
    seen = [ids[0], ids[9_999], ids[10_500], "none"]
    assert [job and job.id for job in await backend.get_jobs(name, seen)] == [ids[0], ids[9_999], None, None]
    moved, missing = JobOutcome.MOVED, JobOutcome.NOT_FOUND
    changes = [Reschedule(job=id, due_ms=9 * 10**12) for id in seen]
    assert await backend.change_jobs(name, changes) == [moved, moved, missing, missing]
    await client.execute_command("CONFIG", "RESETSTAT")
    quick = [Replace(request=request(ids[1]), search=False, keep_due=True)]
    assert await backend.change_jobs(name, quick) == [missing]
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1, "it never looks"
    twice = [Remove(job=ids[0]), Replace(request=request(ids[0], name="new")), Remove(job=ids[0])]
    assert await backend.change_jobs(name, twice) == [JobOutcome.REMOVED, JobOutcome.CREATED, JobOutcome.REMOVED]


async def test_a_change_while_the_job_is_promoted_finds_it_or_not(valkey, client, name, keys):
    """Many jobs are rescheduled, run and replaced while a promoter takes them: each arrives once, or waits."""
    ids = [f"j{i}" for i in range(400)]
    async with connect(valkey.url) as backend, connect(valkey.url) as other:
        await backend.schedule(name, [request(id, delay_ms=20 + i, unique=True) for i, id in enumerate(ids)])
        async with Promoter(backend, name).running():
            outcomes = []
            for i, id in enumerate(ids):
                change = [RunNow(job=id), Reschedule(job=id, delay_ms=0), Replace(request=request(id, delay_ms=1))][
                    i % 3
                ]
                outcomes += await untyped(other).change_jobs(name, [change])
            await until(lambda: drained(backend, name))
        there = await backend.read(name, StreamName.JOBS, "", 10_000)
    created = outcomes.count(JobOutcome.CREATED)
    assert len(there) == len(ids) + created
    assert len({entry.fields["d"] for entry in there}) == len(ids)


async def drained(backend, name):
    return (await backend.stats(name)).depth == 0


async def test_a_replaced_job_is_answered_for_when_replicas_have_it(server, name):
    async with connect(f"{server.url}?wait_replicas=1&command_timeout_ms=2000") as backend:
        assert isinstance(backend, ManagementSupport)
        with pytest.raises(TransientError) as raised:
            await backend.change_jobs(name, [Replace(request=request("a"))])
        assert raised.value.code == "NOREPLICAS"
        assert await backend.change_jobs(name, [Reschedule(job="a", delay_ms=5)]) == [JobOutcome.MOVED]


async def test_five_thousand_changes_go_a_hundred_a_call(backend, client, name):
    ids = [f"j{i}" for i in range(5_000)]
    await backend.schedule(name, [request(id) for id in ids])
    await client.execute_command("CONFIG", "RESETSTAT")
    assert set(await backend.change_jobs(name, [Reschedule(job=id, delay_ms=5_000) for id in ids])) == {
        JobOutcome.MOVED
    }
    assert None not in await backend.get_jobs(name, ids)
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == 100
    counts = await backend.count_jobs(name, [MAX_DUE_MS + 1] * 12_000)
    assert counts == [5_000] * 12_000


def test_all_keys_of_a_queue_share_its_slot():
    k = CHASQUIMQ.keys_of("q")
    assert k.keep == k.prefix + b"keep:"


async def test_of_two_changes_of_a_job_that_is_looked_for_the_first_takes_effect_first(backend, client, name, keys):
    await client.zadd(keys.delayed, {member(id): 10**13 for id in "abc"})
    (job,) = [job for job in (await backend.list_jobs(name, JobQuery())).jobs if job.id == "a"]
    others = [Remove(job=f"none-{i}") for i in range(150)]
    last = [
        Reschedule(job="a", due_ms=9 * 10**12),
        *others,
        Remove(job=job),
        Replace(request=request("a"), search=False),
    ]
    outcomes = await backend.change_jobs(name, last)
    assert (outcomes[0], *outcomes[-2:]) == (JobOutcome.MOVED, JobOutcome.REMOVED, JobOutcome.CREATED)
    assert set(outcomes[1:-2]) == {JobOutcome.NOT_FOUND}
