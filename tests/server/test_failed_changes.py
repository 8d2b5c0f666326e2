"""Calls that fail midway or whose jobs move meanwhile: nothing is half done, promoters are woken, no call is long."""

from __future__ import annotations

import contextlib
import os

import pytest
from redis.asyncio import Redis

from promoter_core import PermanentError, connect
from promoter_core.spi import (
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
    unpack_envelope,
)
from tests.server.bench import member
from tests.server.test_waiting_jobs import contents, request

pytestmark = pytest.mark.server

FULL = {"unique": True, "traceparent": "00-a", "keep_id_ms": 5}


@pytest.mark.parametrize("bare", [False, True], ids=["the job's", "bare"])
@pytest.mark.parametrize("part", ["index", "marker", "trace", "keep"])
async def test_a_key_of_another_type_is_met_before_anything_is_written(backend, client, name, keys, part, bare):
    await backend.schedule(name, [request("a", **FULL), request("z")])
    (job,) = [job for job in (await backend.list_jobs(name, JobQuery())).jobs if job.id == "a"]
    key = getattr(keys, part) + (b"" if bare else b"a")
    await client.delete(key)
    await client.rpush(key, "of another type")
    before = await contents(client, keys)
    for change in (
        Reschedule(job=job, delay_ms=5_000),
        Replace(request=request("a", unique=True), keep_data=True),
        Replace(request=request("a", **FULL, name="new")),
        RunNow(job=job),
        Remove(job=job),
    ):
        try:
            await backend.change_jobs(name, [change])
        except PermanentError:
            assert await contents(client, keys) == before, change
        else:
            before = await contents(client, keys)


async def test_whatever_a_key_of_one_job_is_no_other_job_of_the_call_has_an_index_and_is_not_there(
    backend, client, name, keys
):
    await backend.schedule(name, [request("bad", unique=True, keep_id_ms=0)])
    await client.delete(keys.delayed, keys.index + b"bad", keys.marker + b"bad")
    await client.rpush(keys.index + b"bad", "of another type")
    await backend.schedule(name, [request(id) for id in ("a", "b", "c", "bad", "d")])
    waits = set(await client.zrange(keys.delayed, 0, -1))
    assert {await client.get(keys.index + id) for id in (b"a", b"b", b"c", b"bad", b"d")} == waits


@pytest.mark.parametrize("call", ["schedule", "change"])
async def test_a_new_head_is_announced_though_a_later_part_of_the_call_fails(backend, client, name, keys, call):
    await backend.schedule(name, [request("a"), request("b")])
    await client.set(keys.stream, "of another type")
    await client.rpush(keys.index + b"bad", "of another type")
    async with client.pubsub() as channel:
        await channel.subscribe(keys.wake)
        assert (await channel.get_message(timeout=5))["type"] == "subscribe"
        calls = {
            "schedule": lambda: backend.schedule(name, [request("new", delay_ms=1_000), request("bad", unique=True)]),
            "change": lambda: backend.change_jobs(name, [Reschedule(job="a", delay_ms=1_000), RunNow(job="b")]),
        }
        with pytest.raises(PermanentError, match="WRONGTYPE"):
            await calls[call]()
        assert await client.zcount(keys.delayed, "-inf", (await client.time())[0] * 1000 + 60_000) == 1
        assert (await channel.get_message(timeout=5))["data"] == keys.delayed


@pytest.mark.parametrize("what", ["get", "cancel", "mark"])
async def test_a_look_goes_on_in_its_place_though_its_last_job_moves_meanwhile(backend, client, name, keys, what):
    """To the far future, say: all jobs between are looked at still."""
    ids = [f"j{i:05}" for i in range(3_000)]
    first_ms = 1_000 if what == "mark" else 2 * 10**12
    await client.zadd(keys.delayed, {member(id): first_ms + i for i, id in enumerate(ids)})
    look = backend._waiting._look

    async def look_and_move(queue, at, wanted):
        step = await look(queue, at, wanted)
        if step.member:
            await client.zadd(keys.delayed, {step.member: 10**13})
        return step

    backend._waiting._look = look_and_move
    if what == "get":
        assert [job.id for job in await backend.get_jobs(name, [ids[1_500], ids[2_500]])] == [ids[1_500], ids[2_500]]
    elif what == "cancel":
        assert await backend.cancel(name, [ids[1_500], "none"]) == (JobOutcome.REMOVED, JobOutcome.NOT_FOUND)
    else:
        (answer,) = await backend.schedule(name, [request(ids[1_500], unique=True)])
        assert answer.outcome is JobOutcome.KEPT


@pytest.mark.parametrize("by_id", [True, False], ids=["by id", "itself"])
async def test_large_jobs_are_changed_a_megabyte_a_call_and_run_in_order(backend, client, name, by_id):
    ids = [f"j{i:02}" for i in range(12)]
    large = [JobRequest(id, pack_envelope(id, os.urandom(400_000), 1, 0), delay_ms=600_000) for id in ids]
    await backend.schedule(name, large)
    jobs = ids[::-1] if by_id else list(await backend.get_jobs(name, ids[::-1]))
    for changes, most in (
        ([Reschedule(job=job, delay_ms=700_000) for job in jobs], 3),
        ([Reschedule(job=job, delay_ms=800_000) for job in (*jobs, jobs[0])], 3),
        ([RunNow(job=job) for job in jobs[:8]], 3),
        ([Remove(job=job) for job in jobs[8:]], 3),
    ):
        await client.execute_command("CONFIG", "RESETSTAT")
        outcomes = await backend.change_jobs(name, changes)
        assert set(outcomes) & {JobOutcome.NOT_FOUND, JobOutcome.ALREADY_PROMOTED} == set()
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] >= len(changes) / most
    entries = await backend.read(name, StreamName.JOBS, "", 100)
    assert [unpack_envelope(entry.fields["d"]).id for entry in entries] == ids[::-1][:8]
    assert (await backend.stats(name)).depth == 0


@pytest.mark.parametrize("command", ["set", "del", "zadd", "zrem", "xadd", "exists", "pttl", "get", "zcard"])
async def test_what_a_users_permissions_refuse_has_changed_nothing(server, command, name, keys):
    async with connect(server.url) as backend, Redis(port=server.port) as client:
        await client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", f"-{command}")
        async with connect(f"redis://u:p@{server.address}") as limited:
            assert isinstance(limited, ManagementSupport)
            for call in (
                lambda: limited.change_jobs(name, [Reschedule(job="a", delay_ms=5_000)]),
                lambda: limited.change_jobs(name, [RunNow(job="a")]),
                lambda: limited.change_jobs(name, [Remove(job="a")]),
                lambda: limited.change_jobs(name, [Replace(request=request("a", name="new", **FULL))]),
                lambda: limited.change_jobs(name, [Replace(request=request("a", name="new"))]),
                lambda: limited.schedule(name, [request("new", traceparent="00-b")]),
                lambda: limited.schedule(name, [request("new", **FULL)]),
            ):
                await client.flushdb()
                await backend.schedule(name, [request("a", **FULL), request("z")])
                before = await contents(client, keys)
                with contextlib.suppress(PermanentError):
                    await call()
                    continue
                assert await contents(client, keys) == before
