"""`OpenTelemetryMetrics`: metrics of a promoter, by the semantic conventions for messaging.

It uses only the API: the application, or `opentelemetry-instrument -- promoter run …`, configures the export.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from promoter_core.spi import (
    LATENESS_MS,
    BackendError,
    ConfigError,
    LockOutcome,
    Promotion,
    SinkFailure,
    Tick,
    sample_ms,
    to_bytes,
)

log = logging.getLogger("promoter.opentelemetry")

SYSTEM = "promoter"
SAMPLED = 10  # maximum jobs of a tick recorded in the lateness histogram
DURATION_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)  # of the semantic conventions
LINKED = 128  # maximum links of a span, as in the SDK's default


class Gauge:
    """A gauge that is read when metrics are collected, so that a queue can be removed from it."""

    def __init__(self, meter: metrics.Meter, name: str, unit: str, description: str) -> None:
        self.values: dict[str, float] = {}  # by queue
        meter.create_observable_gauge(name, [self._observe], unit, description)

    def _observe(self, options: CallbackOptions) -> Iterator[Observation]:
        """Report the values, in a thread of the SDK."""
        for queue, value in list(self.values.items()):
            yield Observation(value, _where(queue))


class Instruments:
    """The instruments of one meter provider, shared by the sinks of a process."""

    def __init__(self, m: metrics.Meter) -> None:
        self.sent = m.create_counter("messaging.client.sent.messages", "{message}", "Jobs moved to the stream.")
        self.duration = m.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Of the promote call.",
            explicit_bucket_boundaries_advisory=DURATION_S,
        )
        self.lateness = m.create_histogram(
            "promoter.lateness",
            "s",
            "From due to promoted, by the store's clock.",
            explicit_bucket_boundaries_advisory=[ms / 1000 for ms in LATENESS_MS],
        )
        self.malformed = m.create_counter("promoter.malformed", "{message}", "Malformed members moved to the DLQ.")
        self.outcomes = m.create_counter("promoter.lock.outcomes", "{transition}", "Lock transitions.")
        self.errors = m.create_counter("promoter.errors", "{error}", "Failed steps.")
        self.sinks = m.create_counter("promoter.sink.failures", "{failure}", "Failures of sinks.")
        self.leads = Gauge(m, "promoter.leads", "1", "1 while this process leads the queue.")
        self.depth = Gauge(m, "promoter.delayed_jobs", "{message}", "Jobs in the sorted set.")
        self.lag = Gauge(m, "promoter.oldest_pending_lag", "s", "How late the oldest job still pending is.")
        self.held_back = Gauge(m, "promoter.held_back_jobs", "{message}", "Due jobs that wait for room.")

    def forget(self, queue: str, *, leads: bool) -> None:
        """Drop the figures that only a leader knows, and with `leads` whether we lead."""
        for gauge in (self.depth, self.lag, self.held_back, *([self.leads] if leads else [])):
            gauge.values.pop(queue, None)


_instruments: WeakKeyDictionary[metrics.MeterProvider, Instruments] = WeakKeyDictionary()


class OpenTelemetryMetrics:
    """A metrics sink. `spans` ("on" or "off") says whether each tick that promoted is also a span.

    A span has links to the producers' spans, for jobs with a trace context.
    """

    wants_jobs = False

    def __init__(
        self,
        spans: str = "on",
        server: str = "",
        *,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        """`server` is the store's HOST or HOST:PORT, for `server.address` and `server.port`.

        Raises ConfigError for an invalid option.
        """
        if spans not in ("on", "off"):
            raise ConfigError(f"opentelemetry: spans must be on or off, not {spans!r}")
        self._server = _server(server)
        self._spans = spans == "on"
        self.wants_traces = self._spans
        if meter_provider is None and type(metrics.get_meter_provider()).__name__.startswith(("NoOp", "_Proxy")):
            log.warning("no OpenTelemetry SDK is set up, nothing is exported: see `opentelemetry-instrument`")
        self._tracer = trace.get_tracer(__name__, tracer_provider=tracer_provider)
        provider = meter_provider or metrics.get_meter_provider()
        if provider not in _instruments:
            _instruments[provider] = Instruments(metrics.get_meter(__name__, meter_provider=provider))
        self._to = _instruments[provider]

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, to, where = tick.promotion, self._to, _where(queue) | self._server
        if p.promoted:
            to.sent.add(p.promoted, where)
            for late_ms in sample_ms(p.promoted, p.lateness_counts, SAMPLED):
                to.lateness.record(late_ms / 1000, where)
            if self._spans:
                self._span(queue, tick, where)
        if p.malformed:
            to.malformed.add(p.malformed, where)
        to.duration.record(tick.duration_s, where)
        to.depth.values[queue] = p.depth
        to.lag.values[queue] = p.oldest_pending_lag_ms / 1000
        to.held_back.values[queue] = p.held_back

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        won = outcome is LockOutcome.ACQUIRED
        self._to.outcomes.add(1, _where(queue) | {"promoter.lock.outcome": outcome.value})
        self._to.leads.values[queue] = int(won)
        if not won:
            self._to.forget(queue, leads=False)

    def on_error(self, queue: str, error: BackendError) -> None:
        self._to.errors.add(1, _where(queue) | self._server | {"error.type": error.code})

    def on_forget(self, queue: str) -> None:
        """Remove the queue's gauges. The SDK keeps counters and histograms."""
        self._to.forget(queue, leads=True)

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        self._to.sinks.add(1, {"promoter.sink": sink, "promoter.sink.failure": failure.value})

    def _span(self, queue: str, tick: Tick, where: dict[str, Any]) -> None:
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            f"promote {queue}",
            kind=SpanKind.CLIENT,
            attributes=where | {"messaging.batch.message_count": tick.promotion.promoted},
            links=_links(tick.promotion),
            start_time=end_ns - int(tick.duration_s * 1e9),
        )
        span.end(end_ns)


def _where(queue: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": "promote",
        "messaging.operation.type": "send",
    }


def _links(promotion: Promotion) -> list[Link]:
    """Return links to the producers' spans, each with the id of its job."""
    links: list[Link] = []
    for traceparent, id in zip_longest(promotion.traces[:LINKED], promotion.trace_ids[:LINKED]):
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())
        if (producer := trace.get_current_span(context).get_span_context()).is_valid:
            links.append(Link(producer, {"messaging.message.id": _printable(id)} if id else None))
    return links


def _printable(text: str) -> str:
    r"""Escape an attribute: bytes that are not UTF-8 become \x..."""
    return to_bytes(text).decode("utf-8", "backslashreplace")


def _server(text: str) -> dict[str, str | int]:
    """Parse the option `server`. Raises ConfigError."""
    if not text:
        return {}
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or parts.username is not None:
        raise ConfigError(f"opentelemetry: server must be HOST or HOST:PORT, such as redis:6379, not {text!r}")
    return {"server.address": host} | ({} if port is None else {"server.port": port})
