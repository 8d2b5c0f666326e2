"""`PrometheusMetrics`: what a promoter does, as Prometheus metrics, each with a `queue` label.

Sinks of one registry share their instruments, so a process may run many promoters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from promoter_core import options
from promoter_core.errors import BackendError, ConfigError
from promoter_core.lateness import LATENESS_MS, in_buckets
from promoter_core.model import LockOutcome, SinkTrouble, Tick

BOUNDS = [*(str(ms / 1000) for ms in LATENESS_MS), "+Inf"]
TICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Lateness(Collector):
    """The histogram of lateness. Backends count by bounds, so nothing is done for each job.

    Its sum takes every job to be as late as the upper bound of its bucket, so a mean from it is an upper bound.
    """

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._counts: dict[str, list[int]] = {}  # a queue's, by bucket
        registry.register(self)

    def add(self, queue: str, promoted: int, late: tuple[int, ...]) -> None:
        counts = in_buckets(promoted, late)
        if (had := self._counts.get(queue)) is not None:
            counts = [a + b for a, b in zip(had, counts, strict=True)]
        self._counts[queue] = counts

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, "From due to promoted, by the store's clock.", labels=["queue"])
        for queue, counts in list(self._counts.items()):
            buckets = list(zip(BOUNDS, accumulate(counts), strict=True))
            seconds = sum(n * ms / 1000 for n, ms in zip(counts, [*LATENESS_MS, LATENESS_MS[-1]], strict=True))
            family.add_metric([queue], buckets=buckets, sum_value=seconds)
        yield family


class Instruments:
    """The metrics of one registry and namespace."""

    def __init__(self, registry: CollectorRegistry, namespace: str) -> None:
        queue = ["queue"]
        where: dict[str, Any] = {"namespace": namespace, "registry": registry}
        self.promoted = Counter("promoted", "Jobs moved from the sorted set to the stream.", queue, **where)
        self.quarantined = Counter("quarantined", "Malformed members moved to the DLQ.", queue, **where)
        self.errors = Counter("errors", "Failed steps, by error code.", [*queue, "code"], **where)
        self.outcomes = Counter("lock_outcomes", "Lock transitions.", [*queue, "outcome"], **where)
        self.depth = Gauge("delayed_jobs", "Jobs in the sorted set.", queue, **where)
        self.lag = Gauge("oldest_pending_lag_seconds", "How late the oldest job still pending is.", queue, **where)
        self.held_back = Gauge("held_back_jobs", "Due jobs that wait for room in the stream.", queue, **where)
        self.leads = Gauge("leads", "1 while this process leads the queue.", queue, **where)
        self.sinks = Counter("sink_troubles", "Troubles with sinks, by kind.", ["sink", "trouble"], **where)
        self.lateness = Lateness(f"{namespace}_lateness_seconds", registry)
        self.tick = Histogram("tick_duration_seconds", "Of the promote call.", queue, buckets=TICK_S, **where)


class Compat:
    """The names of ChasquiMQ's own promoter, so that existing dashboards go on working."""

    def __init__(self, registry: CollectorRegistry) -> None:
        queue = ["queue"]
        self.promoted = Counter("chasquimq_promoter_promoted", "Jobs promoted.", queue, registry=registry)
        self.depth = Gauge("chasquimq_delayed_zset_depth", "Jobs in the sorted set.", queue, registry=registry)
        self.lag = Gauge("chasquimq_promoter_oldest_pending_lag_ms", "Lag, in ms.", queue, registry=registry)
        self.acquired = Counter("chasquimq_promoter_lock_acquired", "Locks won.", queue, registry=registry)
        self.lost = Counter("chasquimq_promoter_lock_lost", "Locks found held or lost.", queue, registry=registry)


_instruments: WeakKeyDictionary[CollectorRegistry, dict[str, Instruments]] = WeakKeyDictionary()
_compat: WeakKeyDictionary[CollectorRegistry, Compat] = WeakKeyDictionary()
_served: set[tuple[str, int]] = set()  # addresses on which this process answers


class PrometheusMetrics:
    """A metrics sink for Prometheus.

    `registry` is prometheus-client's global one unless given. `compat="chasquimq"` adds the reference's names. `port`
    answers GET /metrics on `addr` (127.0.0.1) for as long as the process lives.
    """

    wants_jobs = False

    def __init__(
        self,
        namespace: str = "promoter",
        compat: str = "",
        port: str = "",
        addr: str = "127.0.0.1",
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Raises ConfigError: a namespace that is no metric name, an unknown compat, a port that cannot be had."""
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", namespace):
            raise ConfigError(f"prometheus: namespace {namespace!r} must be letters, digits and underscores")
        if compat not in ("", "chasquimq"):
            raise ConfigError(f"prometheus: unknown compat {compat!r}; it can be 'chasquimq'")
        made = _instruments.setdefault(registry, {})
        if namespace not in made:
            made[namespace] = Instruments(registry, namespace)
        self._to = made[namespace]
        self._registry = registry
        self._compat: Compat | None = None
        if compat:
            if registry not in _compat:
                _compat[registry] = Compat(registry)
            self._compat = _compat[registry]
        if port:
            _serve(addr, port, registry)

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, to = tick.promotion, self._to
        to.promoted.labels(queue).inc(p.promoted)
        to.quarantined.labels(queue).inc(p.quarantined)
        to.depth.labels(queue).set(p.depth)
        to.lag.labels(queue).set(p.oldest_pending_lag_ms / 1000)
        to.held_back.labels(queue).set(p.held_back)
        to.tick.labels(queue).observe(tick.duration_s)
        if p.promoted:
            to.lateness.add(queue, p.promoted, p.late)
        if self._compat is not None:
            self._compat.promoted.labels(queue).inc(p.promoted)
            self._compat.depth.labels(queue).set(p.depth)
            self._compat.lag.labels(queue).set(p.oldest_pending_lag_ms)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        won = outcome is LockOutcome.ACQUIRED
        self._to.outcomes.labels(queue, outcome.value).inc()
        self._to.leads.labels(queue).set(1 if won else 0)
        if not won:  # what only a leader knows would grow old here
            for gauge in (self._to.depth, self._to.lag, self._to.held_back):
                with suppress(KeyError):
                    gauge.remove(queue)
        if self._compat is not None and outcome is not LockOutcome.RELEASED:
            (self._compat.acquired if won else self._compat.lost).labels(queue).inc()

    def on_error(self, queue: str, error: BackendError) -> None:
        self._to.errors.labels(queue, error.code).inc()

    def on_sink(self, sink: str, trouble: SinkTrouble) -> None:
        self._to.sinks.labels(sink, trouble.value).inc()

    def exposition(self) -> tuple[bytes, str]:
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def _serve(addr: str, port: str, registry: CollectorRegistry) -> None:
    number = options.port("prometheus", port)
    if (addr, number) in _served:
        return
    try:
        start_http_server(number, addr, registry)
    except OSError as exc:
        raise ConfigError(f"prometheus: {addr}:{port} cannot be had: {exc.strerror}") from exc
    _served.add((addr, number))
