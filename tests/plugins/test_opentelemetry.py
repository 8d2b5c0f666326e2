"""The opentelemetry sink passes its contract, names things by the conventions, and links to the producers' spans."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from promoter_core import ConfigError, DelayedQueue, JobError, Promoter, Registry, TransientError
from promoter_core.spi import LockOutcome, Promotion, SinkFailure, Tick
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import MetricsSinkContract
from promoter_memory.backend import MemoryBackend
from promoter_opentelemetry.sink import SAMPLED, OpenTelemetryMetrics

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def sink(reader, spans):
    return make(reader, spans)


def make(reader, spans):
    tracer = TracerProvider()
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    return OpenTelemetryMetrics(meter_provider=MeterProvider([reader]), tracer_provider=tracer)


class TestOpenTelemetry(MetricsSinkContract):
    @pytest.fixture
    def sink(self, reader, spans):
        return make(reader, spans)


def points(reader):
    """By name: (attributes, point)."""
    data = reader.get_metrics_data()
    found = {}
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        found[metric.name] = [(dict(p.attributes), p) for p in metric.data.data_points]
    return found


async def test_it_shows_what_a_promoter_does(sink, reader, spans):
    clock = VirtualClock()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    queue = DelayedQueue(backend, "q", clock=clock)
    await queue.schedule(1, delay=1, traceparent=TRACE, job_id="first")
    await queue.schedule(2, delay=1)
    await queue.schedule(3, delay=500)
    async with Promoter(backend, "q", metrics=[sink], clock=clock).running():
        await clock.sleep(2)
        sink.on_error("q", TransientError("gone", code="CONNECTION"))
        sink.on_sink_failure("Slow", SinkFailure.DROPPED)
        found = points(reader)
    ((where, sent),) = found["messaging.client.sent.messages"]
    assert sent.value == 2
    assert where["messaging.system"] == "promoter"
    assert where["messaging.destination.name"] == "q"
    assert where["messaging.operation.name"] == "promote"
    assert found["promoter.lateness"][0][1].count == 2
    assert found["promoter.delayed_jobs"][0][1].value == 1
    assert found["promoter.leads"][0][1].value == 1
    assert found["promoter.errors"][0][0]["error.type"] == "CONNECTION"
    assert found["promoter.sink.failures"][0][0]["promoter.sink.failure"] == "dropped"
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("promote q", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET, "as the conventions say of what went well"
    assert span.attributes["messaging.batch.message_count"] == 2
    (link,) = span.links
    assert f"{link.context.trace_id:032x}" == TRACE.split("-")[1]
    assert f"{link.context.span_id:016x}" == TRACE.split("-")[2]
    assert link.attributes == {"messaging.message.id": "first"}


GAUGES = ("promoter.delayed_jobs", "promoter.oldest_pending_lag", "promoter.held_back_jobs")


@pytest.mark.parametrize("outcome", [LockOutcome.HELD, LockOutcome.RELEASED])
def test_gauges_end_with_the_lead_and_with_the_queue(sink, reader, outcome):
    def shown(name):
        return {where["messaging.destination.name"]: point.value for where, point in points(reader).get(name, ())}

    for queue in ("q", "other"):
        sink.on_lock(queue, LockOutcome.ACQUIRED)
        sink.on_tick(queue, Tick(Promotion(depth=5, oldest_pending_lag_ms=2_000, held_back=5), 0.001))
    assert [shown(name)["q"] for name in ("promoter.leads", *GAUGES)] == [1, 5, 2, 5]
    sink.on_lock("q", outcome)
    for name in GAUGES:
        assert shown(name).keys() == {"other"}, "who does not lead does not know"
    assert shown("promoter.leads") == {"q": 0, "other": 1}
    sink.on_forget("q")
    sink.on_forget("never seen")
    assert shown("promoter.leads") == {"other": 1}
    sink.on_forget("other")
    assert not points(reader).keys() & {"promoter.leads", *GAUGES}
    sink.on_lock("q", LockOutcome.ACQUIRED)
    assert shown("promoter.leads") == {"q": 1}, "it may come back"


def test_the_sinks_of_a_process_share_the_instruments(reader, caplog):
    provider = MeterProvider([reader])
    sinks = [OpenTelemetryMetrics("off", meter_provider=provider) for _ in range(2)]
    for sink, queue in zip(sinks, "ab", strict=True):
        sink.on_tick(queue, Tick(Promotion(depth=3), 0.001))
    assert sorted(where["messaging.destination.name"] for where, _ in points(reader)["promoter.delayed_jobs"]) == [
        "a",
        "b",
    ]
    assert caplog.text == ""


def test_the_duration_has_the_bounds_of_the_conventions(sink, reader):
    sink.on_tick("q", Tick(Promotion(), 0.001))
    ((_, duration),) = points(reader)["messaging.client.operation.duration"]
    bounds_s = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert tuple(duration.explicit_bounds) == bounds_s


def test_idle_ticks_are_no_spans(sink, spans):
    sink.on_tick("q", Tick(Promotion(depth=3), 0.001))
    assert spans.get_finished_spans() == ()


def test_spans_can_be_off(reader):
    sink = OpenTelemetryMetrics("off", meter_provider=MeterProvider([reader]))
    assert not sink.wants_traces
    sink.on_tick("q", Tick(Promotion(promoted=3), 0.001))


def test_a_large_tick_is_represented_by_a_sample(sink, reader):
    sink.on_tick("q", Tick(Promotion(promoted=10_000, lateness_counts=(5_000, 100)), 0.01))
    ((_, lateness),) = points(reader)["promoter.lateness"]
    assert SAMPLED <= lateness.count <= SAMPLED + 3
    assert lateness.bucket_counts[0] == 5
    assert lateness.bucket_counts[1] == 5
    assert lateness.bucket_counts[2] == 1


def test_without_an_sdk_it_says_so(caplog):
    Registry().metrics_sink("opentelemetry")
    assert "no OpenTelemetry SDK is set up" in caplog.text


def test_an_option_that_cannot_work_is_a_clear_error():
    with pytest.raises(ConfigError, match="spans must be on or off, not 'some'"):
        Registry().metrics_sink("opentelemetry:spans=some")


@pytest.mark.parametrize("bad", ["a/b", "redis://h", "h:port", "user@h", ":6379"])
def test_a_server_is_a_host_and_a_port(bad):
    with pytest.raises(ConfigError, match="server must be HOST or HOST:PORT"):
        Registry().metrics_sink(f"opentelemetry:server={bad}")


@pytest.mark.parametrize(
    ("server", "attributes"),
    [
        ("redis", {"server.address": "redis"}),
        ("redis:6379", {"server.address": "redis", "server.port": 6379}),
        ("[::1]:7000", {"server.address": "::1", "server.port": 7000}),
    ],
)
def test_the_server_is_shown_where_it_is_given(reader, spans, server, attributes):
    tracer = TracerProvider()
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    sink = OpenTelemetryMetrics(server=server, meter_provider=MeterProvider([reader]), tracer_provider=tracer)
    sink.on_tick("q", Tick(Promotion(promoted=1), 0.001))
    ((where, _),) = points(reader)["messaging.client.operation.duration"]
    (span,) = spans.get_finished_spans()
    assert where.items() >= attributes.items()
    assert span.attributes.items() >= attributes.items()


def test_an_id_that_is_no_utf_8_is_shown(sink, spans):
    sink.on_tick("q", Tick(Promotion(promoted=1, traces=(TRACE,), trace_ids=("\udcff",)), 0.001))
    ((link,),) = (span.links for span in spans.get_finished_spans())
    assert link.attributes == {"messaging.message.id": "\\xff"}


@pytest.mark.parametrize("bad", ["x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", 7])
async def test_a_trace_context_that_is_none_is_a_clear_error(bad):
    backend = MemoryBackend()
    await backend.open()
    with pytest.raises(JobError, match="traceparent must be as in W3C Trace Context"):
        await DelayedQueue(backend, "q").schedule(1, delay=1, traceparent=bad)
