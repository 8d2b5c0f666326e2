"""`render`: the state of a sampler as a page of metrics for Prometheus.

A queue shown by itself has the label `queue`. All others that match a pattern are combined, with the label `pattern`:
sums where values can be added, otherwise the worst value. So a rule with `max by (queue, pattern)` covers every queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from promoter_core.monitor.values import QueueSnapshot, SamplerState
from promoter_core.spi import ConsumerGroup, QueueStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AT_ONCE = 200  # queues that are rendered before other threads get a turn
OLD_S = 300.0  # older figures are left out
MOST_GROUPS = 20  # consumer groups of a queue shown by name

Sample = tuple[str, float]  # additional labels, and the value
Join = Callable[[list[float]], float]  # combines the values of many queues


@dataclass(frozen=True, slots=True)
class _Row:
    """One queue, or the rest of a pattern: its label, its queues, and those of them that have figures."""

    label: str
    by_name: bool
    queues: Sequence[QueueSnapshot]
    read: Sequence[QueueSnapshot]


Samples = Callable[[_Row, float], Iterator[Sample]]


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    help: str
    samples: Samples
    type: str = "gauge"


def _over(join: Join, get: Callable[[QueueSnapshot], float | None]) -> Samples:
    def samples(row: _Row, now_s: float) -> Iterator[Sample]:
        values = [value for queue in row.read if (value := get(queue)) is not None]
        if values:
            yield "", join(values)

    return samples


def _stat(name: str) -> Callable[[QueueSnapshot], float | None]:
    return lambda queue: None if queue.stats is None else getattr(queue.stats, name)


def _next_due_s(queue: QueueSnapshot) -> float | None:
    due_ms = None if queue.stats is None else queue.stats.next_due_ms
    return None if due_ms is None else due_ms / 1000


def _coming(row: _Row, now_s: float) -> Iterator[Sample]:
    coming = [queue.coming for queue in row.read if queue.coming is not None]
    if coming:
        for within in ("minute", "hour", "day"):
            yield f',within="{within}"', sum(getattr(one, within) for one in coming)


def _groups(join: Join, get: Callable[[QueueStats, ConsumerGroup], float | None]) -> Samples:
    """Return the consumer groups of a queue; for a rest, one unnamed group."""

    def samples(row: _Row, now_s: float) -> Iterator[Sample]:
        found = [(q.stats, group) for q in row.read if q.stats is not None for group in q.stats.groups]
        values = [(group.name, value) for stats, group in found if (value := get(stats, group)) is not None]
        if row.by_name:
            yield from ((f',group="{_escaped(name)}"', value) for name, value in values[:MOST_GROUPS])
        elif values:
            yield "", join([value for _, value in values])

    return samples


def _read_ok(row: _Row, now_s: float) -> Iterator[Sample]:
    yield "", min(float(queue.error is None and queue.read_s is not None) for queue in row.queues)


def _age(row: _Row, now_s: float) -> Iterator[Sample]:
    ages = [now_s - queue.read_s for queue in row.queues if queue.read_s is not None]
    if ages:
        yield "", max(*ages, 0.0)


def _led(row: _Row, now_s: float) -> Iterator[Sample]:
    """For a rest: whether every queue that has jobs is led."""
    led = [float(q.led) for q in row.read if row.by_name or (q.stats is not None and q.stats.depth)]
    if row.read:
        yield "", min(led, default=1.0)


def _leader_changes(row: _Row, now_s: float) -> Iterator[Sample]:
    """Return None for a rest: its queues come and go, and a sum that falls is not a counter."""
    if row.by_name:
        yield "", sum(queue.leader_changes for queue in row.queues)


def _oldest_s(stats: QueueStats, group: ConsumerGroup) -> float | None:
    if not group.pending:
        return 0.0
    added_ms = group.oldest_pending_ms
    return None if added_ms is None else max(stats.now_ms - added_ms, 0) / 1000


_FAMILIES = (
    _Family("delayed_jobs", "Jobs in the sorted set.", _over(sum, _stat("depth"))),
    _Family("due_jobs", "Due jobs in the sorted set.", _over(sum, _stat("due"))),
    _Family("parked_jobs", "Jobs in the sorted set that are due after the year 9999.", _over(sum, _stat("parked"))),
    _Family("overdue_seconds", "How long the oldest waiting job has been due.", _over(max, lambda q: q.overdue_s)),
    _Family("next_due_timestamp_seconds", "When the next job is due, by the store's clock.", _over(min, _next_due_s)),
    _Family("coming_jobs", "Jobs that become due in the next minute, hour or day.", _coming),
    _Family("led", "1 when a promoter holds the lock.", _led),
    _Family("unled_jobs", "Waiting jobs of queues without a leader.", _over(sum, lambda q: q.unled_jobs)),
    _Family("lease_seconds", "Remaining time of the leader's lease.", _over(min, lambda q: q.lease_s)),
    _Family("leader_changes", "Samples that found another leader than before.", _leader_changes, "counter"),
    _Family("stream_entries", "Entries of the stream.", _over(sum, _stat("stream_len"))),
    _Family("event_entries", "Entries of the event stream.", _over(sum, _stat("events_len"))),
    _Family("dead_letter_entries", "Entries of the dead-letter stream.", _over(sum, _stat("dlq_len"))),
    _Family(
        "group_pending_entries", "Entries delivered but not acknowledged.", _groups(sum, lambda _, group: group.pending)
    ),
    _Family(
        "group_undelivered_entries", "Entries not delivered yet.", _groups(sum, lambda _, group: group.undelivered)
    ),
    _Family("group_oldest_pending_seconds", "Age of the oldest pending entry.", _groups(max, _oldest_s)),
    _Family("read_ok", "1 when the last read of the queue succeeded.", _read_ok),
    _Family("sample_age_seconds", "How old these figures are.", _age),
)


def render(state: SamplerState, namespace: str = "promoter") -> str:
    """Return the page. Thread-safe. With thousands of queues it takes a tenth of a second."""
    return "".join(_pieces(state, namespace))


def _pieces(state: SamplerState, namespace: str) -> Iterator[str]:
    yield from _of_the_exporter(state, namespace)
    rows = [_row("queue", queue.name, (queue,), state.now_s) for queue in state.queues]
    rows += [_row("pattern", pattern, queues, state.now_s) for pattern, queues in state.rest.items()]
    for family in _FAMILIES:
        name = f"{namespace}_store_{family.name}" + ("_total" if family.type == "counter" else "")
        yield _head(name, family.type, family.help)
        for first in range(0, len(rows), AT_ONCE):
            for row in rows[first : first + AT_ONCE]:
                for labels, value in family.samples(row, state.now_s):
                    yield f"{name}{{{row.label}{labels}}} {float(value)}\n"
            time.sleep(0)  # let the event loop's thread continue


def _row(label: str, text: str, queues: Sequence[QueueSnapshot], now_s: float) -> _Row:
    read = [queue for queue in queues if queue.read_s is not None and now_s - queue.read_s <= OLD_S]
    return _Row(f'{label}="{_escaped(text)}"', label == "queue", queues, read)


def _of_the_exporter(state: SamplerState, namespace: str) -> Iterator[str]:
    every = [*state.queues, *(queue for queues in state.rest.values() for queue in queues)]
    ages = [state.now_s - queue.read_s for queue in every if queue.read_s is not None]
    last_s = None if state.last_read_s is None else state.now_s - state.last_read_s
    lines: list[tuple[str, str, str, float | None]] = [
        ("up", "gauge", "1 when the store answered the last read.", float(state.reached)),
        ("queues", "gauge", "Queues shown individually.", len(state.queues)),
        ("rest_queues", "gauge", "Queues shown only by pattern.", len(every) - len(state.queues)),
        ("last_read_age_seconds", "gauge", "Time since any queue was read.", last_s),
        ("oldest_sample_age_seconds", "gauge", "Age of the oldest sample.", max(ages, default=None)),
        ("pass_seconds", "gauge", "How long the last pass over all queues took.", state.pass_s),
        ("discovery_seconds", "gauge", "How long the last search for queues took.", state.discovery_s),
        ("reads_total", "counter", "Queues that were read.", state.reads),
        ("failed_reads_total", "counter", "Queues that could not be read.", state.failed_reads),
        ("failed_discoveries_total", "counter", "Searches for queues that failed.", state.failed_discoveries),
    ]
    for name, type, help, value in lines:
        yield _head(f"{namespace}_exporter_{name}", type, help)
        if value is not None:
            yield f"{namespace}_exporter_{name} {float(value)}\n"


def _head(name: str, type: str, help: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {type}\n"


def _escaped(text: str) -> str:
    r"""Escape the value of a label. Bytes that are not Unicode become \x..."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
