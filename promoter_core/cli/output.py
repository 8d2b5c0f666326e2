"""Output of the commands: messages, tables and JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

out = Console()
err = Console(stderr=True)


def fail(message: str) -> None:
    err.print(f"[bold red]Error:[/] {plain(message)}", soft_wrap=True, highlight=False)


def note(message: str) -> None:
    """Something to know beside the answer, on stderr."""
    err.print(plain(message), style="yellow", soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    # On one line, and with nothing in it that would control a terminal.
    typer.echo(text if text.isprintable() else json.dumps(value))


def show_time(ms: int | None) -> str:
    if ms is None:
        return "–"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def show_ms(ms: float) -> str:
    """An interval for people: `0 ms`, `1.50 s`, `2 d 3 h`."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.2f} s"
    minutes = int(ms // 60_000)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return " ".join(f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n)


def count(n: int, one: str, many: str = "") -> str:
    """`1 entry`, `2,000 entries`; without `many` it is `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def plain(text: str) -> str:
    """Foreign text inside of rich markup, shown as it is."""
    return escape(shown(text))


def shown(text: str) -> str:
    """Foreign text for a terminal: what would control it, or cannot be printed, as an escape sequence in letters."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )
