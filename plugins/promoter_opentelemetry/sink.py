"""`OpenTelemetryMetrics`: what a promoter does, by the semantic conventions for messaging.

The API alone is used: the application, or `opentelemetry-instrument promoter run …`, says where things go.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from promoter_core.errors import BackendError, ConfigError
from promoter_core.lateness import LATENESS_MS, sample_ms
from promoter_core.model import LockOutcome, SinkTrouble, Tick

log = logging.getLogger("promoter.opentelemetry")

SYSTEM = "promoter"
SAMPLED = 10  # jobs of a tick that the histogram of lateness is given, at most
LINKED = 128  # links of a span, at most; what the SDK keeps by default


class OpenTelemetryMetrics:
    """A metrics sink. `spans` ("on" or "off") says whether each tick that promoted is a span, too.

    A span has links to those of the producers, for jobs whose producer gave a trace context.
    """

    wants_jobs = False

    def __init__(
        self,
        spans: str = "on",
        *,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        """Raises ConfigError when `spans` is neither."""
        if spans not in ("on", "off"):
            raise ConfigError(f"opentelemetry: spans must be on or off, not {spans!r}")
        self._spans = spans == "on"
        self.wants_traces = self._spans
        if meter_provider is None and type(metrics.get_meter_provider()).__name__.startswith(("NoOp", "_Proxy")):
            log.warning("no OpenTelemetry SDK is set up, nothing is exported: see `opentelemetry-instrument`")
        self._tracer = trace.get_tracer(__name__, tracer_provider=tracer_provider)
        m = metrics.get_meter(__name__, meter_provider=meter_provider)
        self._sent = m.create_counter("messaging.client.sent.messages", "{message}", "Jobs moved to the stream.")
        self._duration = m.create_histogram("messaging.client.operation.duration", "s", "Of the promote call.")
        self._lateness = m.create_histogram(
            "promoter.lateness",
            "s",
            "From due to promoted, by the store's clock.",
            explicit_bucket_boundaries_advisory=[ms / 1000 for ms in LATENESS_MS],
        )
        self._quarantined = m.create_counter("promoter.quarantined", "{message}", "Malformed members moved to the DLQ.")
        self._outcomes = m.create_counter("promoter.lock.outcomes", "{transition}", "Lock transitions.")
        self._errors = m.create_counter("promoter.errors", "{error}", "Failed steps.")
        self._sinks = m.create_counter("promoter.sink.troubles", "{trouble}", "Troubles with sinks.")
        self._depth = m.create_gauge("promoter.delayed_jobs", "{message}", "Jobs in the sorted set.")
        self._lag = m.create_gauge("promoter.oldest_pending_lag", "s", "How late the oldest job still pending is.")
        self._held_back = m.create_gauge("promoter.held_back_jobs", "{message}", "Due jobs that wait for room.")
        self._leads = m.create_gauge("promoter.leads", "1", "1 while this process leads the queue.")

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, where = tick.promotion, _where(queue)
        if p.promoted:
            self._sent.add(p.promoted, where)
            for late_ms in sample_ms(p.promoted, p.late, SAMPLED):
                self._lateness.record(late_ms / 1000, where)
            if self._spans:
                self._span(queue, tick, where)
        if p.quarantined:
            self._quarantined.add(p.quarantined, where)
        self._duration.record(tick.duration_s, where)
        self._depth.set(p.depth, where)
        self._lag.set(p.oldest_pending_lag_ms / 1000, where)
        self._held_back.set(p.held_back, where)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        where = _where(queue)
        self._outcomes.add(1, where | {"promoter.lock.outcome": outcome.value})
        self._leads.set(int(outcome is LockOutcome.ACQUIRED), where)

    def on_error(self, queue: str, error: BackendError) -> None:
        self._errors.add(1, _where(queue) | {"error.type": error.code})

    def on_sink(self, sink: str, trouble: SinkTrouble) -> None:
        self._sinks.add(1, {"promoter.sink": sink, "promoter.sink.trouble": trouble.value})

    def _span(self, queue: str, tick: Tick, where: dict[str, Any]) -> None:
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            f"promote {queue}",
            kind=SpanKind.PRODUCER,
            attributes=where | {"messaging.batch.message_count": tick.promotion.promoted},
            links=_links(tick.promotion.traces),
            start_time=end_ns - int(tick.duration_s * 1e9),
        )
        span.set_status(StatusCode.OK)
        span.end(end_ns)


def _where(queue: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": "promote",
        "messaging.operation.type": "send",
    }


def _links(traces: tuple[str, ...]) -> list[Link]:
    links: list[Link] = []
    for traceparent in traces[:LINKED]:
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        if (producer := trace.get_current_span(context).get_span_context()).is_valid:
            links.append(Link(producer))
    return links
