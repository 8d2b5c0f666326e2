"""`Figures`: the figures of all queues of one registry and namespace, as plain numbers and as a page of text.

prometheus-client keeps an object with a lock for each series and renders each separately, which takes seconds with some
thousand queues. Here a queue is one object, recording a tick changes a few of its attributes, and the page is written
line by line from a copy of a queue's values. The event loop records while another thread renders: no lock is taken, and
each histogram is replaced as a whole, so that its parts are consistent.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from promoter_core.spi import LATENESS_MS, BackendError, LockOutcome, Tick, clock_offset_ms, in_buckets

# Few buckets: each is a series in Prometheus, for every queue of every process.
LATE_MS = (2, 10, 50, 250, 1_000, 5_000, 60_000)  # a subset of LATENESS_MS
TICK_S = (0.001, 0.005, 0.025, 0.1, 1.0)
OUTCOMES = tuple(outcome.value for outcome in LockOutcome)
AT_ONCE = 100  # queues that are rendered before other threads continue

Sample = tuple[str, str, str, float]  # suffix of the name; label and its value, if any; sample value


class Histogram:
    """Counts by bucket, and a sum. Each observation creates a new one, so a reader sees a consistent state."""

    __slots__ = ("counts", "sum")

    def __init__(self, counts: Sequence[int], sum: float) -> None:
        self.counts, self.sum = tuple(counts), sum

    def samples(self, bounds: tuple[str, ...]) -> Iterator[Sample]:
        total = 0
        for bound, total in zip(bounds, accumulate(self.counts), strict=True):
            yield "_bucket", "le", bound, total
        yield "_count", "", "", total
        yield "_sum", "", "", self.sum


_NEVER_LATE = Histogram([0] * (len(LATE_MS) + 1), 0.0)  # shared by all queues until something is counted
_NO_TICKS = Histogram([0] * (len(TICK_S) + 1), 0.0)


class QueueFigures:
    """The figures of one queue. A gauge is None while unknown; counters start at zero, so that `increase` sees all."""

    __slots__ = (
        "depth",
        "errors",
        "failed",
        "held_back",
        "label",
        "lag_ms",
        "last_tick_s",
        "lateness_counts",
        "leads",
        "malformed",
        "next_due_ms",
        "outcomes",
        "promoted",
        "ticks",
    )

    def __init__(self, queue: str) -> None:
        self.label = 'queue="' + escaped(queue) + '"'
        self.promoted = 0
        self.malformed = 0
        self.failed = 0
        self.depth: int | None = None
        self.lag_ms: int | None = None
        self.held_back: int | None = None
        self.leads: int | None = None
        self.last_tick_s: float | None = None
        self.next_due_ms: int | None = None
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.errors: dict[str, int] = {}
        self.lateness_counts = _NEVER_LATE
        self.ticks = _NO_TICKS


def escaped(text: str) -> str:
    r"""Escape the value of a label. Bytes that are not Unicode become \x..."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, and its samples for a queue."""

    name: str
    type: str
    help: str
    samples: Callable[[QueueFigures], Iterator[Sample]]


def _counter(get: Callable[[QueueFigures], int]) -> Callable[[QueueFigures], Iterator[Sample]]:
    return lambda figures: iter((("_total", "", "", get(figures)),))


def _gauge(get: Callable[[QueueFigures], float | None]) -> Callable[[QueueFigures], Iterator[Sample]]:
    return lambda figures: iter(()) if (value := get(figures)) is None else iter((("", "", "", value),))


def _by(label: str, get: Callable[[QueueFigures], dict[str, int]]) -> Callable[[QueueFigures], Iterator[Sample]]:
    return lambda figures: (("_total", label, text, count) for text, count in list(get(figures).items()))


def _histogram(
    bounds: tuple[float, ...], get: Callable[[QueueFigures], Histogram]
) -> Callable[[QueueFigures], Iterator[Sample]]:
    shown = (*map(str, bounds), "+Inf")
    return lambda figures: get(figures).samples(shown)


def _nothing(figures: QueueFigures) -> Iterator[Sample]:
    return iter(())


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


_FAMILIES = (
    Family("promoted", "counter", "Jobs moved from the sorted set to the stream.", _counter(lambda q: q.promoted)),
    Family("malformed", "counter", "Malformed members moved to the DLQ.", _counter(lambda q: q.malformed)),
    Family("failed_steps", "counter", "Failed steps.", _counter(lambda q: q.failed)),
    Family("errors", "counter", "Failed steps, by error code.", _by("code", lambda q: q.errors)),
    Family("lock_outcomes", "counter", "Lock transitions.", _by("outcome", lambda q: q.outcomes)),
    Family("delayed_jobs", "gauge", "Jobs in the sorted set.", _gauge(lambda q: q.depth)),
    Family(
        "oldest_pending_lag_seconds",
        "gauge",
        "How long the oldest waiting job has been due.",
        _gauge(lambda q: _seconds(q.lag_ms)),
    ),
    Family("held_back_jobs", "gauge", "Due jobs that wait for room in the stream.", _gauge(lambda q: q.held_back)),
    Family("leads", "gauge", "1 while this process leads the queue.", _gauge(lambda q: q.leads)),
    Family(
        "last_tick_timestamp_seconds",
        "gauge",
        "When this process, as leader, last ran a tick, by its own clock.",
        _gauge(lambda q: q.last_tick_s),
    ),
    Family(
        "next_due_timestamp_seconds",
        "gauge",
        "When the next job is due, as of the last tick, by the store's clock.",
        _gauge(lambda q: _seconds(q.next_due_ms)),
    ),
    Family(
        "lateness_seconds",
        "histogram",
        "Time from due to promoted, by the store's clock.",
        _histogram(tuple(ms / 1000 for ms in LATE_MS), lambda q: q.lateness_counts),
    ),
    Family(
        "tick_duration_seconds", "histogram", "Duration of the promote call.", _histogram(TICK_S, lambda q: q.ticks)
    ),
)

# The names of ChasquiMQ's own promoter, so that existing dashboards keep working.
COMPAT = (
    Family("chasquimq_promoter_promoted", "counter", "Jobs promoted.", _counter(lambda q: q.promoted)),
    Family("chasquimq_delayed_zset_depth", "gauge", "Jobs in the sorted set.", _gauge(lambda q: q.depth)),
    Family("chasquimq_promoter_oldest_pending_lag_ms", "gauge", "Lag, in ms.", _gauge(lambda q: q.lag_ms)),
    Family(
        "chasquimq_promoter_lock_acquired",
        "counter",
        "Locks won.",
        _counter(lambda q: q.outcomes.get(LockOutcome.ACQUIRED, 0)),
    ),
    Family(
        "chasquimq_promoter_lock_lost",
        "counter",
        "Locks found held or lost.",
        _counter(lambda q: q.outcomes.get(LockOutcome.HELD, 0)),
    ),
)

_rendering = threading.local()  # `.ours` is true while this thread renders the figures itself


@contextmanager
def hidden() -> Iterator[None]:
    """Exclude all `Figures` from what this thread collects from a registry."""
    _rendering.ours = True
    try:
        yield
    finally:
        _rendering.ours = False


def families(namespace: str) -> tuple[Family, ...]:
    return tuple(replace(family, name=f"{namespace}_{family.name}") for family in _FAMILIES)


class Figures(Collector):
    """Registered with prometheus-client, so that whatever exposes the registry shows them.

    `namespace` is that of two gauges of the process, which exist even without a queue; "" for none.
    """

    def __init__(self, registry: CollectorRegistry, families: tuple[Family, ...], namespace: str = "") -> None:
        self._families = families
        self._own: tuple[Family, ...] = _of_process(namespace) if namespace else ()
        self._ahead_s = 0.0  # the store's clock, at the last tick
        self._queues: dict[str, QueueFigures] = {}
        registry.register(self)

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, q = tick.promotion, self._of(queue)
        q.promoted += p.promoted
        q.malformed += p.malformed
        q.depth, q.lag_ms, q.held_back = p.depth, p.oldest_pending_lag_ms, p.held_back
        q.last_tick_s, q.next_due_ms = time.time(), p.next_due_ms
        if p.now_ms:
            self._ahead_s = clock_offset_ms(p.now_ms, q.last_tick_s * 1_000, tick.duration_s) / 1_000
        counts = list(q.ticks.counts)
        counts[bisect_left(TICK_S, tick.duration_s)] += 1
        q.ticks = Histogram(counts, q.ticks.sum + tick.duration_s)
        if p.promoted:
            q.lateness_counts = _later(q.lateness_counts, p.promoted, p.lateness_counts)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        q, won = self._of(queue), outcome is LockOutcome.ACQUIRED
        q.outcomes[outcome.value] = q.outcomes.get(outcome.value, 0) + 1
        q.leads = int(won)
        if not won:  # only the leader knows these
            q.depth = q.lag_ms = q.held_back = q.last_tick_s = q.next_due_ms = None

    def on_error(self, queue: str, error: BackendError) -> None:
        q = self._of(queue)
        q.failed += 1
        errors = q.errors
        errors[error.code] = errors.get(error.code, 0) + 1

    def on_forget(self, queue: str) -> None:
        self._queues.pop(queue, None)

    def _of(self, queue: str) -> QueueFigures:
        figures = self._queues.get(queue)
        if figures is None:
            figures = self._queues[queue] = QueueFigures(queue)
        return figures

    def page(self) -> Iterator[str]:
        """Yield the page in the text format, in pieces. Thread-safe."""
        queues = list(self._queues.values())
        for family, value in self._of_process(queues):
            yield f"{_head(family)}{family.name} {value}\n"
        for family in self._families:
            yield _head(family)
            for first in range(0, len(queues), AT_ONCE):
                some = queues[first : first + AT_ONCE]
                yield "".join(_line(family.name, q.label, *sample) for q in some for sample in family.samples(q))
                time.sleep(0)  # let the promoting thread continue

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics for prometheus-client."""
        if getattr(_rendering, "ours", False):
            return
        queues = list(self._queues.items())
        for family, value in self._of_process([figures for _, figures in queues]):
            metric = _metric(family)
            metric.add_sample(metric.name, {}, value)
            yield metric
        for family in self._families:
            metric = _metric(family)
            for queue, figures in queues:
                for suffix, label, text, sample in family.samples(figures):
                    labels = {"queue": queue} | ({label: text} if label else {})
                    metric.add_sample(metric.name + suffix, labels, float(sample))
            yield metric

    def describe(self) -> Iterator[Metric]:
        """Return the names of the metrics, with which prometheus-client finds duplicates."""
        yield from map(_metric, (*self._own, *self._families))

    def _of_process(self, queues: Sequence[QueueFigures]) -> Iterator[tuple[Family, float]]:
        ahead_s = self._ahead_s if any(figures.last_tick_s is not None for figures in queues) else 0.0
        yield from zip(self._own, (float(len(queues)), ahead_s), strict=False)


def _metric(family: Family) -> Metric:
    return Metric(family.name, family.help, family.type)


def _of_process(namespace: str) -> tuple[Family, Family]:
    return (
        Family(f"{namespace}_queues", "gauge", "Queues for which this process has figures.", _nothing),
        Family(
            f"{namespace}_clock_offset_seconds",
            "gauge",
            "How far the store's clock is ahead of this process's, as the last tick saw it.",
            _nothing,
        ),
    )


def _line(name: str, queue: str, suffix: str, label: str, text: str, value: float) -> str:
    if not label:
        return f"{name}{suffix}{{{queue}}} {float(value)}\n"
    text = text if label == "le" else escaped(text)
    return f'{name}{suffix}{{{queue},{label}="{text}"}} {float(value)}\n'


def _head(family: Family) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n"


def _later(had: Histogram, promoted: int, late: tuple[int, ...]) -> Histogram:
    """Add jobs that a backend has counted by LATENESS_MS. For the sum, each counts as its upper bound."""
    by_bound = in_buckets(promoted, late)
    counts, total = list(had.counts), had.sum
    for n, bound_ms in zip(by_bound, LATENESS_MS, strict=False):
        if n:
            counts[bisect_left(LATE_MS, bound_ms)] += n
            total += n * bound_ms / 1000
    if by_bound[-1]:
        counts[-1] += by_bound[-1]
        total += by_bound[-1] * LATENESS_MS[-1] / 1000
    return Histogram(counts, total)
