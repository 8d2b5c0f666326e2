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
    """Print an additional message to stderr."""
    err.print(plain(message), style="yellow", soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    # Keep it on one line, without terminal control characters.
    typer.echo(text if text.isprintable() else json.dumps(value))


def show_time(ms: int | None) -> str:
    if ms is None:
        return "–"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def show_ms(ms: float) -> str:
    """Format an interval: `0 ms`, `1.50 s`, `2 d 3 h`."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.2f} s"
    minutes = int(ms // 60_000)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return " ".join(f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n)


def count(n: int, one: str, many: str = "") -> str:
    """Format a count: `1 entry`, `2,000 entries`. Without `many`, the plural is `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def plain(text: str) -> str:
    """Escape text from outside for rich markup, so that it is shown literally."""
    return escape(shown(text))


def shown(text: str) -> str:
    """Escape text from outside for a terminal: control and unprintable characters become escape sequences."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )
