"""Jobs of ours, calls of ChasquiMQ's producer and promoter."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, connect, unpack_envelope
from promoter_core.spi import CHASQUIMQ
from tests.leap import leap
from tests.server.bench import promote, until
from tests.server.beside_chasquimq.common import (
    ALREADY_PROMOTED,
    CREATED,
    HOUR_MS,
    KEPT,
    MOVED,
    NO_KEEP,
    NOT_FOUND,
    PROMOTED,
    REMOVED,
    REPLACED,
    each_id,
    fields_of,
    left_of,
    promoted_by_them,
    their_promoter,
    waiting,
)
from tests.servers import Server, find

pytestmark = pytest.mark.server


@each_id
@pytest.mark.parametrize("keep", [None, NO_KEEP, timedelta(hours=5)], ids=["an hour", "0", "5 hours"])
async def test_they_cancel_a_job_of_ours_whatever_we_did_to_it(client, queue, theirs, name, id, keep):
    async def scheduled():
        return await queue.schedule(1, name="größe", delay=60, job_id=id, keep_id_for=keep)

    async def moved():
        await scheduled()
        assert await queue.reschedule(id, delay=600) is MOVED

    async def moved_as_seen():
        await scheduled()
        assert await queue.reschedule(await queue.get(id), delay=600) is MOVED

    async def replaced():
        await scheduled()
        assert await queue.replace(id, 2, keep_id_for=keep) is REPLACED

    async def replaced_later():
        await scheduled()
        assert await queue.replace(id, 2, name="other", delay=600, keep_id_for=keep) is REPLACED

    async def extended():
        await scheduled()
        again = await queue.schedule(2, delay=600, job_id=id, on_repeat="extend", keep_id_for=keep)
        assert again.outcome is MOVED

    async def put_again():
        await scheduled()
        assert await queue.run_now(id) is PROMOTED
        again = await queue.schedule(3, delay=60, job_id=id, on_repeat="replace", keep_id_for=keep)
        assert again.outcome is CREATED

    for make in (scheduled, moved, moved_as_seen, replaced, replaced_later, extended, put_again):
        await make()
        await theirs.add("theirs", 9, job_id=id, delay_ms=60_000)
        assert len(await waiting(client, name)) == 1, f"{make.__name__}: their producer sees that the id is taken"
        assert await theirs.cancel_delayed(id)
        assert await theirs.cancel_delayed(id) is False
        assert await waiting(client, name) == []
        assert await queue.get(id) is None
        assert await queue.cancel(id) is NOT_FOUND
        assert (await queue.schedule(4, delay=60, job_id=id)).outcome is CREATED, "the id is free"
        assert await queue.cancel(id) is REMOVED
        assert await left_of(client, name, id) == set()


@each_id
async def test_their_add_finds_the_id_of_our_job_taken_until_we_remove_it(client, queue, theirs, name, id):
    await queue.schedule(1, delay=60, job_id=id)
    for add in (theirs.add, theirs.add_unique):
        await add("theirs", 2, job_id=id, delay_ms=60_000)
    ((_, envelope),) = await waiting(client, name)
    assert unpack_envelope(envelope).data() == 1
    assert await queue.cancel(id) is REMOVED
    await theirs.add_unique("theirs", 2, job_id=id, delay_ms=60_000)
    ((job_name, envelope),) = await waiting(client, name)
    assert (job_name, unpack_envelope(envelope).data()) == ("theirs", 2)


@pytest.mark.parametrize("who", ["ours", "theirs"])
@pytest.mark.parametrize("keep", [None, NO_KEEP], ids=["an hour", "0"])
async def test_their_job_with_the_id_of_one_of_ours_that_they_cancelled_is_kept_for_an_hour(
    server, client, backend, queue, theirs, name, keep, who
):
    """What is left of our job says nothing about theirs."""
    await queue.schedule(1, delay=60, job_id="a", keep_id_for=keep)
    assert await theirs.cancel_delayed("a")
    await theirs.add("n", 2, job_id="a", delay_ms=5)
    job = await queue.get("a")
    assert (job.data(), job.unique, job.keep_id_for) == (2, True, timedelta(hours=1))
    await asyncio.sleep(0.01)
    if who == "ours":
        assert (await promote(backend, name)).promoted == 1
    else:
        await promoted_by_them(server, client, name)
    await theirs.add("n", 3, job_id="a", delay_ms=5)
    assert (await queue.schedule(4, delay=5, job_id="a")).outcome is ALREADY_PROMOTED
    assert await waiting(client, name) == []


@pytest.mark.parametrize("change", ["reschedule", "run_now", "cancel"])
async def test_a_keep_key_of_a_job_before_goes_with_no_change_of_theirs(client, queue, theirs, name, change):
    await queue.schedule(1, delay=60, job_id="a", keep_id_for=0)
    assert await theirs.cancel_delayed("a")
    await theirs.add("n", 2, job_id="a", delay_ms=60_000)
    if change == "reschedule":
        assert await queue.reschedule("a", delay=600) is MOVED
        assert (await queue.get("a")).keep_id_for == timedelta(hours=1)
        assert await queue.run_now("a") is PROMOTED
    elif change == "run_now":
        assert await queue.run_now("a") is PROMOTED
    else:
        assert await queue.cancel("a") is REMOVED
        await theirs.add("n", 3, job_id="a", delay_ms=60_000)
        assert await queue.run_now("a") is PROMOTED
    assert (await queue.schedule(4, delay=5, job_id="a")).outcome is ALREADY_PROMOTED


async def test_a_job_that_is_late_keeps_its_id_for_as_long_as_it_said(client, backend, queue, name):
    for id, keep in (("a", 0), ("b", 7_200), ("c", None)):
        await queue.schedule(1, delay=1, job_id=id, keep_id_for=keep)
    for hours in (0.5, 3):
        await leap(client, name, int(hours * HOUR_MS))
        kept = [(await queue.schedule(1, delay=1, job_id=id)).outcome for id in "abc"]
        assert kept == [KEPT] * 3, "they wait, and a repeat says nothing about how long their ids are kept"
        assert [(await queue.get(id)).keep_id_for for id in "abc"] == [timedelta(seconds=s) for s in (0, 7_200, 3_600)]
    assert (await promote(backend, name)).promoted == 3
    await leap(client, name, int(1.5 * HOUR_MS))
    kept = [(await queue.schedule(1, delay=1, job_id=id)).outcome for id in "abc"]
    assert kept == [CREATED, ALREADY_PROMOTED, CREATED]


@pytest.mark.parametrize("keep", [None, NO_KEEP], ids=["an hour", "0"])
async def test_their_promoter_promotes_what_we_changed(server, client, queue, backend, name, keep):
    jobs = {id: await queue.schedule([id], name="n", delay=600, job_id=id, keep_id_for=keep) for id in "abcd"}
    assert await queue.reschedule(jobs["a"], delay=0) is MOVED
    assert await queue.replace("b", "new", delay=0) is REPLACED
    assert await queue.cancel("c") is REMOVED
    await promoted_by_them(server, client, name, 2)
    data = {e.id: e.data() for e in (unpack_envelope(f["d"]) for f in await fields_of(backend, name))}
    assert data == {"a": ["a"], "b": "new"}
    assert await queue.reschedule("a", delay=5) is ALREADY_PROMOTED
    assert await queue.get("a") is None
    assert [job.id for job in (await queue.jobs()).jobs] == ["d"]


@pytest.mark.parametrize("repeat", ["replace", "extend"])
@pytest.mark.parametrize("delay", [600, 0.3, 0])
async def test_a_job_whose_index_their_promoter_took_is_no_second_one(client, queue, name, repeat, delay):
    """It deletes indexes a moment after it has promoted, those of jobs that have come meanwhile too."""
    for _ in range(3):
        await queue.schedule(1, delay=delay, job_id="a", on_repeat=repeat)
        await client.delete(CHASQUIMQ.keys_of(name).index + b"a")
    if not delay:
        await asyncio.sleep(0.01)
    again = await queue.schedule(2, delay=delay, job_id="a", on_repeat=repeat)
    assert again.outcome is (REPLACED if repeat == "replace" else MOVED)
    ((_, envelope),) = await waiting(client, name)
    assert unpack_envelope(envelope).data() == (2 if repeat == "replace" else 1)
    await client.delete(CHASQUIMQ.keys_of(name).index + b"a")
    assert (await queue.get("a")).data() == unpack_envelope(envelope).data()
    assert await queue.cancel("a") is REMOVED


@pytest.mark.parametrize("version", ["valkey-9.1", "redis-8.2"])
async def test_their_worker_takes_no_job_before_redis_8_6_and_inspect_shows_it(version, name):
    """As docs/tutorial/chasquimq-worker.md says."""
    if find(version) is None:
        pytest.skip(f"{version} is not installed")
    with Server(version) as server:
        async with connect(server.url) as backend, Redis.from_url(server.url) as client:
            queue = DelayedQueue(backend, name)
            await queue.schedule(1, name="task")
            async with their_promoter(server, client, name):

                async def tried():
                    return (await client.info("commandstats")).get("cmdstat_xreadgroup", {}).get("failed_calls", 0) > 2

                await until(tried)
                stats = await queue.stats()
                (group,) = stats.groups
                assert (group.name, group.pending, group.undelivered) == ("default", 0, 1)
                assert stats.holder
                assert stats.holder.startswith("c-") or stats.holder == "theirs"
                calls = (await client.info("commandstats"))["cmdstat_xreadgroup"]
                assert calls["calls"] == calls["failed_calls"]
