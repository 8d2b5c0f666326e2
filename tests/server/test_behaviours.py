"""Behaviours of ChasquiMQ's promoter that must hold, on a real server and on the wire."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from promoter_core import DelayedQueue, JobOutcome, PermanentError
from promoter_core.spi import CHASQUIMQ, LeaseHeld, PromotionRequest
from tests.server.bench import member, now_ms, promote

pytestmark = pytest.mark.server

REQUEST = PromotionRequest(limit=256, max_stream_len=1_000_000)


async def test_the_entry_holds_d_and_n_only_when_named(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a", "send-email"): 1, member("b"): 2})
    await promote(backend, name)
    entries = [fields for _, fields in await client.xrange(keys.stream)]
    assert entries == [
        {b"d": msgpack.packb(["a", b"\xc0", 1, 0]), b"n": b"send-email"},
        {b"d": msgpack.packb(["b", b"\xc0", 1, 0])},
    ]


async def test_due_is_by_the_servers_clock_and_at_most_a_batch(backend, client, name, keys):
    now = await now_ms(client)
    await client.zadd(keys.delayed, {member(f"{i}"): now - 1 for i in range(5)} | {member("later"): now + 60_000})
    p = await promote(backend, name, limit=3)
    assert (p.promoted, p.depth) == (3, 3)
    p = await promote(backend, name, limit=3)
    assert (p.promoted, p.depth, p.next_due_ms) == (2, 1, now + 60_000)


async def test_lag_is_that_of_the_oldest_still_pending_and_zero_when_none_is_due(backend, client, name, keys):
    now = await now_ms(client)
    await client.zadd(keys.delayed, {member("a"): now - 9_000, member("b"): now - 5_000, member("c"): now + 60_000})
    p = await promote(backend, name, limit=1)
    assert 5_000 <= p.oldest_pending_lag_ms < 8_000
    p = await promote(backend, name)
    assert p.oldest_pending_lag_ms == 0


async def test_didx_is_deleted_and_dlid_kept(backend, client, name, keys):
    await DelayedQueue(backend, name).schedule("x", delay=0.01, job_id="j")
    assert await client.exists(keys.index + b"j", keys.marker + b"j") == 2
    await asyncio.sleep(0.05)
    await promote(backend, name)
    assert not await client.exists(keys.index + b"j")
    assert await client.get(keys.marker + b"j") == b"1"
    assert 3_500 < await client.ttl(keys.marker + b"j") <= 3_601


async def deleted(client):
    return (await client.info("commandstats")).get("cmdstat_del", {"calls": 0})["calls"]


@pytest.mark.parametrize("job_name", ["", "send-email"])
async def test_no_index_is_dropped_of_jobs_that_say_that_they_have_none(backend, client, name, keys, job_name):
    queue = DelayedQueue(backend, name, index=False)
    ids = [(await queue.schedule(i, name=job_name)).id for i in range(9)]
    assert not await client.keys(f"{keys.index.decode()}*")
    before = await deleted(client)
    p = await promote(backend, name, want_jobs=True)
    assert await deleted(client) == before
    assert [job.id for job in p.jobs] == sorted(ids)
    assert [fields[b"id"].decode() for _, fields in await client.xrange(keys.events)] == sorted(ids)
    await queue.schedule(1, name=job_name, index=True)
    one, other = await queue.schedule(1, name=job_name), await queue.schedule(1, name=job_name, job_id="j")
    assert await queue.cancel(one) is JobOutcome.REMOVED
    assert (await promote(backend, name)).promoted == 2
    assert not await client.keys(f"{keys.index.decode()}*")
    assert await queue.cancel(other) is JobOutcome.ALREADY_PROMOTED


async def test_one_waiting_event_a_decodable_job_and_none_when_disabled(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a", "n"): 1, b"\0\0\0\0no msgpack": 2, member("b"): 3})
    p = await promote(backend, name)
    events = [fields for _, fields in await client.xrange(keys.events)]
    ts = b"%d" % p.now_ms
    assert events == [
        {b"e": b"waiting", b"id": b"a", b"ts": ts, b"n": b"n"},
        {b"e": b"waiting", b"id": b"b", b"ts": ts},
    ]
    await client.zadd(keys.delayed, {member("c"): 1})
    await promote(backend, name, events=False)
    assert await client.xlen(keys.events) == 2


@pytest.mark.parametrize(
    "envelope",
    [
        b"garbage",
        b"\xc1",
        b"\x94\x07\xc0\x01\x00",
        b"\x90",
        b"\x94\xd9\xff\x61",
        b"\x94\xa5ab",
        b"\xdd\xff\xff\xff\xff\xdb\xff\xff\xff\xff",
    ],
)
async def test_a_job_whose_id_cannot_be_decoded_is_promoted_without_event_or_cleanup(
    backend, client, name, keys, envelope
):
    await client.zadd(keys.delayed, {CHASQUIMQ.encode_member("n", envelope): 1})
    p = await promote(backend, name)
    assert (p.promoted, p.malformed, [j.id for j in p.jobs]) == (1, 0, [None])
    assert [f for _, f in await client.xrange(keys.stream)] == [{b"d": envelope, b"n": b"n"}]
    assert await client.xlen(keys.events) == 0


@pytest.mark.parametrize("id", ["x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 70_000, "ü", ""])
async def test_ids_of_every_msgpack_length_are_decoded(backend, client, name, keys, id):
    await client.zadd(keys.delayed, {member(id): 1})
    p = await promote(backend, name)
    assert p.jobs[0].id == id


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (b"\1\0", b"shorter than its header"),
        (b"\xff\xff\xff\xffxx", b"the name runs past the end"),
        (b"\1\0\0\0n", b"empty payload"),
    ],
)
async def test_a_malformed_member_goes_to_the_dlq_and_the_batch_goes_on(backend, client, name, keys, bad, detail):
    await client.zadd(keys.delayed, {member("a"): 1, bad: 2, member("b"): 3})
    p = await promote(backend, name)
    assert (p.promoted, p.malformed, p.depth) == (2, 1, 0)
    ((_, fields),) = await client.xrange(keys.dlq)
    assert fields == {b"source_id": b"delayed", b"reason": b"malformed", b"detail": detail, b"d": bad}


async def test_large_jobs_are_moved_a_few_at_a_time_and_the_rest_is_told_of(backend, client, name, keys):
    small = {member(f"s{i}"): i for i in range(40)}
    large = {member(f"l{i}", data=b"x" * 2**19): 100 + i for i in range(20)}
    await client.zadd(keys.delayed, small | large)
    first = await promote(backend, name)
    assert 40 < first.promoted < 50  # not the 60 that the limit allows: half a MiB each
    assert first.depth == 60 - first.promoted
    assert first.oldest_pending_lag_ms > 0
    moved = first.promoted
    while moved < 60:
        p = await promote(backend, name)
        assert 1 <= p.promoted <= 3
        moved += p.promoted
    assert await client.xlen(keys.stream) == 60
    assert await client.xlen(keys.events) == 60


async def test_a_stream_of_the_wrong_type_is_a_permanent_error_and_nothing_leaves_the_set(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1})
    await client.set(keys.stream, "x")
    with pytest.raises(PermanentError, match="WRONGTYPE") as raised:
        await promote(backend, name)
    assert raised.value.code == "WRONGTYPE"
    assert await client.zcard(keys.delayed) == 1


async def test_an_events_key_of_the_wrong_type_does_not_stop_promotion(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1})
    await client.set(keys.events, "x")
    assert (await promote(backend, name)).promoted == 1


async def test_an_add_that_fails_midway_leaves_the_rest_in_the_set(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1, b"\1\0": 2, member("b"): 3})
    await client.set(keys.dlq, "not a stream")  # the second of three cannot be added
    p = await promote(backend, name)
    assert (p.promoted, p.depth) == (1, 2)
    assert await client.xlen(keys.stream) == 1
    assert not isinstance(p, LeaseHeld)
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await promote(backend, name)
    assert await client.zcard(keys.delayed) == 2


async def test_a_stream_that_takes_no_more_entries_keeps_the_rest_in_the_set(backend, client, name, keys):
    await client.xadd(keys.stream, {"d": "x"}, id="18446744073709551615-18446744073709551614")
    await client.zadd(keys.delayed, {member("a"): 1, member("b"): 2, member("c"): 3})
    p = await promote(backend, name)  # one id is left
    assert (p.promoted, p.depth, [j.id for j in p.jobs]) == (1, 2, ["a"])
    assert await client.xlen(keys.events) == 1
    with pytest.raises(PermanentError, match="exhausted"):
        await promote(backend, name)
    assert await client.zcard(keys.delayed) == 2


async def test_a_lock_key_without_end_is_held_for_an_unknown_time(backend, client, name, keys):
    await client.set(keys.lock, "foreign")
    assert await backend.lock(name, "me", 1_000) == LeaseHeld(None, "foreign")


async def test_a_failed_schedule_leaves_no_marker(backend, client, name, keys):
    await client.set(keys.delayed, "not a sorted set")
    queue = DelayedQueue(backend, name)
    with pytest.raises(PermanentError):
        await queue.schedule("x", delay=1, job_id="j")
    await client.delete(keys.delayed)
    assert (await queue.schedule("x", delay=1, job_id="j")).created
