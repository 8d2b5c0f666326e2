"""The demo's summary: what arrived, how late, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from promoter_demo.check import Checker

EDGES_MS = (1, 2, 5, 10, 50, 200, 1_000)


@dataclass
class Outcome:
    """The rest of a run: the kill, the takeover, the idle time."""

    lease_ms: int
    killed: str = ""
    lease_left_ms: int = 0
    takeover_ms: float | None = None
    idle_commands: float = 0.0


def show(console: Console, checker: Checker, producers: dict[str, int], outcome: Outcome) -> None:
    late = sorted(checker.late.values())
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_row("scheduled", ", ".join(f"{n:,} by {who}" for who, n in producers.items()))
    table.add_row("promoted", f"{checker.arrived:,}, with {checker.events:,} events")
    for label, n in (("lost", checker.lost), ("twice", checker.twice), ("early", checker.early)):
        table.add_row(label, f"[{'red' if n else 'green'}]{n}[/]")
    table.add_row("lateness", f"p50 {_at(late, 0.5)} ms, p99 {_at(late, 0.99)} ms, max {_at(late, 1)} ms")
    if outcome.takeover_ms is not None:
        table.add_row(
            "takeover",
            f"{outcome.takeover_ms:,.0f} ms after kill -9 of {outcome.killed}, whose lease had "
            f"{outcome.lease_left_ms:,} ms left",
        )
    table.add_row(
        "idle", f"{outcome.idle_commands:.1f} commands a second, with a lease of only {outcome.lease_ms:,} ms to renew"
    )
    console.print(table)
    _histogram(console, late)
    if outcome.takeover_ms is not None:
        console.print(
            "The late ones became due between the kill and the end of the killed leader's lease.", style="dim"
        )


def _at(ordered: Sequence[int], quantile: float) -> int:
    return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)] if ordered else 0


def _histogram(console: Console, late: Sequence[int]) -> None:
    low = -(10**15)
    rows = []
    for edge in (*EDGES_MS, 10**15):
        label = f"≤ {edge:,} ms" if edge < 10**15 else f"> {EDGES_MS[-1]:,} ms"
        rows.append((label, sum(1 for ms in late if low < ms <= edge)))
        low = edge
    most = max((n for _, n in rows), default=0) or 1
    for label, n in rows:
        console.print(f"{label:>10}  {'█' * round(40 * n / most):<40} {n:,}", highlight=False)
