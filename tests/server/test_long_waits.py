"""Jobs that wait for hours: those of other producers, whose index and marker end or were evicted, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from promoter_core import DelayedQueue, Job, JobOutcome, Promoter, connect, unpack_envelope
from promoter_core.spi import JobRequest, Lease, StreamName, pack_envelope
from promoter_resp.waiting_jobs import LOOKED_AT_MOST, LOOKED_AT_ONCE
from tests.leap import leap
from tests.server.bench import member, now_ms, promote, until
from tests.typed import untyped

pytestmark = pytest.mark.server

HOUR_MS = 3_600_000
REMOVED, NOT_FOUND = JobOutcome.REMOVED, JobOutcome.NOT_FOUND


async def theirs(client, keys, *ids, delay_ms, evicted=False):
    """Jobs with ids as ChasquiMQ's producer leaves them: index and marker end an hour after the due time."""
    due_ms = await now_ms(client) + delay_ms
    pipeline = client.pipeline(transaction=False)
    for id in ids:
        pipeline.zadd(keys.delayed, {member(id): due_ms})
        if not evicted:
            pipeline.set(keys.index + id.encode(), member(id), px=delay_ms + HOUR_MS)
            pipeline.set(keys.marker + id.encode(), "1", px=delay_ms + HOUR_MS)
    await pipeline.execute()


async def test_what_we_write_of_a_waiting_job_ends_with_it(backend, client, name, keys):
    queue = DelayedQueue(backend, name)
    await queue.schedule_many([Job(data=1, delay=60, job_id="a"), Job(data=1, delay=60)])
    indexes = [key async for key in client.scan_iter(keys.index + b"*")]
    assert [await client.ttl(key) for key in indexes] == [-1, -1]
    await leap(client, name, 61_000)
    await promote(backend, name)
    left = {key async for key in client.scan_iter(keys.prefix + b"*")}
    assert left == {keys.stream, keys.events, keys.lock, keys.marker + b"a", keys.marker}
    assert 3_500 < await client.ttl(keys.marker + b"a") <= 3_600
    assert await client.ttl(keys.marker) > 0


async def test_another_producers_jobs_can_be_cancelled_hours_after_their_due_time(backend, client, name, keys):
    await theirs(client, keys, "a", "b", delay_ms=1_000)
    await leap(client, name, 3 * HOUR_MS)
    assert not await client.exists(keys.index + b"a", keys.marker + b"a")
    queue = DelayedQueue(backend, name)
    assert await queue.cancel_many(["a", "never"]) == (REMOVED, NOT_FOUND)
    assert (await promote(backend, name)).promoted == 1
    assert await queue.cancel_many(["a", "b"]) == (NOT_FOUND, NOT_FOUND)


async def test_the_ids_of_another_producers_jobs_are_taken_hours_after_their_due_time(backend, client, name, keys):
    ids = [f"j{i}" for i in range(2_500)]  # all due in one millisecond
    await theirs(client, keys, *ids, delay_ms=1_000)
    await leap(client, name, 3 * HOUR_MS)
    await theirs(client, keys, "later", delay_ms=HOUR_MS)
    queue = DelayedQueue(backend, name)
    again = await queue.schedule_many([Job(data=1, delay=60, job_id=id) for id in ("j0", "new", "j2499", "later")])
    assert [a.created for a in again] == [False, True, False, False]
    marked_ms = int(await client.get(keys.index))
    assert (await queue.schedule(1, delay=60, job_id="newer")).created
    assert int(await client.get(keys.index)) == marked_ms, "nothing is marked twice"
    await leap(client, name, HOUR_MS)
    await theirs(client, keys, "overdue", delay_ms=1_000)
    await leap(client, name, 2 * HOUR_MS)
    again = await queue.schedule_many([Job(data=1, delay=60, job_id=id) for id in ("j7", "later", "overdue", "x")])
    assert [a.created for a in again] == [False, False, False, True]
    while (await promote(backend, name)).promoted:
        pass
    assert not (await queue.schedule(1, delay=60, job_id="j7")).created, "nor are they run twice after the promotion"
    assert 0 < await client.ttl(keys.marker + b"j7") <= 90_000


async def test_a_job_whose_index_was_evicted_is_found_up_to_the_documented_bound(backend, client, name, keys):
    ids = [f"j{i:05}" for i in range(LOOKED_AT_MOST + LOOKED_AT_ONCE)]
    await theirs(client, keys, *ids, delay_ms=60_000, evicted=True)
    await client.execute_command("CONFIG", "RESETSTAT")
    seen = await DelayedQueue(backend, name).cancel_many([ids[0], ids[LOOKED_AT_MOST - 1], ids[-1]])
    assert seen == (REMOVED, REMOVED, NOT_FOUND)
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls <= LOOKED_AT_MOST / LOOKED_AT_ONCE + 2


async def test_large_jobs_are_looked_through_a_few_at_a_time(backend, client, name, keys):
    for i in range(8):
        await client.zadd(keys.delayed, {member(f"j{i}", data=b"x" * 700_000): 10**13 + i})
    await client.zadd(keys.delayed, {member("last"): 10**13 + 9})
    await client.execute_command("CONFIG", "RESETSTAT")
    assert await DelayedQueue(backend, name).cancel("last") is REMOVED
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] >= 3, "one to cancel, and two to look"


async def test_an_id_that_was_just_promoted_is_not_looked_for(backend, client, name, keys):
    queue = DelayedQueue(backend, name)
    await queue.schedule_many([Job(data=1, delay=0, job_id="a")] + [Job(data=i, delay=60) for i in range(3_000)])
    await promote(backend, name)
    await client.execute_command("CONFIG", "RESETSTAT")
    assert await queue.cancel("a") is JobOutcome.ALREADY_PROMOTED
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1


async def test_hostile_members_are_passed_over(backend, client, name, keys):
    hostile = [b"", b"\x00", b"\xff" * 5, b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x94\xdb\xff\xff\xff\xff", b"\0" * 9]
    await client.zadd(keys.delayed, dict.fromkeys(hostile, 1) | {member("a"): 2, member("b" * 300, name="n"): 2})
    queue = DelayedQueue(backend, name)
    assert await queue.cancel_many(["a", "b" * 300, "c"]) == (REMOVED, REMOVED, NOT_FOUND)
    assert (await queue.schedule(1, delay=60, job_id="new")).created
    assert (await queue.stats()).depth == len(hostile) + 1


async def test_thirty_thousand_ids_are_cancelled_in_short_scripts(backend, client, name, keys):
    queue = DelayedQueue(backend, name)
    jobs = await queue.schedule_many([Job(data=1, delay=600) for _ in range(30_000)])
    await client.execute_command("CONFIG", "RESETSTAT")
    assert set(await queue.cancel_many(jobs)) == {REMOVED}
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == 300, "a hundred each"
    assert (await queue.stats()).depth == 0


@pytest.mark.parametrize("scheme", ["redis", "fake"])
@pytest.mark.parametrize("score", ["+inf", "9223372036854775808", "1e300", "253402300800000"])
async def test_what_is_due_after_the_year_9999_is_parked(valkey, name, keys, scheme, score):
    async with connect(valkey.url if scheme == "redis" else "fake://") as backend:
        await untyped(backend)._driver.command(keys.delayed, b"ZADD", keys.delayed, score, member("parked"))
        p, stats = await promote(backend, name), await backend.stats(name)
        assert (p.depth, p.next_due_ms, p.oldest_pending_lag_ms) == (1, None, 0)
        assert (stats.depth, stats.next_due_ms, stats.oldest_pending_lag_ms, stats.parked) == (1, None, 0, 1)
        (renewal,) = await untyped(backend).renew_many([Lease(name, "me", 60_000)])
        assert (renewal.due, renewal.next_due_ms) == (False, None)
        await backend.schedule(
            name, [JobRequest("far", pack_envelope("far", b"", 0, 0), due_ms=253_402_300_799_999, unique=True)]
        )
        assert (await promote(backend, name)).next_due_ms == 253_402_300_799_999
        assert (await backend.stats(name)).parked == 1
        assert await DelayedQueue(backend, name).cancel("parked") is REMOVED


@pytest.mark.parametrize("scheme", ["redis", "fake"])
@pytest.mark.parametrize("score", ["-inf", "-5"])
async def test_a_score_before_all_time_is_due(valkey, name, keys, scheme, score):
    async with connect(valkey.url if scheme == "redis" else "fake://") as backend:
        await untyped(backend)._driver.command(keys.delayed, b"ZADD", keys.delayed, score, member("a"))
        p = await promote(backend, name, max_stream_len=0)
        assert (p.next_due_ms, p.oldest_pending_lag_ms, p.held_back) == (0, p.now_ms, 1)
        assert (await backend.stats(name)).next_due_ms == 0
        (renewal,) = await untyped(backend).renew_many([Lease(name, "me", 60_000)])
        assert (renewal.due, renewal.next_due_ms) == (True, 0)
        assert (await promote(backend, name)).promoted == 1


async def test_trace_contexts_leave_no_key_in_the_servers_tracking_table(backend, client, name, keys):
    queue = DelayedQueue(backend, name)
    await promote(backend, name)
    jobs = [Job(data=i, delay=0, traceparent=f"00-{i + 1:032x}-{i + 1:016x}-01") for i in range(500)]
    await queue.schedule_many(jobs)
    before = (await client.info("stats"))["tracking_total_keys"]
    p = await promote(backend, name, limit=1_000, want_traces=True)
    assert len(p.traces) == 500
    assert (await client.info("stats"))["tracking_total_keys"] <= before + 10
    assert not [key async for key in client.scan_iter(keys.trace + b"?*")]


FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_after_three_hours_without_a_promoter_every_job_is_known_and_runs_once(server, name, scheme, monkeypatch):
    url = f"{scheme}://{server.address}"
    server.options |= {"appendonly": "yes", "appendfsync": "always"}
    server.stop()
    server.dir.mkdir(exist_ok=True)
    server.start()
    async with connect(url) as backend:
        jobs = [Job(data=i, delay=i % 5, job_id=f"j{i}", index=bool(i % 3)) for i in range(500)]
        await DelayedQueue(backend, name).schedule_many(jobs)
    server.kill()
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME", "+3h")
    server.start()
    async with connect(url) as backend:
        queue = DelayedQueue(backend, name)
        assert (await queue.stats()).oldest_pending_lag_ms > 2.9 * HOUR_MS
        assert await queue.cancel_many(["j1", "j3", "j500"]) == (REMOVED, REMOVED, NOT_FOUND)
        assert not any(a.created for a in await queue.schedule_many(jobs[4:]))
        async with Promoter(backend, name).running():
            await until(lambda: drained(queue))
            assert not any(a.created for a in await queue.schedule_many(jobs[4:]))
            await until(lambda: drained(queue))
        arrived = [unpack_envelope(e.fields["d"]).id for e in await backend.read(name, StreamName.JOBS, "", 1_000)]
    assert sorted(arrived) == sorted(str(job.job_id) for job in jobs if job.job_id not in ("j1", "j3"))


async def drained(queue):
    return (await queue.stats()).depth == 0
