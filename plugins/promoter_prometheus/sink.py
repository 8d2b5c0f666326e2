"""`PrometheusMetrics`: metrics of a promoter for Prometheus, each with a `queue` label.

Sinks of one registry share their figures, so a process can run many promoters.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest

from promoter_core.spi import BackendError, ConfigError, LockOutcome, SinkFailure, Tick, host_port, sink_options
from promoter_prometheus.figures import COMPAT, Figures, families, hidden
from promoter_prometheus.server import serve

log = logging.getLogger("promoter.prometheus")


class Shared:
    """State shared by the sinks of one registry."""

    def __init__(self) -> None:
        self.figures: dict[str, Figures] = {}  # by namespace; "" for ChasquiMQ's names
        self.sinks: dict[str, Counter] = {}

    def of(self, registry: CollectorRegistry, namespace: str) -> Figures:
        if namespace not in self.figures:
            made = families(namespace) if namespace else COMPAT
            self.figures[namespace] = Figures(registry, made, namespace)
        return self.figures[namespace]

    def failures(self, registry: CollectorRegistry, namespace: str) -> Counter:
        if namespace not in self.sinks:
            name, labels = f"{namespace}_sink_failures", ["sink", "failure"]
            self.sinks[namespace] = Counter(name, "Failures of sinks, by kind.", labels, registry=registry)
            # A new value in the same series is a new process, so alerts can count restarts.
            Gauge(f"{namespace}_start_timestamp_seconds", "Start time of this process.", registry=registry).set(
                STARTED_S
            )
        return self.sinks[namespace]


STARTED_S = time.time()
_shared: WeakKeyDictionary[CollectorRegistry, Shared] = WeakKeyDictionary()
_served: set[tuple[str, int]] = set()  # addresses on which this process listens


class PrometheusMetrics:
    """A metrics sink for Prometheus.

    `registry` defaults to prometheus-client's global one. `compat="chasquimq"` adds the names of ChasquiMQ's metrics.
    `port` serves GET /metrics on `addr` (127.0.0.1) until the process ends; 0 is any free port, which the log names.
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
        """Raises ConfigError for a namespace that is not a metric name, an unknown compat, or a port in use."""
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", namespace):
            raise ConfigError(f"prometheus: namespace {namespace!r} must be letters, digits and underscores")
        if compat not in ("", "chasquimq"):
            raise ConfigError(f"prometheus: unknown compat {compat!r}; it can be 'chasquimq'")
        shared = _shared.setdefault(registry, Shared())
        self._registry = registry
        self._figures = [shared.of(registry, name) for name in ([namespace, ""] if compat else [namespace])]
        self._failures = shared.failures(registry, namespace)
        if port:
            _serve(addr, port, registry)

    def on_tick(self, queue: str, tick: Tick) -> None:
        for figures in self._figures:
            figures.on_tick(queue, tick)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        for figures in self._figures:
            figures.on_lock(queue, outcome)

    def on_error(self, queue: str, error: BackendError) -> None:
        for figures in self._figures:
            figures.on_error(queue, error)

    def on_forget(self, queue: str) -> None:
        """Remove the queue's series.

        If the queue comes back, its counters restart at zero, which Prometheus handles as a reset.
        """
        for figures in self._figures:
            figures.on_forget(queue)

    def on_sinks(self, sinks: Sequence[str]) -> None:
        for sink in sinks:
            for failure in SinkFailure:
                self._failures.labels(sink, failure.value)  # starts at zero

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        self._failures.labels(sink, failure.value).inc()

    def exposition(self) -> tuple[bytes, str]:
        """Return the page. Thread-safe, even while another thread records."""
        return page_of(self._registry), CONTENT_TYPE_LATEST


def page_of(registry: CollectorRegistry) -> bytes:
    """Return the content of the registry, with our figures written directly."""
    with hidden():
        others = generate_latest(registry)
    ours = list(_shared[registry].figures.values()) if registry in _shared else []
    return others + "".join(piece for figures in ours for piece in figures.page()).encode()


def _serve(addr: str, port: str, registry: CollectorRegistry) -> None:
    number = sink_options.port("prometheus", port, low=0)
    if (addr, number) in _served:
        return
    try:
        real = serve(addr, number, lambda: (page_of(registry), CONTENT_TYPE_LATEST))
    except OSError as exc:
        raise ConfigError(f"prometheus: cannot listen on {addr}:{port}: {exc.strerror}") from exc
    if number:
        _served.add((addr, number))
    log.info("metrics on http://%s/metrics", host_port(addr, real))
