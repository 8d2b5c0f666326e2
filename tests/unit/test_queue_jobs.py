"""DelayedQueue: seeing jobs that wait, one, a page, all, and how many; and `list_queues`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from promoter_core import ConfigError, DelayedJob, DelayedQueue, Job, JobError, Scheduled, list_queues
from promoter_core.client import looking
from promoter_core.spi import (
    MAX_DUE_MS,
    JobRequest,
    PermanentError,
    PromotionRequest,
    StoredJob,
    pack_envelope,
)
from promoter_core.testing import FaultyBackend
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  # that is the point


def at(clock, seconds):
    return datetime.fromtimestamp(clock.time_ms() / 1000 + seconds, UTC)


async def promote(backend, limit=100):
    return await backend.promote(
        await backend.lock("q", "me", 60_000), PromotionRequest(limit=limit, max_stream_len=1_000)
    )


async def test_a_waiting_job_is_shown_with_all_that_is_known(queue, clock):
    await queue.schedule({"n": 1}, delay=60, job_id="a", name="welcome", traceparent=TRACE, attempt=3, keep_id_for=5)
    job = await queue.get("a")
    assert (job.id, job.name, job.data(), job.attempt, job.queue) == ("a", "welcome", {"n": 1}, 3, "q")
    assert (job.due, job.created) == (at(clock, 60), at(clock, 0))
    assert (job.unique, job.keep_id_for, job.traceparent) == (True, timedelta(seconds=5), TRACE)
    assert (job.parked, job.malformed, job.envelope.id) == (False, False, "a")
    assert repr(job) == f"<DelayedJob 'a' of 'q', due {at(clock, 60).isoformat(timespec='milliseconds')}>"


async def test_a_job_is_given_by_its_id_by_what_schedule_answered_or_as_it_was_seen(queue):
    scheduled = await queue.schedule(1, delay=60)
    seen = await queue.get(scheduled)
    assert seen == await queue.get(scheduled.id) == await queue.get(seen)
    assert await queue.get_many([scheduled, "no", seen]) == (seen, None, seen)
    assert await queue.get_many([]) == ()


async def test_a_job_that_was_promoted_or_cancelled_waits_no_more(queue, backend, clock):
    a, b = await queue.schedule(1, delay=1), await queue.schedule(2, delay=99)
    await queue.cancel(b)
    clock.jump(1)
    await promote(backend)
    assert await queue.get_many([a, b]) == (None, None)


async def test_an_envelope_that_cannot_be_read_is_shown_all_the_same():
    job = DelayedJob(StoredJob(id=None, name="x", envelope=b"\xc1", due_ms=None, malformed=True), "q")
    assert (job.id, job.due, job.parked, job.malformed, job.created, job.attempt) == (None, None, True, True, None, 0)
    assert repr(job) == "<DelayedJob None of 'q', malformed, parked>"
    with pytest.raises(ValueError, match="no readable envelope"):
        job.data()


async def test_a_time_of_making_beyond_the_year_9999_is_none():
    envelope = pack_envelope("a", b"\x01", 2**63, 0)
    assert DelayedJob(StoredJob(id="a", name="", envelope=envelope, due_ms=0), "q").created is None


async def test_pages_go_on_while_jobs_are_promoted_in_between(queue, backend, clock):
    await queue.schedule_many([Job(data=i, delay=i) for i in range(10)])
    first = await queue.jobs(limit=4)
    assert [job.data() for job in first.jobs] == [0, 1, 2, 3]
    assert first.now == at(clock, 0)
    clock.jump(5)
    await promote(backend)
    second = await queue.jobs(limit=4, after=first.cursor)
    assert [job.data() for job in second.jobs] == [6, 7, 8, 9]
    assert second.cursor == ""


async def test_pages_in_reverse_by_name_and_by_due_time(queue, clock):
    await queue.schedule_many([Job(data=i, delay=i, name="ab"[i % 2]) for i in range(10)])
    page = await queue.jobs(limit=2, reverse=True, name="a", due_from=at(clock, 2), due_to=at(clock, 8))
    assert [job.data() for job in page.jobs] == [6, 4]
    zone = timezone(timedelta(hours=5, minutes=30))
    got = await queue.jobs(due_from=at(clock, 2).astimezone(zone), due_to=at(clock, 4).astimezone(zone))
    assert [job.data() for job in got.jobs] == [2, 3]
    assert [job.data() async for job in queue.scan(name="b", reverse=True)] == [9, 7, 5, 3, 1]


async def test_a_bound_between_two_milliseconds_leaves_out_the_one_before(queue, clock):
    await queue.schedule(1, delay=1)
    inside = timedelta(microseconds=500)
    assert await queue.count(at(clock, 1) - inside, at(clock, 1) + inside) == 1
    assert await queue.count(at(clock, 1) + inside, at(clock, 2)) == 0
    assert await queue.count(at(clock, 0), at(clock, 1) - inside) == 0


async def test_a_scan_asks_for_a_page_at_a_time_and_gives_each_job_once(queue, backend, monkeypatch):
    monkeypatch.setattr(looking, "STEP", 7)
    await queue.schedule_many([Job(data=i, delay=5) for i in range(50)])
    counting = FaultyBackend(backend)
    seen = [job.data() async for job in DelayedQueue(counting, "q").scan()]
    assert seen == list(range(50))
    assert counting.calls["list_jobs"] == 8


async def test_cancelling_while_scanning_skips_nothing(queue):
    await queue.schedule_many([Job(data=i, delay=5) for i in range(1_200)])
    async for job in queue.scan():
        await queue.cancel(job)
    assert (await queue.stats()).depth == 0


async def test_counts_are_half_open_and_the_year_9999_is_in(queue, clock):
    await queue.schedule_many([Job(data=0, delay=d) for d in (0, 1, 1, 2)])
    await queue.schedule(0, at=datetime.max.replace(tzinfo=UTC) - timedelta(milliseconds=1))
    assert await queue.count() == 5
    assert await queue.count(due_from=at(clock, 1)) == 4
    assert await queue.count(due_to=at(clock, 1)) == 1
    assert await queue.count(at(clock, 1), at(clock, 2)) == 2
    assert await queue.count(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)) == 5
    assert (await queue.jobs()).jobs[-1].stored.due_ms <= MAX_DUE_MS
    assert await queue.histogram(at(clock, s) for s in (0, 1, 2, 3)) == (1, 2, 1)


async def test_details_of_a_page_are_those_of_a_single_job(queue):
    await queue.schedule(1, delay=1, job_id="a", traceparent=TRACE, keep_id_for=0)
    (job,) = (await queue.jobs(details=True)).jobs
    assert (job.unique, job.keep_id_for, job.traceparent) == (True, timedelta(0), TRACE)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda q: q.jobs(limit=0), "limit is 0: it must be from 1 to 10,000"),
        (lambda q: q.jobs(limit=10_001), "limit is 10001"),
        (lambda q: q.jobs(limit=True), "limit must be a whole number, not a bool"),
        (lambda q: q.jobs(limit="5"), "limit must be a whole number, not '5'"),
        (lambda q: q.jobs(after=None), "after must be the cursor of a page, not a NoneType"),
        (lambda q: q.jobs(due_from=NAIVE), "due_from=2030-01-01T00:00:00 has no time zone"),
        (lambda q: q.jobs(due_to=date(2030, 1, 1)), "due_to must be a datetime with a time zone, not date"),
        (lambda q: q.jobs(due_from=1_800_000_000), "due_from must be a datetime with a time zone, not int"),
        (lambda q: q.jobs(name=b"a"), "name must be text, not bytes"),
        (lambda q: q.jobs(name="x" * 257), "257 bytes"),
        (lambda q: q.jobs(reverse=1), "reverse must be True or False, not a int"),
        (lambda q: q.jobs(details="no"), "details must be True or False, not 'no'"),
        (
            lambda q: q.jobs(due_from=datetime(2031, 1, 1, tzinfo=UTC), due_to=datetime(2030, 1, 1, tzinfo=UTC)),
            "due_from=2031.* is after due_to=2030",
        ),
        (lambda q: q.count(NAIVE), "no time zone"),
        (lambda q: q.histogram([]), "2 to 10,001 edges, not 0"),
        (lambda q: q.histogram([datetime(2030, 1, 1, tzinfo=UTC)]), "2 to 10,001 edges, not 1"),
        (lambda q: q.histogram([datetime(2030, 1, 1, tzinfo=UTC)] * 2), r"edges\[1\] is not after edges\[0\]"),
        (lambda q: q.histogram([datetime(2030, 1, 1, tzinfo=UTC), NAIVE]), r"edges\[1\]=.* has no time zone"),
        (lambda q: q.histogram("2030"), "edges must be a list of datetimes, not '2030'"),
        (lambda q: q.histogram(5), "edges must be a list of datetimes, not a int"),
        (lambda q: q.get(7), "job id must be text, not int"),
        (lambda q: q.get(""), "1 to 512 bytes"),
        (lambda q: q.get_many("abc"), "get_many takes a list of jobs or their ids, not 'abc'; get takes one"),
        (lambda q: q.get_many(Scheduled("a")), "not a Scheduled"),
        (lambda q: q.get_many(["a", None]), "job id must be text, not NoneType"),
    ],
)
async def test_an_argument_that_cannot_be_is_refused_with_one_line(queue, call, problem):
    with pytest.raises(JobError, match=problem):
        await call(queue)


async def test_a_cursor_that_is_none_is_refused_by_the_store(queue):
    with pytest.raises(PermanentError, match="not a cursor"):
        await queue.jobs(after="x")


async def test_an_id_that_is_no_utf_8_is_found(queue, backend):
    id = b"\xff\xfe".decode("utf-8", "surrogateescape")
    await backend.schedule("q", [JobRequest(id, pack_envelope(id, b"\x01", 0, 0), name="\udc80", delay_ms=1_000)])
    assert (await queue.get(id)).id == id
    assert [job.id for job in (await queue.jobs(name="\udc80")).jobs] == [id]


class Plain:
    """A backend with the required contract alone."""

    def __init__(self, backend):
        self.capabilities = backend.capabilities
        for name in ("open", "close", "lock", "promote", "unlock", "wait", "schedule", "cancel", "stats", "read"):
            setattr(self, name, getattr(backend, name))


async def items(iterator):
    return [item async for item in iterator]


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("get", lambda q: q.get("a")),
        ("get_many", lambda q: q.get_many(["a"])),
        ("jobs", lambda q: q.jobs()),
        ("scan", lambda q: items(q.scan())),
        ("count", lambda q: q.count()),
        ("histogram", lambda q: q.histogram([datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)])),
        ("reschedule", lambda q: q.reschedule("a", delay=1)),
        ("reschedule_many", lambda q: q.reschedule_many(["a"], delay=1)),
        ("run_now", lambda q: q.run_now("a")),
        ("run_now_many", lambda q: q.run_now_many(["a"])),
        ("replace", lambda q: q.replace("a", 1)),
        ("replace_many", lambda q: q.replace_many([Job(data=1, job_id="a")])),
        ("cancel_where", lambda q: q.cancel_where()),
        ("run_due_before", lambda q: q.run_due_before(datetime(2030, 1, 1, tzinfo=UTC))),
        ("reschedule_where", lambda q: q.reschedule_where(delay=1)),
        ('schedule with on_repeat="extend"', lambda q: q.schedule(1, job_id="a", on_repeat="extend")),
    ],
)
async def test_a_backend_that_cannot_is_named_with_the_method(backend, method, call):
    plain = untyped(Plain(backend))
    with pytest.raises(ConfigError, match=rf"{method} needs a backend that can list and change .* Plain cannot"):
        await call(DelayedQueue(plain, "q"))
    with pytest.raises(ConfigError, match=r"list_queues needs .* Plain cannot"):
        await items(list_queues(plain))


async def test_what_needs_no_management_works_without(backend):
    queue = DelayedQueue(untyped(Plain(backend)), "q")
    scheduled = await queue.schedule(1, delay=1, job_id="a", on_repeat="error")
    assert (await queue.cancel(scheduled)).value == "removed"


async def test_queues_are_listed_once_with_their_statistics(backend, clock):
    for name in ("mail-a", "mail-b", "other"):
        await DelayedQueue(backend, name).schedule_many([Job(data=1, delay=0), Job(data=2, delay=9)])
    await backend.lock("led", "me", 1_000)
    clock.jump(1)
    found = {info.name: info.stats for info in await items(list_queues(backend, "mail-*"))}
    assert {name: (stats.depth, stats.due) for name, stats in found.items()} == {"mail-a": (2, 1), "mail-b": (2, 1)}
    assert {info.name for info in await items(list_queues(backend))} == {"mail-a", "mail-b", "other"}


async def test_a_queue_that_cannot_be_read_is_reported_after_the_others(backend):
    names = [f"q{n}" for n in range(40)]
    for name in names:
        await DelayedQueue(backend, name).schedule(1, delay=9)
    read, seen = backend.stats, []

    async def stats(queue):
        if queue in ("q3", "q20"):
            raise PermanentError(f"{queue} is of another type", code="WRONGTYPE")
        return await read(queue)

    async def look():
        async for info in list_queues(backend):
            seen.append(info.name)

    backend.stats = stats
    with pytest.raises(PermanentError, match="of another type"):
        await look()
    assert sorted(seen) == sorted(set(names) - {"q3", "q20"})


class Twice(MemoryBackend):
    async def find_queues(self, patterns):
        yield ["a", "a"]
        yield []
        yield ["a", "not-\udcff", "{x}", "b"]


async def test_a_queue_that_is_found_twice_is_listed_once_and_one_that_cannot_be_served_not_at_all(clock):
    backend = Twice(clock=clock)
    await backend.open()
    assert [info.name for info in await items(list_queues(backend))] == ["a", "b"]


@pytest.mark.parametrize("pattern", ["", None, ["a"], b"x"])
async def test_a_pattern_is_text(backend, pattern):
    with pytest.raises(ConfigError, match="pattern must be a glob"):
        await items(list_queues(backend, pattern))


async def test_a_forgotten_async_with_is_named():
    with pytest.raises(ConfigError, match="expected an open backend"):
        await items(list_queues(untyped("memory://")))
