"""Format foreign text, times and numbers, and encode names in links."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote

MOST_DATA = 20_000  # characters of a job's data that are shown
MOST_FIELDS = 40  # of a query or a form


def shown(text: object) -> str:
    """Show unprintable characters, and those that change the text direction, as escape sequences."""
    return "".join(c if c.isprintable() else _escape(c) for c in str(text))


def block(text: str) -> str:
    """Like `shown`, for several lines."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _escape(c: str) -> str:
    return c.encode("unicode_escape", "backslashreplace").decode("ascii")


def link(place: str, /, **params: object) -> str:
    """Return a relative link, which works at any address of a proxy. Values of None and "" are left out."""
    pairs = [f"{_quoted(key)}={_quoted(value)}" for key, value in params.items() if value is not None and value != ""]
    return place + ("?" + "&".join(pairs) if pairs else "")


def _quoted(value: object) -> str:
    return quote(str(value), safe="", errors="surrogateescape")


def query(text: bytes) -> dict[str, str]:
    """Parse the fields of a query or a form. Bytes that are not UTF-8 become surrogate escapes. Raises ValueError."""
    pairs = parse_qsl(
        text.decode("latin-1"), keep_blank_values=True, errors="surrogateescape", max_num_fields=MOST_FIELDS
    )
    return dict(pairs)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def rate(per_s: float | None) -> str:
    """Format a number a second: `0`, `0.25`, `1,200`."""
    if per_s is None:
        return "–"
    return f"{per_s:,.0f}" if per_s >= 10 or not per_s else f"{per_s:.2f}"


def interval(seconds: float | None) -> str:
    """Format `0 ms`, `1.5 s`, `30 s`, `3 min`, `2 d 3 h`."""
    if seconds is None or math.isnan(seconds):
        return "–"
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    return " ".join(f"{n:,} {unit}" for n, unit in parts if n)


def due_in(due_ms: int | None, now_ms: int) -> str:
    """Format `in 3 min`, `overdue by 2.0 s`; "" without a due time."""
    if due_ms is None:
        return ""
    ahead_s = (due_ms - now_ms) / 1000
    return f"in {interval(ahead_s)}" if ahead_s > 0 else f"overdue by {interval(-ahead_s)}"


def moment(ms: int | None) -> str:
    """Format a time in UTC, to the second; `–` for None."""
    if ms is None:
        return "–"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def data(value: Any) -> str:
    """Format a job's data for people: as JSON if possible, otherwise as Python shows it. Long data is cut."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        try:
            text = repr(value)
        except RecursionError:
            return "(nested too deep to be shown)"
    return cut(text)


def cut(text: str) -> str:
    left = len(text) - MOST_DATA
    return block(text if left <= 0 else text[:MOST_DATA]) + (f"\n… and {left:,} characters more" if left > 0 else "")


def whole_number(params: Mapping[str, str], name: str) -> int | None:
    """Parse a whole number; None when it is missing or invalid."""
    text = params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None
