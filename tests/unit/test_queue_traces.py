"""A job has its producer's trace context: the one that is given, or that of the span in which it is scheduled."""

import subprocess
import sys

import pytest

from tests.typed import present, untyped

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, get_current_span, use_span

from promoter_core import ConfigError, DelayedQueue, Job, JobError, Promoter, sync
from promoter_core.spi import StreamEntry, StreamName
from promoter_core.testing import VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_opentelemetry import extract

GIVEN = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
tracer = TracerProvider().get_tracer("tests")


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def backend(clock):
    backend = MemoryBackend(clock=clock)
    await backend.open()
    return backend


@pytest.fixture
def queue(backend, clock):
    return DelayedQueue(backend, "q", clock=clock)


def written(span):
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def within(state="", *, sampled=True):
    """A span of another process."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    context = SpanContext(3, 4, is_remote=True, trace_flags=flags, trace_state=TraceState.from_header([state]))
    return use_span(NonRecordingSpan(context))


async def trace_of(queue, id):
    job = await queue.get(id)
    return job.traceparent, job.tracestate


async def test_a_job_gets_the_context_of_the_span_in_which_it_is_scheduled(queue):
    with tracer.start_as_current_span("order") as span:
        await queue.schedule(1, delay=60, job_id="a")
        await queue.schedule_many([Job(data=1, delay=60, job_id=id) for id in ("b", "c")])
    await queue.schedule(1, delay=60, job_id="outside")
    assert [await trace_of(queue, id) for id in "abc"] == [(written(span), "")] * 3
    assert await trace_of(queue, "outside") == ("", "")
    with within("vendor=1,other=2", sampled=False):
        await queue.replace("a", 2)
    assert await trace_of(queue, "a") == (f"00-{3:032x}-{4:016x}-00", "vendor=1,other=2")


async def test_what_is_given_wins_and_none_is_none(queue, backend, clock):
    with within("vendor=1"):
        await queue.schedule(1, delay=60, job_id="given", traceparent=GIVEN)
        await queue.schedule(1, delay=60, job_id="both", traceparent=GIVEN, tracestate="a=1")
        await queue.schedule(1, delay=60, job_id="none", traceparent=None)
        await DelayedQueue(backend, "q", clock=clock, traces=False).schedule(1, delay=60, job_id="off")
    assert await trace_of(queue, "given") == (GIVEN, "")
    assert await trace_of(queue, "both") == (GIVEN, "a=1")
    assert await trace_of(queue, "none") == await trace_of(queue, "off") == ("", "")


@pytest.mark.parametrize("state", ["x" * 513, "a=\n", "ä", 7])
async def test_a_tracestate_that_is_none_is_a_clear_error(queue, state):
    with pytest.raises(JobError, match="tracestate must be up to 512 characters"):
        await queue.schedule(1, traceparent=GIVEN, tracestate=state)
    with pytest.raises(JobError, match="tracestate= goes with traceparent="):
        await queue.schedule(1, tracestate="a=1")
    with pytest.raises(JobError, match="tracestate= goes with traceparent="):
        await queue.schedule(1, traceparent=None, tracestate="a=1")


def test_traces_is_on_or_off(backend):
    with pytest.raises(ConfigError, match="traces must be True or False, not 'no'"):
        DelayedQueue(backend, "q", traces=untyped("no"))


async def test_a_long_tracestate_of_the_span_is_left_out(queue):
    with within(",".join(f"vendor{i}={'v' * 200}" for i in range(3))):
        await queue.schedule(1, delay=60, job_id="a")
    assert await trace_of(queue, "a") == (f"00-{3:032x}-{4:016x}-01", "")


async def entry_of(queue, backend, clock):
    await Promoter(backend, "q", clock=clock).run(until_idle=True)
    return (await backend.read("q", StreamName.JOBS, "", 100))[-1]


async def test_the_trace_goes_on_in_the_consumer_and_in_retries(queue, backend, clock):
    with within("vendor=1"):
        await queue.schedule(1, job_id="a")
    entry = await entry_of(queue, backend, clock)
    seen = get_current_span(extract(entry)).get_span_context()
    assert (seen.trace_id, seen.span_id, seen.is_remote) == (3, 4, True)
    assert seen.trace_state.to_header() == "vendor=1"
    await queue.retry(entry, delay=60)
    assert await trace_of(queue, "a") == (f"00-{3:032x}-{4:016x}-01", "vendor=1")
    await queue.cancel("a")
    with tracer.start_as_current_span("process", context=extract(entry)) as span:
        await queue.retry(entry, delay=60)
    assert await trace_of(queue, "a") == (written(span), "vendor=1")
    assert span.get_span_context().trace_id == 3
    await queue.cancel("a")
    await queue.retry(entry, delay=60, traceparent=None)
    assert await trace_of(queue, "a") == ("", "")


async def test_an_entry_with_a_context_that_is_none_is_retried(queue, backend, clock):
    await queue.schedule(1, job_id="a")
    entry = await entry_of(queue, backend, clock)
    await queue.retry(StreamEntry(entry.id, {**entry.fields, "traceparent": b"\xff"}), delay=60)
    assert await trace_of(queue, "a") == ("", "")


@pytest.mark.parametrize(
    "fields",
    [
        {b"d": b"\xff", b"traceparent": GIVEN.encode(), b"tracestate": b"a=1"},
        {"d": b"", "traceparent": GIVEN, "tracestate": "a=1"},
        [[b"d", b"\xff"], [b"traceparent", GIVEN.encode()], [b"tracestate", b"a=1"]],
    ],
)
def test_extract_takes_the_fields_as_clients_give_them(fields):
    context = get_current_span(extract(fields)).get_span_context()
    assert (f"{context.trace_id:x}", f"{context.span_id:x}") == ("1" * 32, "2" * 16)
    assert context.trace_state.to_header() == "a=1"


def test_extract_of_a_job_without_a_trace_begins_none():
    with within():
        for fields in ({b"d": b""}, {b"d": b"", b"traceparent": b"\xff"}):
            assert not get_current_span(extract(fields)).get_span_context().is_valid
            assert get_current_span(extract(fields, get_current())).get_span_context().span_id == 4


def test_code_that_blocks_takes_the_context_of_its_thread():
    with sync.connect("memory://") as backend, within():
        queue = sync.DelayedQueue(backend, "q")
        queue.schedule(1, delay=60, job_id="a")
        assert present(queue.get("a")).traceparent == f"00-{3:032x}-{4:016x}-01"


def test_a_program_without_opentelemetry_does_not_import_it():
    program = """
import asyncio, sys
from promoter_core import DelayedQueue, connect
async def main():
    async with connect("memory://") as backend:
        await DelayedQueue(backend, "q").schedule(1)
asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
