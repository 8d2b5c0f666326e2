"""DelayedQueue.retry and Backoff: what ChasquiMQ's worker does with a job that failed, from any consumer."""

from __future__ import annotations

import itertools
import struct
from datetime import UTC, datetime, timedelta

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import (
    Backoff,
    ConfigError,
    DelayedQueue,
    Envelope,
    JobError,
    JobOutcome,
    RetriesExhausted,
    RetryOverrides,
    Scheduled,
    TransientError,
    unpack_envelope,
)
from promoter_core.client.backoff import WORKERS_DEFAULT
from promoter_core.spi import Capabilities, PromotionRequest, StreamEntry, StreamName, Ties, Wake, pack_envelope
from promoter_core.spi.wire import repack_attempt, says_no_index
from promoter_core.testing import Fault, FaultyBackend
from tests.typed import untyped

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
BIN = msgpack.packb(msgpack.packb({"to": "a@b.c"}))

IDS = [
    msgpack.packb("my-id-1"),
    msgpack.packb("x" * 31),
    msgpack.packb("x" * 200),  # str8
    msgpack.packb("ü" * 250),  # str16
    b"\xdb" + struct.pack(">I", 3) + b"abc",  # str32
    b"\xd9\x03abc",  # no index
    b"\xa2\xff\xfe",  # no UTF-8
    b"\xd9\x21" + b"\x80" * 33,
]
ATTEMPTS = [
    (0, b"\x00"),
    (127, b"\x7f"),
    (127, b"\xcc\x7f"),
    (255, b"\xcc\xff"),
    (256, b"\xcd\x01\x00"),
    (65_535, b"\xcd\xff\xff"),
    (65_536, b"\xce\x00\x01\x00\x00"),
    (5, b"\xcf" + bytes(7) + b"\x05"),
    (4, b"\xd0\x04"),
]
HEADERS = [b"\x90", b"\xdc\x00", b"\xdd\x00\x00\x00"]
OVERRIDES = [
    b"",
    msgpack.packb([25, ["exponential", 100, 30_000, 2.0, 50]]),
    msgpack.packb([None, ["fixed", 1_000, None, None, None]]),
    msgpack.packb([3, None]) + msgpack.packb({"what": "comes later"}),
    b"\xc0",
]


def packed(header, id, attempt, overrides=b"", payload=BIN):
    unpacker = msgpack.Unpacker()
    unpacker.feed(overrides)
    count = 4 + sum(1 for _ in unpacker)
    start = bytes([header[0] | count]) if len(header) == 1 else header + bytes([count])
    return start + id + payload + b"\xcf\x00\x00\x01\xa2\x0b[\xb1\xd9" + attempt + overrides


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("id", IDS)
async def test_all_of_an_envelope_but_its_attempt_stays_byte_for_byte(queue, header, id):
    for (attempt, form), overrides in itertools.product(ATTEMPTS, OVERRIDES):
        before = packed(header, id, form, overrides)
        envelope = unpack_envelope(before)
        assert (envelope.attempt, envelope.raw) == (attempt, before)
        if envelope.retry and envelope.retry.max_attempts is not None and attempt + 1 >= envelope.retry.max_attempts:
            continue
        scheduled = await queue.retry(before, delay=1)
        after = (await queue.get(scheduled)).envelope.raw
        assert after == packed(header, id, msgpack.packb(attempt + 1), overrides)
        assert scheduled.id.encode("utf-8", "surrogateescape") in before
        assert await queue.cancel(scheduled) is JobOutcome.REMOVED


@given(
    st.text(min_size=1, max_size=80),
    st.binary(max_size=80),
    st.integers(0, 2**63),
    st.integers(0, 2**32 - 2),
    st.lists(st.none() | st.integers(0, 2**64 - 1) | st.floats() | st.text(max_size=5), max_size=3),
    st.booleans(),
)
def test_an_envelope_is_the_same_but_for_its_attempt(id, payload, created, attempt, more, index):
    before = pack_envelope(id, payload, created, attempt, index=index)
    if more:
        before = bytes([before[0] + len(more)]) + before[1:] + b"".join(map(msgpack.packb, more))
    after = repack_attempt(before, attempt + 1)
    assert repack_attempt(after, attempt) == before
    assert unpack_envelope(after).attempt == attempt + 1
    assert says_no_index(after) == says_no_index(before) == (not index and len(id.encode()) < 32)


def test_a_large_payload_is_no_obstacle():
    before = pack_envelope("a", b"x" * 20_000_000, 1, 0)
    assert repack_attempt(before, 300) == before[:-1] + b"\xcd\x01\x2c"


async def delivered(queue, backend):
    """The one entry of the stream, as a consumer gets it."""
    request = PromotionRequest(limit=100, max_stream_len=1_000)
    await backend.promote(await backend.lock("q", "me", 60_000), request)
    return (await backend.read("q", StreamName.JOBS, "", 100))[-1]


async def due_in(queue, clock, id):
    return ((await queue.get(id)).due - datetime.fromtimestamp(clock.time_ms() / 1000, UTC)).total_seconds()


async def test_a_failed_job_comes_back_with_its_id_its_name_and_one_attempt_more(queue, backend, clock):
    await queue.schedule({"n": 1}, job_id="a", name="welcome")
    clock.jump(5)
    entry = await delivered(queue, backend)
    assert await queue.retry(entry, delay=timedelta(seconds=30), traceparent=TRACE) == Scheduled("a")
    job = await queue.get("a")
    assert (job.name, job.attempt, job.data(), job.traceparent) == ("welcome", 1, {"n": 1}, TRACE)
    assert job.created == datetime.fromtimestamp(clock.time_ms() / 1000 - 5, UTC)
    assert await due_in(queue, clock, "a") == 30
    assert job.unique is False


async def test_an_entry_its_envelope_and_its_bytes_are_the_same_to_retry(queue, backend):
    await queue.schedule(1, job_id="a", name="n")
    entry = await delivered(queue, backend)
    raw = entry.fields["d"]
    for job, name in ((entry, "n"), (raw, ""), (unpack_envelope(raw), "")):
        await queue.retry(job, delay=5)
        assert (await queue.get("a")).name == name
        assert await queue.cancel("a") is JobOutcome.REMOVED
    await queue.retry(entry, name="other", delay=5)
    assert (await queue.get("a")).name == "other"


async def test_a_name_and_an_id_that_are_no_utf_8_survive(queue, backend):
    entry = StreamEntry("1-0", {"d": packed(HEADERS[0], b"\xa2\xff\xfe", b"\x00"), "n": b"\xff"})
    await queue.retry(entry, delay=0)
    again = await delivered(queue, backend)
    assert again.fields == {"d": packed(HEADERS[0], b"\xa2\xff\xfe", b"\x01"), "n": b"\xff"}


async def test_a_job_without_an_index_stays_one_and_any_other_has_one(backend):
    class Seeing(FaultyBackend):
        async def schedule(self, queue, jobs):
            self.seen = jobs
            return await self.backend.schedule(queue, jobs)

    seeing = Seeing(backend)
    for index in (True, False):
        await DelayedQueue(seeing, "q").retry(pack_envelope("a", BIN, 1, 0, index=index), delay=1)
        (request,) = seeing.seen
        assert (request.index, request.unique) == (index, False)


@pytest.mark.parametrize(
    ("overrides", "given_backoff", "waits"),
    [
        (None, Backoff.fixed(7), [7, 7, 7, 7]),
        (None, Backoff.exponential(1, 3, max=20), [1, 3, 9, 20]),
        (None, Backoff.exponential(timedelta(seconds=1), max=timedelta(seconds=3)), [1, 2, 3, 3]),
        ([None, ["fixed", 500, None, None, 0]], Backoff.exponential(1, 3, jitter=5), [0.5] * 4),
        ([None, ["fixed", 500, 200, 9.0, 0]], Backoff.fixed(7), [0.2] * 4),
        ([None, ["exponential", 100, None, None, 0]], Backoff.exponential(5, 3, max=2), [0.1, 0.3, 0.9, 2]),
        ([None, ["exponential", 100, 250, 2.0, 0]], None, [0.1, 0.2, 0.25, 0.25]),
        ([None, ["exponential", 100, None, 10.0, 0]], None, [0.1, 1, 10, 30]),
        ([None, ["exponential", 800, None, 0.5, 0]], None, [0.8, 0.4, 0.2, 0.1]),
        ([None, ["linear", 100, None, None, 0]], None, [0.1, 0.2, 0.4, 0.8]),
        ([9, None], Backoff.fixed(7), [7, 7, 7, 7]),
    ],
)
async def test_a_job_waits_as_its_own_overrides_or_else_the_consumer_say(queue, clock, overrides, given_backoff, waits):
    raw = pack_envelope("a", BIN, 1, 0)
    if overrides is not None:
        raw = bytes([raw[0] + 1]) + raw[1:] + msgpack.packb(overrides)
    for attempt, wait in enumerate(waits):
        await queue.retry(repack_attempt(raw, attempt), backoff=given_backoff)
        assert await due_in(queue, clock, "a") == wait
        await queue.cancel("a")


async def test_an_explicit_time_wins_over_the_jobs_own(queue, clock):
    raw = msgpack.packb(["a", b"\x01", 1, 0, [9, ["fixed", 500, None, None, None]]])
    await queue.retry(raw, delay=60)
    assert await due_in(queue, clock, "a") == 60
    await queue.cancel("a")
    await queue.retry(raw, at=datetime.fromtimestamp(clock.time_ms() / 1000 + 9, UTC))
    assert await due_in(queue, clock, "a") == 9


@pytest.mark.parametrize(
    ("own", "how", "runs"),
    [
        (None, {"backoff": Backoff.fixed(1, max_attempts=3)}, 3),
        (2, {"backoff": Backoff.fixed(1, max_attempts=3)}, 2),
        (5, {"backoff": Backoff.fixed(1, max_attempts=3)}, 5),
        (4, {"backoff": Backoff.fixed(1)}, 4),
        (4, {"delay": 1}, 4),
        (1, {}, 1),
        (0, {}, 1),
        (None, {}, 25),
    ],
)
async def test_a_job_runs_as_often_as_it_may_and_no_more(queue, backend, clock, own, how, runs):
    first = ["a", b"\x01", 1, 0] if own is None else ["a", b"\x01", 1, 0, [own, None]]
    raw, ran = msgpack.packb(first), 1
    while ran < runs:
        await queue.retry(raw, **how)
        clock.jump(60)
        raw, ran = (await delivered(queue, backend)).fields["d"], ran + 1
    with pytest.raises(RetriesExhausted, match=f"^job 'a' has run {runs} times, of {runs} at most$") as caught:
        await queue.retry(raw, **how)
    assert (caught.value.id, caught.value.attempts, caught.value.max_attempts) == ("a", runs, runs)
    assert (await queue.stats()).depth == 0


async def test_without_a_limit_it_goes_on_and_the_attempt_stays_one_that_workers_can_read(queue):
    raw = repack_attempt(pack_envelope("a", BIN, 1, 0), 2**32 - 1)
    await queue.retry(raw, delay=1)
    assert (await queue.get("a")).attempt == 2**32 - 1
    await queue.cancel("a")
    await queue.retry(raw, backoff=Backoff.exponential(1, 1e9))
    assert (await queue.get("a")).attempt == 2**32 - 1


async def test_a_second_retry_of_one_delivery_is_no_second_job(queue, backend, clock):
    await queue.schedule(1, job_id="a")
    entry = await delivered(queue, backend)
    losing = DelayedQueue(FaultyBackend(backend, Fault("schedule", after_effect=True)), "q", clock=clock)
    with pytest.raises(TransientError):
        await losing.retry(entry, delay=5)
    assert await losing.retry(entry, delay=60) == Scheduled("a", JobOutcome.MOVED)
    assert (await queue.stats()).depth == 1
    assert await due_in(queue, clock, "a") == 60


async def test_a_retry_takes_nothing_from_a_new_job_with_its_id(queue, backend):
    await queue.schedule("old", job_id="a", keep_id_for=0)
    entry = await delivered(queue, backend)
    await queue.schedule("new", delay=9, job_id="a", on_repeat="error")
    assert (await queue.retry(entry, delay=5)).created
    assert [(job.data(), job.attempt) async for job in queue.scan()] == [("old", 1), ("new", 0)]


async def test_where_the_member_is_the_job_a_retry_is_one_call(backend):
    class ByMember(FaultyBackend):
        capabilities = Capabilities(wake=Wake.POLL, ties=Ties.MEMBER)

    counting = ByMember(backend)
    await DelayedQueue(counting, "q").retry(pack_envelope("a", BIN, 1, 0), delay=1)
    assert counting.calls == {"schedule": 1}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda q, e: q.retry("a", delay=1), "retry takes an Envelope, an entry of the stream or its field d, not 'a'"),
        (lambda q, e: q.retry(None, delay=1), "not a NoneType"),
        (lambda q, e: q.retry(b"", delay=1), "retry: not a msgpack envelope"),
        (lambda q, e: q.retry(b"\x93\x01\x02\x03", delay=1), "retry: not an envelope: expected"),
        (lambda q, e: q.retry(StreamEntry("7-0", {"x": b""}), delay=1), "entry 7-0 is not a job: it has no field d"),
        (lambda q, e: q.retry(Envelope("a", b"", created_at_ms=1, attempt=0), delay=1), "put together"),
        (lambda q, e: q.retry(msgpack.packb(["a", b"", 1, -1]), delay=1), "attempt is -1, not a number of runs"),
        (lambda q, e: q.retry(msgpack.packb(["a", b"", 1, True]), delay=1), "attempt is True"),
        (lambda q, e: q.retry(e, backoff=5), "backoff must be a Backoff, .* not a int"),
        (lambda q, e: q.retry(e, backoff=Backoff.fixed(1), delay=1), "either backoff= or delay= or at="),
        (lambda q, e: q.retry(e, at=datetime(2030, 1, 1, tzinfo=UTC), delay=1), "not both"),
        (lambda q, e: q.retry(e, delay=-1), "out of range"),
        (lambda q, e: q.retry(e, delay=1, name="x" * 257), "257 bytes"),
        (lambda q, e: q.retry(e, delay=1, name=b"n"), "name must be text, not bytes"),
        (lambda q, e: q.retry(e, delay=1, traceparent="x"), "traceparent must be"),
    ],
)
async def test_what_cannot_be_retried_is_refused_with_one_line(queue, call, problem):
    with pytest.raises(JobError, match=problem):
        await call(queue, pack_envelope("a", BIN, 1, 0))
    assert (await queue.stats()).depth == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Backoff.fixed(-1), "the first delay of a back-off is -1: it must be from 0 to"),
        (lambda: Backoff.fixed(float("nan")), "is nan"),
        (lambda: Backoff.fixed(untyped("1s")), "must be a number, not str"),
        (lambda: Backoff.fixed(True), "must be a number, not bool"),
        (lambda: Backoff.fixed(1, jitter=-1), "jitter of a back-off is -1"),
        (lambda: Backoff.exponential(1, -2), "factor of a back-off is -2"),
        (lambda: Backoff.exponential(1, float("inf")), "factor of a back-off is inf"),
        (lambda: Backoff.exponential(1, max=timedelta(days=400)), "max of a back-off"),
        (lambda: Backoff.fixed(1, max_attempts=0), "max_attempts must be a whole number from 1, or None, not 0"),
        (lambda: Backoff.fixed(1, max_attempts=untyped(2.0)), "not 2.0"),
        (lambda: Backoff.fixed(1, max_attempts=True), "not True"),
    ],
)
def test_a_back_off_that_cannot_be_is_refused(make, problem):
    with pytest.raises(ConfigError, match=problem):
        make()


def test_jitter_is_added_to_the_longest_delay_too_and_spreads_the_jobs():
    backoff = Backoff.exponential(1, max=4, jitter=2)
    delays = [backoff.delay_s(9) for _ in range(200)]
    assert 4 <= min(delays) < 4.5 < 5.5 < max(delays) <= 6


@pytest.mark.parametrize("attempt", [-1, 0, 1])
def test_the_first_retry_waits_the_first_delay(attempt):
    assert Backoff.exponential(3, 5).delay_s(attempt) == 3


@pytest.mark.parametrize("backoff", [Backoff.exponential(0.1), Backoff.exponential(0), WORKERS_DEFAULT])
def test_a_delay_never_overflows(backoff):
    assert 0 <= backoff.delay_s(2**32) <= backoff.max_s + backoff.jitter_s


def test_overrides_that_are_out_of_range_are_brought_into_it():
    retry = RetryOverrides(
        max_attempts=0, kind="exponential", delay_ms=2**64 - 1, multiplier=1e300, jitter_ms=2**64 - 1
    )
    own = WORKERS_DEFAULT.overridden(retry)
    assert (own.max_attempts, own.max_s) == (1, 30.0)
    assert own.delay_s(7) >= 30
