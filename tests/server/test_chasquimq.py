"""Together with the real ChasquiMQ: its producer and its event reader, on the same queue as ours."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime

import pytest

from promoter_core import DelayedQueue, JobOutcome, Promoter, unpack_envelope
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
from tests.leap import leap

chasquimq = pytest.importorskip("chasquimq")
pytestmark = pytest.mark.server

HOUR_MS = 3_600_000
REMOVED, NOT_FOUND = JobOutcome.REMOVED, JobOutcome.NOT_FOUND


@pytest.fixture
async def theirs(valkey, name):
    queue = chasquimq.Queue(name, redis_url=valkey.url)
    yield queue
    await queue.close()


async def state(client, name, id):
    """The traces of a scheduled job on the server."""
    k = CHASQUIMQ.keys_of(name)
    ((member, score),) = await client.zrange(k.delayed, 0, -1, withscores=True)
    index, marker = k.index + id.encode(), k.marker + id.encode()
    keys = {key: (await client.get(key), await client.ttl(key)) for key in (index, marker)}
    return member, score, keys


async def test_our_member_is_theirs_but_for_the_time(backend, client, theirs, name):
    data = {"to": "a@b.c", "n": 1, "deep": [None, 2.5, "ä"]}
    await theirs.add("send-email", data, job_id="my-id-1", delay_ms=60_000)
    their_member, their_score, their_keys = await state(client, name, "my-id-1")
    await client.flushall()
    await DelayedQueue(backend, name).schedule(data, name="send-email", job_id="my-id-1", delay=60)
    our_member, our_score, our_keys = await state(client, name, "my-id-1")

    def without_time(member):
        job_name, envelope = CHASQUIMQ.decode_member(member)
        created = unpack_envelope(envelope).created_at_ms.to_bytes(8, "big")
        assert b"\xcf" + created in envelope
        return job_name, envelope.replace(created, b"")

    assert without_time(our_member) == without_time(their_member)
    assert abs(our_score - their_score) < 5_000
    for (key, (ours, our_ttl)), (their_key, (their_value, their_ttl)) in zip(
        our_keys.items(), their_keys.items(), strict=True
    ):
        assert key == their_key
        if key.endswith(b"didx:my-id-1"):
            assert our_ttl == -1, "it goes with the job, and never before"
        else:
            assert abs(our_ttl - their_ttl) <= 1
        assert ours == (our_member if key.endswith(b"didx:my-id-1") else b"1")
        assert their_value == (their_member if key.endswith(b"didx:my-id-1") else b"1")


async def test_our_promoter_promotes_what_their_producer_schedules(backend, client, theirs, name):
    jobs = [
        await theirs.add("task", {"i": i}, delay_ms=30 + i, **({"job_id": f"j{i}"} if i % 2 else {})) for i in range(40)
    ]
    async with Promoter(backend, name).running():
        async with asyncio.timeout(10):
            while await client.xlen(CHASQUIMQ.keys_of(name).stream) < 40:
                await asyncio.sleep(0.01)
    entries = await backend.read(name, StreamName.JOBS, "", 100)
    assert sorted(unpack_envelope(e.fields["d"]).id for e in entries) == sorted(job.id for job in jobs)
    assert {e.fields["n"] for e in entries} == {b"task"}
    assert unpack_envelope(entries[0].fields["d"]).data() == {"i": 0}


async def test_their_idempotence_and_ours_share_the_marker(backend, theirs, name):
    await theirs.add("task", 1, job_id="j", delay_ms=60_000)
    queue = DelayedQueue(backend, name)
    assert not (await queue.schedule(2, delay=60, job_id="j")).created
    assert await queue.cancel("j") is JobOutcome.REMOVED
    assert (await queue.schedule(2, delay=60, job_id="j")).created


async def test_their_queue_events_reads_our_waiting_events(valkey, backend, theirs, name):
    events = chasquimq.QueueEvents(name, redis_url=valkey.url, last_event_id="0", block_ms=100)
    await DelayedQueue(backend, name).schedule(1, name="invoice", job_id="j", delay=0.02)
    async with Promoter(backend, name).running():
        async with asyncio.timeout(10):
            async for event in events:
                assert (event.name, event.job_id, event.job_name) == ("waiting", "j", "invoice")
                assert isinstance(event.fields["ts"], int)
                break
    with contextlib.suppress(Exception):
        await events.close()


async def test_their_jobs_are_known_for_as_long_as_they_wait(client, backend, theirs, name):
    for i in range(3):
        await theirs.add("task", i, job_id=f"j{i}", delay_ms=1_000)
    plain = await theirs.add("task", 4, delay_ms=1_000)
    await leap(client, name, 5 * 3_600_000)
    queue = DelayedQueue(backend, name)
    assert not (await queue.schedule(1, delay=60, job_id="j0")).created
    assert await queue.cancel_many(["j1", plain.id, "j9"]) == (REMOVED, REMOVED, NOT_FOUND)
    assert (await queue.schedule(1, delay=60, job_id="j1")).created
    async with Promoter(backend, name).running():
        async with asyncio.timeout(10):
            while await client.xlen(CHASQUIMQ.keys_of(name).stream) < 2:
                await asyncio.sleep(0.01)
    entries = await backend.read(name, StreamName.JOBS, "", 100)
    assert sorted(unpack_envelope(e.fields["d"]).id for e in entries) == ["j0", "j2"]
    assert await queue.cancel("j0") is JobOutcome.ALREADY_PROMOTED
    assert not (await queue.schedule(1, delay=60, job_id="j2")).created


async def test_their_jobs_are_changed_by_us_and_ours_are_cancelled_by_them(client, backend, theirs, name):
    """Whoever scheduled a job: each finds it, and sees its id taken as long as it waits."""
    ids = [(await theirs.add("task", {"n": i}, delay_ms=60_000, job_id=f"job-é{i}")).id for i in range(4)]
    plain = (await theirs.add("task", 5, delay_ms=60_000)).id
    jobs = await backend.get_jobs(name, [*ids, plain])
    assert [(job.id, job.name, job.unique) for job in jobs] == [(id, "task", id != plain) for id in [*ids, plain]]
    request = JobRequest(ids[1], pack_envelope(ids[1], b"\xc0", 0, 0), delay_ms=9 * HOUR_MS, unique=True)
    changes = [Reschedule(job=ids[0], delay_ms=9 * HOUR_MS), Replace(request=request), RunNow(job=ids[2])]
    moved = Reschedule(job=plain, delay_ms=9 * HOUR_MS)
    outcomes = await backend.change_jobs(name, [*changes, Remove(job=ids[3]), moved])
    assert [outcome.value for outcome in outcomes] == ["moved", "replaced", "promoted", "removed", "moved"]
    (entry,) = await backend.read(name, StreamName.JOBS, "", 10)
    assert entry.fields == {"d": jobs[2].envelope, "n": b"task"}, "byte for byte"
    await leap(client, name, 8 * HOUR_MS)
    depth = (await backend.stats(name)).depth
    for id in ids[:2]:
        await theirs.add("task", 1, delay_ms=60_000, job_id=id)
    assert (await backend.stats(name)).depth == depth, "their producer finds the ids taken"
    assert [await theirs.cancel_delayed(id) for id in [*ids[:2], "never"]] == [True, True, False]
    assert (await backend.stats(name)).depth == 1


@pytest.mark.parametrize("serializer", ["msgpack", "msgspec", "pydantic"])
async def test_their_workers_decode_what_ours_pack_and_ours_read_what_theirs_pack(backend, theirs, name, serializer):
    from chasquimq._encoding import decode_payload  # which makes `job.data` in their workers

    if serializer != "msgpack":
        pytest.importorskip(serializer)
    plain = {"to": "ä@b.c", "due": "2030-01-02T03:04:05Z", "raw": b"\xff", "n": [2**64 - 1, 1.5, None]}
    given = plain if serializer == "msgpack" else plain | {"due": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)}
    await theirs.add("task", plain, job_id="theirs", delay_ms=1)
    await DelayedQueue(backend, name, serializer=serializer).schedule(given, name="task", job_id="ours")
    async with Promoter(backend, name).running():
        async with asyncio.timeout(10):
            while len(entries := await backend.read(name, StreamName.JOBS, "", 100)) < 2:
                await asyncio.sleep(0.01)
    jobs = {job.id: job for job in (unpack_envelope(e.fields["d"]) for e in entries)}
    assert jobs["ours"].payload == jobs["theirs"].payload
    assert decode_payload(jobs["ours"].payload) == plain
    for job in jobs.values():
        assert job.data(serializer) == plain
        if serializer != "msgpack":
            assert job.data(serializer, Task) == Task(**given)


@dataclasses.dataclass
class Task:
    to: str
    due: datetime
    raw: bytes
    n: list[int | float | None]
