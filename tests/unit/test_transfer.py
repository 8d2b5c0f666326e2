"""Export, import and copy: what is in the file, what a repeat does, what cannot be read."""

from __future__ import annotations

import base64
import io
import json

import pytest

from promoter_core import ConfigError, Transferred, TransientError, copy_jobs, export_jobs, import_jobs
from promoter_core.client import transfer
from promoter_core.client.transfer_lines import parse_line
from promoter_core.spi import (
    MAX_DUE_MS,
    JobQuery,
    JobRequest,
    PromotionRequest,
    Reschedule,
    RunNow,
    pack_envelope,
)
from promoter_core.testing import Fault, FaultyBackend
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.typed import untyped

HOUR_MS = 3_600_000


@pytest.fixture
async def source(clock):
    backend = MemoryBackend(MemoryStore(clock))
    await backend.open()
    return backend


@pytest.fixture
async def target(clock):
    backend = MemoryBackend(MemoryStore(clock))
    await backend.open()
    return backend


def request(id, due_ms, data=b"\x01", *, index=True, attempt=0, **more):
    return JobRequest(id, pack_envelope(id, data, 5, attempt, index=index), due_ms=due_ms, index=index, **more)


def ulid(n):
    return f"01J{n:023}"


async def waiting(backend, queue="q"):
    page = await backend.list_jobs(queue, JobQuery(limit=10_000, want_details=True))
    return [(j.id, j.name, j.envelope, j.due_ms, j.traceparent) for j in page.jobs]


async def exported(backend, queue="q"):
    return b"".join([page.lines async for page in export_jobs(backend, queue)])


def lines(data):
    return io.BytesIO(data)


async def promote(backend, queue="q"):
    lease = await backend.lock(queue, "me", 60_000)
    await backend.promote(lease, PromotionRequest(limit=10_000, max_stream_len=10_000))


async def fill(backend, clock, n=2_500):
    now_ms = clock.time_ms()
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    jobs = [
        request(ulid(i), now_ms + HOUR_MS + i, name=f"n{i % 3}", traceparent=trace if i % 2 else "") for i in range(n)
    ]
    jobs += [request(f"u{i}", now_ms + 2 * HOUR_MS + i, unique=True, keep_id_ms=i) for i in range(10)]
    jobs += [request(ulid(10_000 + i), now_ms + 3 * HOUR_MS + i, index=False) for i in range(10)]
    jobs += [request("\udcff\x1b[31m", now_ms + 4 * HOUR_MS), request("later", MAX_DUE_MS)]
    await backend.schedule("q", jobs)
    return len(jobs)


async def test_what_is_exported_and_imported_is_the_same_byte_for_byte(source, target, clock):
    n = await fill(source, clock)
    data = await exported(source)
    assert len(data.splitlines()) == n + 2
    assert await import_jobs(target, lines(data)) == Transferred(lines=n + 2, created=n)
    assert await waiting(target) == await waiting(source)
    page = await target.list_jobs("q", JobQuery(name="", due_from_ms=clock.time_ms() + 2 * HOUR_MS, want_details=True))
    assert [j.keep_id_ms for j in page.jobs][:10] == list(range(10))


async def test_a_second_import_changes_nothing_and_says_so(source, target, clock):
    n = await fill(source, clock)
    data = await exported(source)
    await import_jobs(target, lines(data))
    before = await waiting(target)
    assert await import_jobs(target, lines(data)) == Transferred(lines=n + 2, waiting=n)
    assert await waiting(target) == before


async def test_a_file_says_its_version_queue_and_time_and_jobs_can_be_read(source, clock):
    at_ms = clock.time_ms() + HOUR_MS
    envelope = pack_envelope("a", b"\x81\xa2to\xa3ada", clock.time_ms(), 2)
    await source.schedule("q", [JobRequest("a", envelope, name="wel", due_ms=at_ms, unique=True)])
    header, job, end = map(json.loads, (await exported(source)).splitlines())
    assert (header["promoter-jobs"], header["queue"], header["exported_ms"]) == (1, "q", clock.time_ms())
    assert {k: job[k] for k in ("id", "name", "due_ms", "parked", "unique", "attempt", "data")} == {
        "id": "a",
        "name": "wel",
        "due_ms": at_ms,
        "parked": False,
        "unique": True,
        "attempt": 2,
        "data": {"to": "ada"},
    }
    assert base64.b64decode(job["envelope"]) == envelope
    assert job["due"].endswith("Z")
    assert end == {"end": True, "jobs": 1}


async def test_jobs_that_ran_meanwhile_do_not_come_again_within_their_hour(source, target, clock):
    now_ms = clock.time_ms()
    await source.schedule("q", [request(ulid(1), now_ms + 1_000), request("b", now_ms + 2_000, unique=True)])
    data = await exported(source)
    await import_jobs(target, lines(data))
    await clock.sleep(3)
    await promote(target)
    assert await import_jobs(target, lines(data)) == Transferred(lines=4, promoted=2)
    assert await waiting(target) == []


async def test_a_job_that_ran_and_waits_for_its_next_attempt_does_not_come_again(source, target, clock):
    now_ms = clock.time_ms()
    await source.schedule("q", [request(ulid(1), now_ms + 1_000)])
    data = await exported(source)
    await import_jobs(target, lines(data))
    await clock.sleep(3)
    await promote(target)
    await target.schedule("q", [request(ulid(1), now_ms + HOUR_MS, attempt=1)])
    result = await import_jobs(target, lines(data))
    assert result.created == 0
    assert len(await waiting(target)) == 1


async def test_different_jobs_with_one_id_all_arrive_once(source, target, clock):
    now_ms = clock.time_ms()
    jobs = [request("x", now_ms + HOUR_MS + i, b"%c" % i) for i in range(4)]
    jobs += [request(ulid(7), now_ms + HOUR_MS + 9 + i, b"%c" % i) for i in range(3)]
    jobs.append(request("x", now_ms + 2 * HOUR_MS, b"\x09", unique=True))
    # A unique job comes among others with its id only if it was there first.
    await source.schedule("q", [jobs[-1], *jobs[:-1]])
    data = await exported(source)
    assert (await import_jobs(target, lines(data))).created == 8
    assert await waiting(target) == await waiting(source)
    again = await import_jobs(target, lines(data))
    assert (again.waiting, again.created, again.taken) == (8, 0, 0)
    assert await waiting(target) == await waiting(source)


async def test_a_job_with_the_id_of_one_that_the_target_has_promoted_meanwhile_arrives(source, target, clock):
    now_ms = clock.time_ms()
    await source.schedule("q", [request("x", now_ms), request("x", now_ms + HOUR_MS, b"\x02")])
    _, first, second, _ = (await exported(source)).splitlines(keepends=True)

    importing = transfer._Target(target, "q", Transferred())
    await importing.put([untyped(parse_line(first, 2))])
    await promote(target)
    await importing.put([untyped(parse_line(second, 3))])
    assert [job[3] for job in await waiting(target)] == [now_ms + HOUR_MS]


async def test_the_job_of_the_target_stays_when_it_has_the_id_of_a_unique_one(source, target, clock):
    due_ms = clock.time_ms() + HOUR_MS
    await source.schedule("q", [request("x", due_ms, b"\x01", unique=True)])
    await target.schedule("q", [request("x", due_ms + 1, b"\x02", unique=True)])
    before = await waiting(target)
    assert await import_jobs(target, lines(await exported(source))) == Transferred(lines=3, taken=1)
    assert await waiting(target) == before


async def test_what_has_become_due_is_due_at_once(source, target, clock):
    await source.schedule("q", [request("a", clock.time_ms() + 1_000), request(ulid(1), clock.time_ms(), index=False)])
    data = await exported(source)
    await clock.sleep(60)
    await import_jobs(target, lines(data))
    assert (await target.stats("q")).due == 2
    assert (await import_jobs(target, lines(data))).waiting == 2


async def test_a_job_that_moves_back_during_an_export_is_imported_once(source, target, clock):
    n = await fill(source, clock)
    written = []
    async for page in export_jobs(source, "q"):
        written.append(page.lines)
        if len(written) == 1:
            for id in (ulid(0), ulid(10_000)):
                await source.change_jobs("q", [Reschedule(job=id, due_ms=clock.time_ms() + 5 * HOUR_MS)])
    data = b"".join(written)
    assert len(data.splitlines()) == n + 3, "one that has moved behind the page is there twice"
    assert (await import_jobs(target, lines(data))).created == n
    assert len(await waiting(target)) == n


async def test_an_export_goes_on_at_a_cursor(source, clock):
    await fill(source, clock)
    first = await anext(export_jobs(source, "q"))
    rest = [page.lines async for page in export_jobs(source, "q", after=first.cursor, jobs=first.jobs)]
    whole = await exported(source)
    assert first.lines + b"".join(rest) == whole


@pytest.mark.parametrize("after_effect", [False, True])
async def test_an_import_that_lost_its_connection_goes_on(source, target, clock, after_effect):
    n = await fill(source, clock)
    data = await exported(source)
    broken, done = FaultyBackend(target, Fault("schedule", 2, after_effect=after_effect)), []
    with pytest.raises(TransientError):
        await import_jobs(broken, lines(data), progress=lambda r: done.append(r.lines))
    assert done == [1_001]
    result = await import_jobs(target, lines(data), skip=done[0])
    assert (result.created, result.waiting) == ((n - 2_000, 1_000) if after_effect else (n - 1_000, 0))
    assert len(await waiting(target)) == n
    assert (await import_jobs(target, lines(data))).created == 0


async def test_a_copy_goes_to_another_store_and_goes_on_at_its_cursor(source, target, clock):
    n = await fill(source, clock)
    broken, cursors = FaultyBackend(source, Fault("list_jobs", 3)), []
    with pytest.raises(TransientError):
        await copy_jobs(broken, "q", target, to_queue="r", progress=lambda r: cursors.append(r.cursor))
    result = await copy_jobs(source, "q", target, to_queue="r", after=cursors[-1])
    assert result.created == n - 2_000
    assert await waiting(target, "r") == await waiting(source)
    again = await copy_jobs(source, "q", target, to_queue="r")
    assert (again.created, again.waiting) == (0, n)


async def test_a_copy_onto_itself_changes_nothing(source, clock):
    n = await fill(source, clock)
    before = await waiting(source)
    assert (await copy_jobs(source, "q", source)).created == 0
    assert await waiting(source) == before
    assert len(before) == n


async def test_a_copy_is_whole_while_jobs_are_moved_run_replaced_and_cancelled(source, target, clock):
    n = await fill(source, clock)
    busy, k = source, 0

    class Busy(FaultyBackend):
        async def list_jobs(self, queue, query):
            nonlocal k
            k += 1
            await busy.change_jobs(queue, [RunNow(job=ulid(1_700 + k)), Reschedule(job=ulid(1_800 + k), delay_ms=0)])
            return await busy.list_jobs(queue, query)

    await copy_jobs(Busy(source), "q", target)
    await copy_jobs(source, "q", target)  # the second time for what had moved before the cursor
    missing = {job[0] for job in await waiting(source)} - {job[0] for job in await waiting(target)}
    assert missing == set()
    there = [job[0] for job in await waiting(target)]
    assert len(there) == len(set(there)) <= n


async def test_a_backend_that_cannot_list_its_jobs_is_named(target):
    class Plain:
        capabilities = target.capabilities

        async def promote(self): ...
        async def schedule(self): ...

    with pytest.raises(ConfigError, match="export_jobs: the backend Plain cannot list"):
        await anext(export_jobs(untyped(Plain()), "q"))
