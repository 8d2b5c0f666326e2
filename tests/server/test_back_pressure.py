"""A full stream: acknowledged entries make room, unread ones are never dropped, and who holds it up is told."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import Overflow, Promoter, PromoterSettings, connect
from promoter_core.testing import RecordingMetrics
from tests.server.bench import member, promote, until

pytestmark = pytest.mark.server

CAP = 100


async def fill(client, keys, jobs):
    await client.zadd(keys.delayed, {member(f"{i:06}"): i + 1 for i in range(jobs)})


async def read(client, keys, group, count):
    """Read some new entries; their ids."""
    entries = await client.xreadgroup(group, "c", {keys.stream: ">"}, count=count)
    return [(id, fields[b"d"]) for _, items in entries or () for id, fields in items]


async def slow_group(client, keys, jobs, seen):
    """Acknowledges without deleting, a few at a time."""
    while len(seen) < jobs:
        some = await read(client, keys, "slow", 40)
        if not some:
            await asyncio.sleep(0.005)
            continue
        seen += [d for _, d in some]
        await client.xack(keys.stream, "slow", *(id for id, _ in some))


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_a_slow_group_that_acknowledges_without_deleting_loses_nothing(valkey, client, name, keys, scheme):
    jobs, metrics = 10_000, RecordingMetrics()
    seen: list[str] = []
    await client.xgroup_create(keys.stream, "slow", id="0", mkstream=True)
    await fill(client, keys, jobs)
    async with connect(f"{scheme}://{valkey.address}") as backend:
        settings = PromoterSettings(max_stream_len=CAP, poll_interval_ms=10)
        async with Promoter(backend, name, settings, metrics=[metrics]).running():
            async with asyncio.timeout(90):
                await slow_group(client, keys, jobs, seen)
    assert len(seen) == len(set(seen)) == jobs
    assert any(t.promotion.held_back for _, t in metrics.ticks)
    assert await client.xlen(keys.stream) <= CAP


async def test_trim_loses_unread_entries_where_hold_does_not(backend, client, name, keys):
    await client.xgroup_create(keys.stream, "slow", id="0", mkstream=True)
    await fill(client, keys, 2_000)
    for _ in range(10):
        await promote(backend, name, max_stream_len=CAP, overflow=Overflow.TRIM)
    assert await client.zcard(keys.delayed) == 0
    assert await client.xlen(keys.stream) < 500


async def test_without_a_consumer_group_nothing_is_trimmed(backend, client, name, keys):
    await fill(client, keys, 300)
    for _ in range(3):
        p = await promote(backend, name, max_stream_len=CAP)
    assert (p.promoted, p.held_back) == (0, 200)
    assert await client.xlen(keys.stream) == CAP


async def test_what_one_of_two_groups_has_not_finished_stays(backend, client, name, keys):
    for group in ("quick", "stuck"):
        await client.xgroup_create(keys.stream, group, id="0", mkstream=True)
    await fill(client, keys, 300)
    await promote(backend, name, max_stream_len=CAP)
    quick, stuck = await read(client, keys, "quick", CAP), await read(client, keys, "stuck", 50)
    await client.xack(keys.stream, "quick", *(id for id, _ in quick))
    await client.xack(keys.stream, "stuck", *(id for id, _ in stuck[:30]))  # its oldest pending is the 31st
    await promote(backend, name, max_stream_len=CAP)
    first = await client.xrange(keys.stream, count=1)
    assert first[0][0] == stuck[30][0]
    p = await promote(backend, name, max_stream_len=CAP)
    assert p.promoted == 30
    assert p.held_back == 170


async def test_who_holds_the_stream_is_told(backend, client, name, keys):
    await client.xgroup_create(keys.stream, "stuck", id="0", mkstream=True)
    await fill(client, keys, 150)
    await promote(backend, name, max_stream_len=CAP)
    ((oldest, _), *_) = await read(client, keys, "stuck", 7)
    (group,) = (await backend.stats(name)).groups
    assert (group.name, group.pending, group.undelivered) == ("stuck", 7, CAP - 7)
    assert (group.oldest_pending_id, group.oldest_pending_consumer) == (oldest.decode(), "c")


@pytest.mark.parametrize(
    ("ids", "acked", "kept"),
    [
        (["9-1", "10-1", "10-10", "10-9999999999", "11-0"], 3, "10-9999999999"),
        (["1-9", "1-10", "2-0"], 1, "1-10"),
        (["999-0", "1000-0", "1000-1"], 2, "1000-1"),
        (["5-18446744073709551614", "6-0"], 1, "6-0"),
    ],
)
async def test_ids_are_compared_as_the_two_numbers_that_they_are(backend, client, name, keys, ids, acked, kept):
    for id in ids:
        await client.xadd(keys.stream, {"d": "x"}, id=id)
    for group in ("a", "b"):
        await client.xgroup_create(keys.stream, group, id="0")
        some = await read(client, keys, group, len(ids) if group == "a" else acked)
        await client.xack(keys.stream, group, *(id for id, _ in some[:acked]))
    await fill(client, keys, 5)
    await promote(backend, name, max_stream_len=len(ids))
    left = [id.decode() for id, _ in await client.xrange(keys.stream)]
    assert kept in left
    assert all(id in left for id in ids[acked:]), "nothing that is not acknowledged goes"
    assert len(left) <= len(ids) - acked + (ids[acked - 1].endswith("614"))


async def test_a_look_that_found_nothing_is_not_repeated_at_once(backend, client, name, keys):
    await client.xgroup_create(keys.stream, "stuck", id="0", mkstream=True)
    await fill(client, keys, 300)
    before = (await client.info("commandstats")).get("cmdstat_xinfo|groups", {"calls": 0})["calls"]
    for _ in range(100):
        await promote(backend, name, max_stream_len=CAP)
    after = (await client.info("commandstats"))["cmdstat_xinfo|groups"]["calls"]
    assert 1 <= after - before <= 10


async def test_consumers_that_delete_make_room_as_well(backend, client, name, keys):
    metrics = RecordingMetrics()
    await fill(client, keys, 250)
    settings = PromoterSettings(max_stream_len=CAP, poll_interval_ms=10)
    async with Promoter(backend, name, settings, metrics=[metrics]).running():
        for round_ in range(3):
            wanted = min(CAP, 250 - round_ * CAP)

            async def full(wanted=wanted):
                return await client.xlen(keys.stream) >= wanted

            await until(full)
            await client.xdel(keys.stream, *(id for id, _ in await client.xrange(keys.stream)))
    assert metrics.promoted == 250


async def test_entries_that_a_group_was_set_back_to_are_not_trimmed(backend, client, name, keys):
    """After XGROUP SETID the oldest pending entry may be a later one than what is to be delivered again."""
    await client.xgroup_create(keys.stream, "g", id="0", mkstream=True)
    await fill(client, keys, 20)
    await promote(backend, name, max_stream_len=10)
    await read(client, keys, "g", 10)
    entries = [id for id, _ in await client.xrange(keys.stream)]
    await client.xack(keys.stream, "g", *entries[:9])
    await client.xgroup_setid(keys.stream, "g", "0")
    assert (await promote(backend, name, max_stream_len=10)).held_back == 10
    assert [id for id, _ in await client.xrange(keys.stream)] == entries
    assert len(await read(client, keys, "g", 10)) == 10
