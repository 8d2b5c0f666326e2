"""Jobs of ChasquiMQ's producer and of plain clients, our calls."""

from __future__ import annotations

import asyncio
import contextlib

import msgpack
import pytest

from promoter_core import unpack_envelope
from promoter_core.spi import CHASQUIMQ, StreamName
from promoter_resp.waiting_jobs import WaitingJobs
from tests.leap import leap
from tests.server.beside_chasquimq.common import (
    ALREADY_PROMOTED,
    BINARY_ID,
    HOUR_MS,
    IDS,
    MOVED,
    NOT_FOUND,
    PROMOTED,
    REMOVED,
    REPLACED,
    THEIR_DATA,
    chasquimq,
    fields_of,
    plain_zadd,
    waiting,
)

pytestmark = pytest.mark.server


def their_add(job_id=None, **more):
    async def make(client, theirs, name):
        id = {} if job_id is None else {"job_id": job_id}
        return (await theirs.add("größe", THEIR_DATA, delay_ms=60_000, **id, **more)).id

    return make


def their_add_unique(job_id):
    async def make(client, theirs, name):
        return (await theirs.add_unique("größe", THEIR_DATA, job_id=job_id, delay_ms=60_000)).id

    return make


def zadd(id, *more):
    async def make(client, theirs, name):
        return await plain_zadd(client, name, id, THEIR_DATA, job_name="größe", extra=more)

    return make


MAKERS = {
    "add": their_add(),
    "add with an id": their_add("a"),
    **{f"add_unique, {kind}": their_add_unique(id) for kind, id in IDS.items()},
    "add with overrides": their_add(attempts=7, backoff=chasquimq.BackoffSpec.exponential(50)),
    "ZADD": zadd("zadd"),
    "ZADD, a binary id": zadd(BINARY_ID),
    "ZADD, more in the envelope": zadd("more", [3, ["fixed", 5, None, None, None]], "of tomorrow"),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
by = pytest.mark.parametrize("by", ["id", "seen"])


@pytest.fixture
async def their_job(client, theirs, name, make):
    """One of their jobs: its id and the member."""
    id = await make(client, theirs, name)
    (member,) = await waiting(client, name)
    return id, member


@each_maker
async def test_we_see_a_job_of_theirs(queue, their_job):
    id, (job_name, envelope) = their_job
    job = await queue.get(id)
    assert (job.id, job.name, job.data(), job.attempt) == (id, job_name, THEIR_DATA, 0)
    assert job.stored.envelope == envelope
    page = await queue.jobs(details=True)
    assert (page.jobs, page.cursor) == ((job,), "")
    assert [job async for job in queue.scan(details=True)] == [job]
    assert await queue.count() == 1
    assert (await queue.jobs(name="größe", details=True)).jobs == (job,)
    assert await queue.get_many([id, "other", job]) == (job, None, job)


@each_maker
@by
async def test_we_reschedule_a_job_of_theirs_and_it_stays_as_it_is(client, queue, theirs, name, their_job, by):
    id, member = their_job
    unique = (await queue.get(id)).unique
    assert await queue.reschedule(id if by == "id" else await queue.get(id), delay=7_200) is MOVED
    assert await waiting(client, name) == [member], "byte for byte"
    job = await queue.get(id)
    assert abs((job.due - (await queue.jobs()).now).total_seconds() - 7_200) < 60
    assert job.unique == unique
    if unique:
        await leap(client, name, 2 * HOUR_MS - 60_000)
        await theirs.add("again", 1, job_id=id, delay_ms=60_000)
        assert await waiting(client, name) == [member], "its id is taken for longer, too"
        assert await theirs.cancel_delayed(id)


@each_maker
@by
async def test_we_run_a_job_of_theirs_now(client, queue, backend, name, their_job, by):
    id, (job_name, envelope) = their_job
    job = await queue.get(id)
    assert await queue.run_now(id if by == "id" else job) is PROMOTED
    assert await fields_of(backend, name) == [{"d": envelope, "n": job_name.encode()}]
    (event,) = await backend.read(name, StreamName.EVENTS, "", 10)
    assert (event.fields["e"], event.fields["id"]) == (b"waiting", id.encode("utf-8", "surrogateescape"))
    assert await queue.get(id) is None
    assert await queue.run_now(id if by == "id" else job) is (ALREADY_PROMOTED if job.unique else NOT_FOUND)


@each_maker
@by
async def test_we_replace_a_job_of_theirs(client, queue, theirs, name, their_job, by):
    id, _ = their_job
    job = await queue.get(id)
    assert await queue.replace(id if by == "id" else job, {"new": 1}) is REPLACED
    ((job_name, envelope),) = await waiting(client, name)
    assert (job_name, unpack_envelope(envelope).data(), unpack_envelope(envelope).id) == ("größe", {"new": 1}, id)
    now = await queue.get(id)
    assert (now.due, now.unique) == (job.due, True)
    if id != BINARY_ID:
        assert await theirs.cancel_delayed(id)
        assert await waiting(client, name) == []


@each_maker
@by
async def test_we_cancel_a_job_of_theirs(client, queue, theirs, name, their_job, by):
    id, _ = their_job
    assert await queue.cancel(id if by == "id" else await queue.get(id)) is REMOVED
    assert await waiting(client, name) == []
    assert await queue.cancel(id) is NOT_FOUND
    assert {key async for key in client.scan_iter(CHASQUIMQ.keys_of(name).prefix + b"*")} == set()
    if id != BINARY_ID:
        await theirs.add("again", 1, job_id=id, delay_ms=60_000)
        assert len(await waiting(client, name)) == 1, "its id is free for them"


async def test_jobs_without_an_index_are_found_among_the_first_ten_thousand(client, queue, theirs, name):
    k = CHASQUIMQ.keys_of(name)
    seconds, _ = await client.time()
    for first in range(0, 10_000, 2_000):
        packed = {f"j{i}": msgpack.packb([f"j{i}", b"\xc0", 1, 0]) for i in range(first, first + 2_000)}
        jobs = {CHASQUIMQ.encode_member("", envelope): seconds * 1000 + 60_000 for envelope in packed.values()}
        await client.zadd(k.delayed, jobs)
    early = (await theirs.add("n", "early", delay_ms=30_000)).id
    late = (await theirs.add("n", "late", delay_ms=90_000)).id
    assert (await queue.get(early)).data() == "early"
    assert await queue.get(late) is None
    assert await queue.reschedule(late, delay=1) is NOT_FOUND
    (last,) = (await queue.jobs(limit=1, reverse=True)).jobs
    assert last.id == late
    assert await queue.replace(last, "new") is NOT_FOUND, "a replacement is by its id"
    assert await queue.reschedule(last, delay=1) is MOVED, "as it was seen it is found wherever it is"
    assert await queue.cancel(late) is REMOVED


async def test_a_replaced_job_of_theirs_has_no_overrides_and_no_attempts(queue, theirs):
    """Of the job before nothing stays."""
    await theirs.add("n", 1, job_id="a", delay_ms=60_000, attempts=2, backoff=5)
    assert (await queue.get("a")).envelope.retry is not None
    assert await queue.replace("a", 2) is REPLACED
    envelope = (await queue.get("a")).envelope
    assert (envelope.attempt, envelope.retry) == (0, None)


async def test_their_events_reader_sees_a_job_that_we_run(server, queue, theirs, name):
    events = chasquimq.QueueEvents(name, redis_url=server.url, last_event_id="0", block_ms=100)
    await theirs.add("größe", 1, job_id="j\N{SNOWMAN}", delay_ms=60_000)
    assert await queue.run_now("j\N{SNOWMAN}") is PROMOTED
    async with asyncio.timeout(10):
        async for event in events:
            assert (event.name, event.job_id, event.job_name) == ("waiting", "j\N{SNOWMAN}", "größe")
            break
    with contextlib.suppress(Exception):
        await events.close()


async def test_a_job_that_is_replaced_while_we_look_for_it_is_found(queue, backend, theirs, monkeypatch):
    """Between the look, which finds the member, and the answer, another process puts a job in its place."""
    id = (await theirs.add("n", 1, delay_ms=60_000)).id
    look = WaitingJobs._look

    async def and_then_replaced(self, *args):
        found = await look(self, *args)
        monkeypatch.undo()
        assert await queue.replace(id, 2) is REPLACED
        return found

    monkeypatch.setattr(WaitingJobs, "_look", and_then_replaced)
    assert (await queue.get(id)).data() == 2
