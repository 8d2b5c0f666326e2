"""Retries of ours and of ChasquiMQ's worker: overrides, attempts and ids stay."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import msgpack
import pytest

from promoter_core import Backoff, Promoter, RetriesExhausted, unpack_envelope
from promoter_core.spi import CHASQUIMQ, StreamName
from promoter_core.spi.wire import repack_attempt
from tests.older_server import older_server
from tests.server.bench import promote, until
from tests.server.beside_chasquimq.common import (
    CREATED,
    IDS,
    MOVED,
    PROMOTED,
    THEIR_DATA,
    chasquimq,
    each_id,
    fields_of,
    waiting,
)

pytestmark = pytest.mark.server


BACKOFFS = {
    "nothing": {},
    "attempts": {"attempts": 9},
    "fixed": {"backoff": 60_000},
    "exponential": {
        "attempts": 9,
        "backoff": {
            "kind": "exponential",
            "delay_ms": 60_000,
            "multiplier": 1.5,
            "max_delay_ms": 70_000,
            "jitter_ms": 0,
        },
    },
}


def as_their_worker_retries(envelope, job_name):
    """The member that their worker puts back: the job anew, with one attempt more."""
    id, payload, created_ms, attempt, *rest = msgpack.unpackb(envelope)
    created = b"\xcf" + created_ms.to_bytes(8, "big")  # as their packer writes it
    head = bytes([0x90 + 4 + len(rest)]) + msgpack.packb(id) + msgpack.packb(payload) + created
    return CHASQUIMQ.encode_member(job_name, head + msgpack.packb(attempt + 1) + b"".join(map(msgpack.packb, rest)))


@each_id
@pytest.mark.parametrize("overrides", BACKOFFS.values(), ids=BACKOFFS)
async def test_what_their_worker_writes_on_a_retry_is_read_kept_and_changed(
    client, queue, backend, theirs, name, id, overrides
):
    """Their worker acknowledges the entry and puts the job back by a plain ZADD, without an index."""
    await theirs.add("größe", THEIR_DATA, job_id=id, delay_ms=1, **overrides)
    await asyncio.sleep(0.005)
    assert (await promote(backend, name)).promoted == 1
    (fields,) = await fields_of(backend, name)
    member = as_their_worker_retries(fields["d"], "größe")
    assert CHASQUIMQ.decode_member(member)[1] == repack_attempt(fields["d"], 1), "ours writes the same"
    seconds, _ = await client.time()
    k = CHASQUIMQ.keys_of(name)
    await client.zadd(k.delayed, {member: (seconds + 60) * 1000})

    page = await queue.jobs()
    (job,) = page.jobs
    assert (job.id, job.attempt, job.data()) == (id, 1, THEIR_DATA)
    assert job.envelope.retry == unpack_envelope(fields["d"]).retry
    assert await queue.reschedule(job, delay=30) is MOVED
    assert await client.zrange(k.delayed, 0, -1) == [member], "byte for byte"
    assert await queue.run_now(job) is PROMOTED
    _, again = await fields_of(backend, name)
    assert again == {"d": CHASQUIMQ.decode_member(member)[1], "n": "größe".encode()}

    entry = (await backend.read(name, StreamName.JOBS, "", 10))[-1]
    retried = await queue.retry(entry, backoff=Backoff.fixed(45))
    assert retried.outcome is CREATED
    ((_, envelope),) = await waiting(client, name)
    assert envelope == repack_attempt(fields["d"], 2)
    assert unpack_envelope(envelope).retry == unpack_envelope(fields["d"]).retry
    job = await queue.get(id)
    assert job.attempt == 2
    wait_s = (job.due - (await queue.jobs()).now).total_seconds()
    expected_s = {None: 45, "fixed": 60, "exponential": 70}[job.envelope.retry and job.envelope.retry.kind]
    assert expected_s - 20 < wait_s <= expected_s
    assert await theirs.cancel_delayed(id), "a retry of ours has an index"
    assert (await theirs.add("again", 1, job_id=id, delay_ms=60_000)).id == id


@pytest.mark.parametrize("promoter", ["ours", "theirs"])
@pytest.mark.parametrize("id", [IDS["Unicode"], IDS["512 bytes"]], ids=["Unicode", "512 bytes"])
async def test_the_retries_of_their_worker_are_jobs_that_we_see_and_change(
    pair, client, queue, backend, theirs, name, id, promoter
):
    """Their worker fails each job once. It puts one back for half a minute, which we run now, and ours for 0.1 s."""
    server, _ = pair
    if server.name != "redis-8.2":
        pytest.skip("their worker acknowledges with XACKDEL, which came with Redis 8.2")
    runs = []

    async def fail_once(job):
        runs.append((job.id, job.attempt, job.data))
        if not job.attempt:
            raise RuntimeError("once")

    await theirs.add("größe", THEIR_DATA, job_id=id, delay_ms=1, attempts=3, backoff=60_000)
    await queue.schedule(THEIR_DATA, name="größe", job_id="ours", keep_id_for=0)
    ours = Promoter(backend, name).running() if promoter == "ours" else contextlib.nullcontext()
    async with older_server(server.port) as url, ours:
        worker = chasquimq.Worker(
            name, fail_once, redis_url=url, read_block_ms=50, delayed_enabled=promoter == "theirs", run_scheduler=False
        )
        running = asyncio.create_task(worker.run())

        async def is_put_back():  # by its id it is found only until a second after it was due first
            return next((job for job in (await queue.jobs(details=True)).jobs if job.id == id and job.attempt), None)

        job = await until(is_put_back)
        assert (job.name, job.attempt, job.data(), job.unique) == ("größe", 1, THEIR_DATA, False)
        assert (job.envelope.retry.max_attempts, job.envelope.retry.kind) == (3, "fixed")
        assert job.due > (await queue.jobs()).now + timedelta(seconds=10)
        assert await queue.reschedule(job, delay=600) is MOVED
        assert ("größe", job.stored.envelope) in await waiting(client, name), "byte for byte"
        assert await queue.run_now(job) is PROMOTED
        await until(lambda: len(runs) == 4)
        await worker.close()
        await running
    assert sorted(runs[:2], key=str) == sorted([(id, 0, THEIR_DATA), ("ours", 0, THEIR_DATA)], key=str)
    assert sorted(runs[2:], key=str) == sorted([(id, 1, THEIR_DATA), ("ours", 1, THEIR_DATA)], key=str)
    assert (await queue.stats()).depth == 0


async def test_overrides_of_theirs_end_our_retries(queue, backend, theirs, name):
    await theirs.add("n", 1, job_id="a", delay_ms=1, attempts=2)
    await asyncio.sleep(0.005)
    await promote(backend, name)
    (first,) = await backend.read(name, StreamName.JOBS, "", 10)
    await queue.retry(first, delay=0)
    await promote(backend, name)
    second = (await backend.read(name, StreamName.JOBS, "", 10))[-1]
    with pytest.raises(RetriesExhausted):
        await queue.retry(second, delay=0)
    assert (await queue.stats()).depth == 0
