"""How long ids stay taken, and the keys that say so: of jobs that are moved, replaced, removed, run or promoted."""

from __future__ import annotations

from typing import Any

import pytest

from promoter_core.spi import JobOutcome, JobRequest, Remove, Replace, Reschedule, RunNow, pack_envelope
from tests.leap import leap
from tests.server.bench import member, now_ms, promote

pytestmark = pytest.mark.server

HOUR_MS = 3_600_000


def request(id, **more):
    due = {} if "due_ms" in more else {"delay_ms": 600_000}
    return JobRequest(id, pack_envelope(id, b"\xc0", 1, 0), **(due | more))


async def test_of_a_job_that_is_replaced_removed_or_run_nothing_is_left(backend, client, name, keys):
    full = {"unique": True, "traceparent": "00-a", "keep_id_ms": 0, "name": "mail"}
    plain = {"index": False}
    for change, left in (
        (Remove(job="a"), set()),
        (RunNow(job="a"), {keys.stream, keys.events}),
        (Replace(request=request("a", **plain)), {keys.delayed}),
    ):
        await backend.schedule(name, [request("a", **full)])
        await backend.change_jobs(name, [change])
        found = {key async for key in client.scan_iter(keys.prefix + b"*")}
        assert found - {keys.marker, keys.trace, keys.keep} == left
        await client.delete(*found, keys.prefix)


async def test_a_moved_job_keeps_what_it_had_for_as_long_as_it_needs_it(backend, client, name, keys):
    await backend.schedule(name, [request("a", unique=True, traceparent="00-a", keep_id_ms=2 * HOUR_MS)])
    await backend.change_jobs(name, [Reschedule(job="a", delay_ms=1_000 * HOUR_MS)])
    assert [await client.get(keys.index + b"a")] == await client.zrange(keys.delayed, 0, 0)
    assert await client.ttl(keys.index + b"a") == -1
    hours = {part: await client.pttl(prefix + b"a") / HOUR_MS for part, prefix in parts(keys).items()}
    flags = {part: await client.pttl(prefix) / HOUR_MS for part, prefix in parts(keys).items()}
    assert {part: round(left) for part, left in hours.items()} == {
        "marker": 1_002,
        "trace": 1_024,
        "keep": 1_000 + 30 * 24,
    }
    assert all(flags[part] >= left - 3 for part, left in hours.items())
    (job,) = await backend.get_jobs(name, ["a"])
    assert (job.unique, job.keep_id_ms, job.traceparent) == (True, 2 * HOUR_MS, "00-a")
    await backend.change_jobs(name, [Reschedule(job="a", delay_ms=0)])
    assert round(await client.pttl(keys.marker + b"a") / HOUR_MS) == 2


def parts(keys):
    return {"marker": keys.marker, "trace": keys.trace, "keep": keys.keep}


async def test_another_producers_job_that_is_moved_is_known_as_long_as_it_waits(backend, client, name, keys):
    due_ms = await now_ms(client) + 60_000
    await client.zadd(keys.delayed, {member("a"): due_ms})
    for prefix, value in ((keys.index, member("a")), (keys.marker, "1")):
        await client.set(prefix + b"a", value, px=60_000 + HOUR_MS)
    assert (await backend.get_jobs(name, ["a"]))[0].unique
    assert await backend.change_jobs(name, [Reschedule(job="a", delay_ms=10 * HOUR_MS)]) == [JobOutcome.MOVED]
    assert (await client.get(keys.index + b"a"), await client.ttl(keys.index + b"a")) == (member("a"), -1)
    await leap(client, name, 9 * HOUR_MS)
    (again,) = await backend.schedule(name, [request("a", unique=True)])
    assert again.outcome is JobOutcome.KEPT
    await leap(client, name, HOUR_MS + 10)
    assert (await promote(backend, name)).promoted == 1
    await leap(client, name, HOUR_MS - 60_000)
    (again,) = await backend.schedule(name, [request("a", unique=True)])
    assert again.outcome is JobOutcome.ALREADY_PROMOTED


async def test_a_keep_key_that_another_promoter_left_is_no_later_jobs(backend, client, name, keys):
    """Another promoter takes the job and its index, and knows nothing of keep keys."""
    later = {"unique": request("a", unique=True), "plain": request("a")}
    for kind, again in later.items():
        await backend.schedule(name, [request("a", unique=True, keep_id_ms=0, delay_ms=0)])
        await client.delete(keys.delayed, keys.index + b"a")
        assert (await backend.schedule(name, [again]))[0].created is (kind == "plain")
        assert await backend.change_jobs(name, [Remove(job="b" if kind == "unique" else "a")])
        await client.delete(keys.marker + b"a")
        assert (await backend.schedule(name, [again]))[0].created
        assert (await backend.get_jobs(name, ["a"]))[0].keep_id_ms == (HOUR_MS if kind == "unique" else None)
        assert not await client.exists(keys.keep + b"a")
        await client.delete(*[key async for key in client.scan_iter(keys.prefix + b"*")])


@pytest.mark.parametrize("change", [Remove(job="b"), RunNow(job="b")], ids=["removed", "run"])
async def test_what_jobs_that_have_gone_left_is_no_new_jobs_though_the_set_was_empty(
    backend, client, name, keys, change
):
    """Another promoter leaves keep keys, and one that wants no traces leaves trace contexts."""
    await backend.schedule(name, [request("a", unique=True, keep_id_ms=0, traceparent="00-old", delay_ms=0)])
    await client.delete(keys.delayed, keys.index + b"a")
    await backend.schedule(name, [request("b")])
    await backend.change_jobs(name, [change])
    assert (await backend.stats(name)).depth == 0
    await leap(client, name, HOUR_MS + 5_000)
    assert (await backend.schedule(name, [request("a", unique=True)]))[0].created
    (job,) = await backend.get_jobs(name, ["a"])
    assert (job.keep_id_ms, job.traceparent) == (HOUR_MS, "")


@pytest.mark.parametrize("keep_data", [True, False], ids=["extend", "replace"])
async def test_a_unique_job_is_found_after_a_retry_with_its_id_has_taken_the_index_with_it(
    backend, client, name, keys, keep_data
):
    await backend.schedule(name, [request("a", unique=True)])
    await backend.schedule(name, [request("a", delay_ms=0, name="a retry")])
    assert (await promote(backend, name)).promoted == 1
    change = Replace(request=request("a", unique=True, name="new"), keep_data=keep_data, search=False)
    for _ in range(2):
        outcomes = await backend.change_jobs(name, [change])
        assert outcomes == [JobOutcome.MOVED if keep_data else JobOutcome.REPLACED]
    assert (await backend.stats(name)).depth == 1


async def test_what_a_marker_says_of_an_id_that_no_job_has(backend, client, name, keys):
    """By how it ends, and whether it is that of a promotion, of a producer or of overdue jobs."""
    markers = {
        "promoted": ("1", HOUR_MS - 1_000, JobOutcome.ALREADY_PROMOTED),
        "kept long": ("2", 100 * HOUR_MS, JobOutcome.ALREADY_PROMOTED),
        "without end": ("1", None, JobOutcome.ALREADY_PROMOTED),
        "marked when overdue": ("3", 20 * HOUR_MS, JobOutcome.ALREADY_PROMOTED),
        "not due yet": ("1", 2 * HOUR_MS, JobOutcome.NOT_FOUND),
        "never": (None, None, JobOutcome.NOT_FOUND),
    }
    for id, (value, px, _) in markers.items():
        if value is not None:
            await client.set(keys.marker + id.encode(), value, px=px)
    kept = {
        "kept, by another promoter": ("4", JobOutcome.ALREADY_PROMOTED),
        "another producer's, and the keep key is of a job before": ("1", JobOutcome.NOT_FOUND),
    }
    for id, (value, _) in kept.items():
        await client.set(keys.marker + id.encode(), value, px=5 * HOUR_MS)
        await client.set(keys.keep + id.encode(), 5 * HOUR_MS)
    expected = [*(outcome for _, _, outcome in markers.values()), *(outcome for _, outcome in kept.values())]
    ids = [*markers, *kept]
    for others in ([], [request("other")]):
        await backend.schedule(name, others)
        for kind in (Remove, Reschedule, RunNow):
            more: dict[str, Any] = {"delay_ms": 0} if kind is Reschedule else {}
            assert await backend.change_jobs(name, [kind(job=id, **more) for id in ids]) == expected
        assert list(await backend.cancel(name, ids)) == expected
        changes = [Replace(request=request(id), keep_due=True) for id in ids]
        assert await backend.change_jobs(name, changes) == expected
    (scheduled,) = await backend.schedule(name, [request("kept long", unique=True)])
    assert scheduled.outcome is JobOutcome.ALREADY_PROMOTED


async def test_an_overdue_id_that_was_marked_is_kept_while_such_jobs_wait(backend, client, name, keys):
    await client.zadd(keys.delayed, {member("theirs"): await now_ms(client) - 3 * HOUR_MS})
    (first,) = await backend.schedule(name, [request("theirs", unique=True)])
    assert first.outcome is JobOutcome.KEPT
    assert await backend.change_jobs(name, [Reschedule(job="theirs", delay_ms=0)]) == [JobOutcome.MOVED]
    assert (await promote(backend, name)).promoted == 1
    (again,) = await backend.schedule(name, [request("theirs", unique=True)])
    assert again.outcome is JobOutcome.ALREADY_PROMOTED
    assert await backend.change_jobs(name, [RunNow(job="theirs")]) == [JobOutcome.ALREADY_PROMOTED]


@pytest.mark.parametrize("late_ms", [0, HOUR_MS // 2, 3 * HOUR_MS, 50 * HOUR_MS])
@pytest.mark.parametrize("keep_ms", [0, HOUR_MS // 12, HOUR_MS, 10 * HOUR_MS])
async def test_an_id_is_kept_from_the_promotion_on_however_late_it_is(backend, client, name, keys, late_ms, keep_ms):
    job = request("a", unique=True, delay_ms=20, keep_id_ms=keep_ms)
    await backend.schedule(name, [job])
    await leap(client, name, 30 + late_ms)
    (again,) = await backend.schedule(name, [job])
    assert again.outcome is JobOutcome.KEPT
    assert (await promote(backend, name)).promoted == 1
    assert not await client.exists(keys.keep + b"a")
    if keep_ms:
        await leap(client, name, keep_ms - 60_000)
        (again,) = await backend.schedule(name, [job])
        assert again.outcome is JobOutcome.ALREADY_PROMOTED
        assert await backend.cancel(name, ["a"]) == (JobOutcome.ALREADY_PROMOTED,)
        await leap(client, name, 120_000)
    assert await backend.cancel(name, ["a"]) == (JobOutcome.NOT_FOUND,)
    assert (await backend.schedule(name, [job]))[0].created


async def test_another_job_with_the_id_that_is_promoted_first_frees_nothing(backend, client, name, keys):
    await backend.schedule(name, [request("a", unique=True, keep_id_ms=0), request("a", delay_ms=0, name="other")])
    assert (await promote(backend, name)).promoted == 1
    (again,) = await backend.schedule(name, [request("a", unique=True)])
    assert again.outcome is JobOutcome.KEPT
    await leap(client, name, 700_000)
    assert (await promote(backend, name)).promoted == 1


async def test_a_promotion_with_kept_ids_leaves_no_key_in_the_servers_tracking_table(backend, client, name, keys):
    await promote(backend, name)
    await backend.schedule(name, [request(f"j{i}", unique=True, keep_id_ms=i % 2, delay_ms=0) for i in range(500)])
    before = (await client.info("stats"))["tracking_total_keys"]
    assert (await promote(backend, name, limit=1_000)).promoted == 500
    assert (await client.info("stats"))["tracking_total_keys"] <= before + 10


async def test_a_job_with_the_id_of_one_that_was_promoted_does_not_prolong_its_marker(backend, client, name, keys):
    await backend.schedule(name, [request("a", unique=True, delay_ms=0)])
    await promote(backend, name)
    await leap(client, name, HOUR_MS // 2)
    await backend.schedule(name, [request("a", name="another")])
    (job,) = await backend.get_jobs(name, ["a"])
    assert (job.unique, job.keep_id_ms) == (False, None)
    left = await client.pttl(keys.marker + b"a")
    await backend.change_jobs(name, [Reschedule(job="a", delay_ms=9 * HOUR_MS)])
    assert await client.pttl(keys.marker + b"a") <= left
    assert await backend.change_jobs(name, [RunNow(job="a")]) == [JobOutcome.PROMOTED]
    assert (await client.get(keys.marker + b"a"), await client.pttl(keys.marker + b"a") <= left) == (b"1", True)
