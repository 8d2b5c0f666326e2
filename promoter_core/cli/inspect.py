"""`promoter inspect`: the state of a queue."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from promoter_core import Backend, DelayedQueue, QueueStats
from promoter_core.cli import near, options, output, session
from promoter_core.spi import ConsumerGroup


def inspect(url: options.Url, queue: options.Queue, layout: options.Layout = None, json: options.Json = False) -> None:
    """Show a queue: depth, due jobs, lag, next due time, streams and leader."""

    async def go(backend: Backend) -> tuple[QueueStats, str]:
        stats = await DelayedQueue(backend, queue).stats()
        if near.is_unknown(stats):
            await near.say(backend, queue)
        return stats, "stream" if session.to_stream(backend) else "list"

    stats, target = session.with_backend(url, go, layout)
    if json:
        output.print_json({"queue": queue, **asdict(stats)})
        return
    table = Table(title=output.plain(f"Queue {queue}"), title_justify="left", show_header=False)
    for label, value in _rows(stats, target):
        table.add_row(output.plain(label), output.plain(value))
    output.out.print(table)


def _group(g: ConsumerGroup) -> str:
    text = f"{g.pending:,} unacknowledged"
    if g.undelivered is not None:
        text += f", {g.undelivered:,} not delivered"
    if g.oldest_pending_id is not None:
        text += f"; the oldest, {g.oldest_pending_id}, is with consumer {g.oldest_pending_consumer}"
    return text


def _rows(s: QueueStats, target: str) -> list[tuple[str, str]]:
    if s.next_due_ms is None:
        next_due = "–"
    else:
        ahead = s.next_due_ms - s.now_ms
        next_due = (
            f"{output.show_time(s.next_due_ms)} ({'in ' if ahead > 0 else 'overdue by '}{output.show_ms(abs(ahead))})"
        )
    left_ms = s.lease_remaining_ms
    lease = ", with a lock that does not expire"
    if left_ms is not None:
        lease = f", lease ends in {output.show_ms(left_ms)}"
    return [
        (
            "delayed jobs",
            f"{s.depth:,}" + (f", {s.parked:,} of them parked: due after the year 9999" if s.parked else ""),
        ),
        ("due now", f"{s.due:,}" + (f", the oldest for {output.show_ms(s.oldest_pending_lag_ms)}" if s.due else "")),
        ("next due", next_due),
        (target, output.count(s.stream_len, "entry", "entries")),
        ("events", output.count(s.events_len, "entry", "entries")),
        ("dead letters (DLQ)", output.count(s.dlq_len, "entry", "entries")),
        *((f"group {g.name}", _group(g)) for g in s.groups),
        ("leader", f"{s.holder}{lease}" if s.holder is not None else "none: start one with `promoter run`"),
        ("server time", output.show_time(s.now_ms)),
    ]
