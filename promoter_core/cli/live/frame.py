"""Build the table of queues, and a single frame of it as text or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size

from promoter_core.cli import output
from promoter_core.cli.live.words import NOTHING, State, short, short_rate, short_s, sparkline, state_of
from promoter_core.monitor import LatenessProbe, QueueSnapshot

LEAST = 10  # minimum width of a queue's name


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list."""

    title: str
    width: int  # 0: the remaining width
    right: bool = False
    since: int = 0  # shown on screens of at least this width


COLUMNS = (
    Column("queue", 0),
    Column("state", 9),
    Column("delayed", 7, True),
    Column("due", 5, True),
    Column("next", 6, True),
    Column("/s", 5, True),
    Column("p50", 5, True, since=90),
    Column("p99", 5, True),
    Column("lateness", 12, since=120),
    Column("pend+new", 9, True),
    Column("stream", 6, True, since=100),
    Column("DLQ", 5, True),
    Column("lease", 5, True, since=106),
    Column("leader", 18, since=140),
)


def columns(width: int, of: Sequence[Column] = COLUMNS) -> tuple[Column, ...]:
    """Return the columns that fit the width."""
    return tuple(column for column in of if column.since <= width)


def cells(queue: QueueSnapshot, probe: LatenessProbe | None, columns: Sequence[Column]) -> tuple[str, ...]:
    """Return a queue's row. Text from outside is escaped, so it cannot control the terminal."""
    stats, late = queue.stats, None if probe is None else probe.lateness
    known = {"queue": output.shown(queue.name), "state": state_of(queue).value}
    if stats is not None:
        known |= {
            "delayed": short(stats.depth),
            "due": short(stats.due),
            "next": next_due(queue),
            "/s": short_rate(queue.added_per_s),
            "pend+new": behind(queue),
            "stream": short(stats.stream_len),
            "DLQ": short(stats.dlq_len),
            "lease": NOTHING if queue.lease_s is None else short_s(queue.lease_s),
            "leader": "none" if stats.holder is None else output.shown(stats.holder),
        }
    if probe is not None and late is not None:
        known |= {"p50": short_s(late.p50_ms / 1000), "p99": short_s(late.p99_ms / 1000)}
        known["lateness"] = sparkline(probe.recent_ms, 12)
    return tuple([known.get(column.title, NOTHING) for column in columns])


def next_due(queue: QueueSnapshot) -> str:
    """Return the time until the next job is due; negative if it is overdue."""
    stats = queue.stats
    if stats is None or stats.next_due_ms is None:
        return NOTHING
    ahead_s = (stats.next_due_ms - stats.now_ms) / 1000
    return short_s(ahead_s) if ahead_s > 0 else f"-{short_s(abs(ahead_s))}"


def behind(queue: QueueSnapshot) -> str:
    """Return the pending and the undelivered entries of all groups."""
    groups = () if queue.stats is None else queue.stats.groups
    if not groups:
        return NOTHING
    undelivered = [group.undelivered for group in groups if group.undelivered is not None]
    return f"{short(sum(group.pending for group in groups))}+{short(sum(undelivered)) if undelivered else '?'}"


def line(columns: Sequence[Column], cells: Sequence[str], width: int) -> str:
    """Return a line of exactly `width` columns. Cells that are too long are cut with `…`."""
    rest = width - sum(column.width for column in columns) - len(columns) + 1
    flexible = sum(not column.width for column in columns)
    parts = [
        fit(cell, column.width or max(rest // flexible, LEAST), right=column.right)
        for column, cell in zip(columns, cells, strict=True)
    ]
    return set_cell_size(" ".join(parts), width)


def fit(text: str, width: int, *, right: bool = False) -> str:
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if right else text + " " * (width - length)


def ruled(text: str, width: int) -> str:
    """Return a heading: a text inside a horizontal rule."""
    return (
        fit(f"── {text} ", width) if cell_len(text) + 4 >= width else f"── {text} " + "─" * (width - cell_len(text) - 4)
    )


def counts(queues: Sequence[QueueSnapshot]) -> Mapping[State, int]:
    found = [state_of(queue) for queue in queues]
    return {state: found.count(state) for state in State}


def summary(queues: Sequence[QueueSnapshot]) -> str:
    """Return the number of queues, and of those with problems."""
    by = counts(queues)
    words = ["1 queue" if len(queues) == 1 else f"{len(queues):,} queues"]
    words += [f"{by[State.NO_LEADER]:,} without a leader"] if by[State.NO_LEADER] else []
    words += [f"{by[State.LATE]:,} late"] if by[State.LATE] else []
    words += [f"{by[State.ERROR]:,} cannot be read"] if by[State.ERROR] else []
    return ", ".join(words)


def coming(queues: Sequence[QueueSnapshot]) -> str:
    """Return the upcoming jobs of all queues, in a line."""
    found = [queue.coming for queue in queues if queue.coming is not None]
    overdue = sum(queue.stats.due for queue in queues if queue.stats is not None)
    if not found:
        return f"all queues: {short(overdue)} overdue"
    minute, hour, day = (sum(getattr(one, within) for one in found) for within in ("minute", "hour", "day"))
    return (
        f"all queues: {short(overdue)} overdue · due within 1 min: {short(minute)}, 1 h: {short(hour)}, "
        f"1 day: {short(day)}"
    )


def text(queues: Sequence[QueueSnapshot], width: int, *, more: bool) -> list[str]:
    """Return a frame: one line for each queue, then the upcoming jobs and a summary."""
    shown = columns(width)
    lines = [line(shown, [column.title for column in shown], width)]
    lines += [line(shown, cells(queue, None, shown), width) for queue in queues]
    lines += ["", coming(queues), summary(queues) + (", more are not shown" if more else "")]
    errors = [queue for queue in queues if queue.error is not None]
    lines += [f"{output.shown(queue.name)}: {output.shown(str(queue.error))}" for queue in errors[:10]]
    return [line.rstrip() for line in lines]


def document(queues: Sequence[QueueSnapshot], *, more: bool) -> dict[str, Any]:
    """Return a frame as JSON. Fields ending in `_ms` are milliseconds, those ending in `_s` seconds."""
    return {
        "queues": [
            {
                "queue": queue.name,
                "state": state_of(queue).value,
                "error": None if queue.error is None else str(queue.error),
                "overdue_s": queue.overdue_s,
                "coming": None if queue.coming is None else asdict(queue.coming),
                "stats": None if queue.stats is None else asdict(queue.stats),
            }
            for queue in queues
        ],
        "states": {state.value: n for state, n in counts(queues).items() if state is not State.UNREAD},
        "more": more,
    }
