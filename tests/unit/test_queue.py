"""DelayedQueue: what it accepts, what it refuses, and that a refusal writes nothing."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import ConfigError, DelayedQueue, Job, JobError, JobOutcome, Promoter, PromoterError, Scheduled
from promoter_core.client.requests import RequestMaker, due_of
from promoter_core.spi import JobRequest, PromotionRequest, StreamName, pack_envelope
from promoter_core.spi.wire import pack_data
from promoter_core.testing import RecordingEvents
from tests.typed import untyped


async def next_due(queue):
    return (await queue.stats()).next_due_ms


@pytest.mark.parametrize(
    ("delay", "ms"),
    [(5, 5_000), (0.25, 250), (timedelta(minutes=1), 60_000), (timedelta(microseconds=1500), 2), (1.0000001, 1_001)],
)
async def test_a_delay_is_a_timedelta_or_seconds_and_never_shortened(queue, clock, delay, ms):
    await queue.schedule("x", delay=delay)
    assert await next_due(queue) == clock.time_ms() + ms


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
async def test_at_is_an_aware_datetime_in_any_zone(queue, zone):
    at = datetime(2030, 1, 31, 9, 0, 0, 123_000, tzinfo=UTC).astimezone(zone)
    await queue.schedule("x", at=at)
    assert await next_due(queue) == 1_896_080_400_123


@pytest.mark.parametrize("when", [{}, {"delay": 0}, {"at": datetime(2020, 1, 1, tzinfo=UTC)}])
async def test_a_job_that_is_due_is_due_now_and_promoted_as_any_other(queue, backend, clock, when):
    await queue.schedule("x", **when)
    assert await next_due(queue) == clock.time_ms()
    events = RecordingEvents()
    async with Promoter(backend, "q", clock=clock, events=[events]).running():
        await clock.sleep(0.1)
        await queue.schedule("y", **when)
        await clock.sleep(0.1)
    assert len(await backend.read("q", StreamName.JOBS, "", 9)) == 2
    assert len(await backend.read("q", StreamName.EVENTS, "", 9)) == 2
    assert [job.promoted_ms - job.due_ms for job in events.jobs][1] <= 10, "the leader is woken"


async def test_the_answer_says_whether_the_job_is_new(queue):
    assert await queue.schedule(1, delay=1, job_id="a") == Scheduled("a")
    assert await queue.schedule(2, delay=9, job_id="a") == Scheduled("a", JobOutcome.KEPT)


async def test_without_an_id_each_job_gets_another_ulid(queue):
    one, two = await queue.schedule_many([Job(data=1, delay=1)] * 2)
    assert len(one.id) == len(two.id) == 26
    assert one.id != two.id


async def test_cancel_takes_an_id_or_what_schedule_answered(queue):
    a, b = await queue.schedule("a", delay=1), await queue.schedule("b", delay=1)
    assert await queue.cancel(a) is JobOutcome.REMOVED
    assert await queue.cancel(b.id) is JobOutcome.REMOVED
    assert await queue.cancel(b.id) is JobOutcome.NOT_FOUND
    assert await queue.cancel_many([]) == ()


async def test_a_job_with_an_id_that_is_no_utf_8_can_be_cancelled_all_the_same(queue, backend):
    id = b"\xff".decode("utf-8", "surrogateescape")  # another producer's, as events tell it
    await backend.schedule("q", [JobRequest(id, pack_envelope(id, b"", 0, 0), delay_ms=1_000)])
    assert await queue.cancel(id) is JobOutcome.REMOVED


async def test_the_payload_is_msgpack_of_the_data(queue, backend):
    data = {"to": "ä", "n": [1, None, 2.5, b"\x00"], "deep": {"x": {"y": True}}}
    await queue.schedule(data)
    await backend.promote(await backend.lock("q", "me", 1_000), PromotionRequest(limit=1, max_stream_len=1))
    (entry,) = await backend.read("q", StreamName.JOBS, "", 1)
    _, payload, _, attempt = msgpack.unpackb(entry.fields["d"])
    assert msgpack.unpackb(payload) == data
    assert attempt == 0


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("a{b", "'{'"),
        ("a}b", "'}'"),
        ("a\nb", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\x85b", "control characters"),
        ("x" * 201, "201 bytes"),
        ("ü" * 101, "202 bytes"),
        (None, "must be text, not NoneType"),
        (b"q", "must be text, not bytes"),
        ("\ud800", "not valid Unicode"),
        ("a\udcff", "not valid Unicode"),
    ],
)
def test_a_bad_queue_name_is_refused(backend, name, problem):
    with pytest.raises(ConfigError, match=problem):
        DelayedQueue(backend, name)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "x" * 257}, "257 bytes long, at most 256"),
        ({"name": None}, "name must be text, not NoneType"),
        ({"name": "\ud800"}, "name .* not valid Unicode"),
        ({"job_id": "\ud800"}, "job id .* not valid Unicode"),
        ({"job_id": "a\udcff"}, "job id .* could not read it as UTF-8"),
        ({"job_id": ""}, "1 to 512 bytes"),
        ({"job_id": "  "}, "more than white space"),
        ({"job_id": "x" * 513}, "not 513 bytes"),
        ({"job_id": 7}, "job id must be text, not int"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001  # that is the point
        ({"at": date(2030, 1, 1)}, "must be a datetime with a time zone, not date"),
        ({"at": datetime(1960, 1, 1, tzinfo=UTC)}, "out of range"),
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ({"delay": float("nan")}, "nan s is out of range"),
        ({"delay": float("inf")}, "out of range"),
        ({"delay": -1}, "-1 s is out of range"),
        ({"delay": timedelta(seconds=-0.001)}, "out of range"),
        ({"delay": 1e13}, "out of range"),
        ({"delay": 253_402_300_799}, "out of range"),  # from now, that is in the year 10056
        ({"delay": timedelta(days=365 * 8020)}, "out of range"),
        ({"delay": "5s"}, "timedelta or a number of seconds, not str"),
        ({"delay": True}, "not bool"),
        ({"delay": Decimal(5)}, "not Decimal"),
    ],
)
async def test_a_job_that_cannot_be_is_refused_before_anything_is_written(queue, fields, problem):
    with pytest.raises(JobError, match=problem):
        await queue.schedule_many([Job(data=1, delay=1), Job(data=2, **fields)])
    assert (await queue.stats()).depth == 0


deep: list[object] = []
for _ in range(1200):
    deep = [deep]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (object(), r"data is an object: msgpack cannot pack it; convert it"),
        ({"to": ["a", {1, 2}]}, r"data\['to'\]\[1\] is a set: msgpack cannot pack it"),
        ({"when": datetime(2030, 1, 1, tzinfo=UTC)}, r"data\['when'\] is a datetime\.datetime: msgpack cannot pack it"),
        ([1, 2**64], r"data\[1\] .* 18446744073709551616, beyond 64 bits"),
        ({("a", object()): 1}, r"data key .* is an object"),
        (["\ud800"], r"data\[0\] .* not valid Unicode"),
        (deep, "nested more than 500 deep"),
    ],
)
async def test_data_that_cannot_be_packed_is_named_with_its_place(queue, data, where):
    with pytest.raises(JobError, match=where):
        await queue.schedule(data, delay=1)
    assert (await queue.stats()).depth == 0


def test_bad_input_is_a_value_error_too():
    assert issubclass(JobError, ValueError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(JobError, PromoterError)


async def test_whether_jobs_have_an_index_is_said_by_the_queue_or_by_the_job(backend):
    seen: list[JobRequest] = []

    async def schedule(queue, jobs):
        seen.extend(jobs)
        return tuple(Scheduled(job.id) for job in jobs)

    backend.schedule = schedule
    for queue_index, job_index in itertools.product((True, False), (None, True, False)):
        queue = DelayedQueue(backend, "q", index=queue_index)
        await queue.schedule(1, index=job_index)
        await queue.schedule_many([Job(data=1, index=job_index), Job(data=1, index=job_index, job_id="a")])
        expected = queue_index if job_index is None else job_index
        assert [request.index for request in seen] == [expected] * 3
        assert [request.unique for request in seen] == [False, False, True]
        # a job with an index never looks as if it had none, or its index would stay
        written = [b"\xba" if expected else b"\xd9\x1a"] * 2 + [b"\xa1a"]
        assert [request.envelope[1 : 1 + len(w)] for request, w in zip(seen, written, strict=True)] == written
        seen.clear()


@pytest.mark.parametrize("index", [None, 0, "no"])
def test_the_index_of_a_queue_is_true_or_false(backend, index):
    with pytest.raises(ConfigError, match="index must be True or False, not "):
        DelayedQueue(backend, "q", index=index)


jobs = st.builds(
    Job,
    data=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text("aä", max_size=40) | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
        max_leaves=5,
    ),
    delay=st.none() | st.integers(0, 10**6) | st.floats(0, 1e6) | st.timedeltas(timedelta(0), timedelta(400)),
    name=st.sampled_from(("", "send-email", "ä" * 100)),
    job_id=st.none() | st.text("aä", min_size=1, max_size=60),
    index=st.sampled_from((None, True, False)),
    traceparent=st.sampled_from(("", None, f"00-{1:032x}-{1:016x}-01")),
)
at = st.sampled_from((datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, 0, 0, 0, 1234, tzinfo=UTC)))


@given(
    st.lists(jobs | st.builds(lambda job, at: replace(job, delay=None, at=at), jobs, at), max_size=30), st.booleans()
)
def test_requests_made_together_are_what_each_would_be(many, index):
    many = many + many[::-1]  # neighbours that share what they have, and others that do not
    made = RequestMaker(1_700_000_000_123, index=index).make(many)
    assert len(made) == len(many)
    for job, request in zip(many, made, strict=True):
        assert request.id == job.job_id or (job.job_id is None and len(request.id) == 26)
        delay_ms, due_ms = due_of(job.delay, job.at, 1_700_000_000_123)
        has_index = index if job.index is None else job.index
        unique = job.job_id is not None
        expected = JobRequest(
            request.id,
            pack_envelope(request.id, pack_data(job.data), 1_700_000_000_123, 0, index=unique or has_index),
            name=job.name,
            delay_ms=delay_ms,
            due_ms=due_ms,
            unique=unique,
            index=has_index,
            traceparent=job.traceparent or "",
        )
        assert request == expected
        assert type(request) is JobRequest
        assert (repr(request), hash(request)) == (repr(expected), hash(expected))
        assert pickle.loads(pickle.dumps(request)) == replace(request) == expected  # our own
        with pytest.raises(FrozenInstanceError):
            untyped(request).name = "other"


async def test_many_jobs_are_checked_before_the_first_is_written_and_leave_others_their_turn(queue, backend):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with pytest.raises(JobError, match="not a set"):
        await queue.schedule_many(itertools.chain((Job(data=i) for i in range(4_500)), [{1}]))
    with pytest.raises(JobError, match="data is an? .* cannot pack it"):
        await queue.schedule_many(itertools.chain((Job(data=i) for i in range(4_500)), [Job(data={1})]))
    task.cancel()
    assert turns >= 8
    assert (await queue.stats()).depth == 0
    answers = await queue.schedule_many(Job(data=i) for i in range(2_500))
    assert len({answer.id for answer in answers if answer.created}) == 2_500
    assert (await queue.stats()).depth == 2_500


def test_a_packer_that_failed_packs_the_next_as_if_nothing_had_been():
    maker = RequestMaker(5)
    with pytest.raises(JobError):
        maker.make([Job(data=["some", "text", object()])])
    (request,) = maker.make([Job(data=1, job_id="a")])
    assert request.envelope == pack_envelope("a", b"\x01", 5, 0)
