"""What the commands share: options, output, and running a coroutine against an open backend."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from promoter_core.cli.json_logs import JsonFormatter
from promoter_core.contracts import Backend
from promoter_core.errors import ConfigError, JobError
from promoter_core.fleet.discovery import is_pattern
from promoter_core.registry import Registry
from promoter_core.settings import check_queue_name

T = TypeVar("T")

debug = False  # set by the --debug option
out = Console()
err = Console(stderr=True)

Url = Annotated[
    str,
    typer.Option(
        "--url", envvar="PROMOTER_URL", help="The backend, such as redis://localhost:6379.", show_default=False
    ),
]


def one_queue(name: str | None) -> str | None:
    """The value of --queue where one queue is meant. Raises ConfigError."""
    if name is not None and is_pattern(check_queue_name(name)):
        raise ConfigError(f"--queue {name!r} is a pattern: this command takes the name of one queue")
    return name


Queue = Annotated[
    str,
    typer.Option(
        "--queue", "-q", envvar="PROMOTER_QUEUE", help="The queue's name.", show_default=False, callback=one_queue
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


@cache
def registry() -> Registry:
    """One for the whole command."""
    return Registry()


def with_backend(url: str, use: Callable[[Backend], Awaitable[T]]) -> T:
    """Run `use` against the backend of `url`, opened and closed around it."""

    async def go() -> T:
        async with registry().connect(url) as backend:
            return await use(backend)

    return asyncio.run(go())


def fail(message: str) -> None:
    err.print(f"[bold red]Error:[/] {plain(message)}", soft_wrap=True, highlight=False)


def note(message: str) -> None:
    """Something to know beside the answer, on stderr."""
    err.print(plain(message), style="yellow", soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def parse_duration(text: str) -> timedelta:
    """`500ms`, `5s`, `1h30m`, `2d`, or a number of seconds. Raises JobError."""
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        pass
    if not text or _PART.sub("", text):
        raise JobError(f"{text!r} is no duration: expected a number with a unit, such as 500ms, 5s, 1h30m or 2d")
    try:
        return timedelta(milliseconds=sum(float(n) * _UNITS_MS[unit] for n, unit in _PART.findall(text)))
    except OverflowError:
        raise JobError(f"a delay of {text} is out of range") from None


def parse_time(text: str) -> datetime:
    """ISO 8601 with a time zone. Raises JobError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise JobError(f"{text!r} is no ISO 8601 time: expected one such as 2030-01-31T09:00:00Z") from None
    if at.tzinfo is None:
        raise JobError(f"{text!r} has no time zone: add Z for UTC, or an offset such as +02:00")
    return at


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


def plain(text: str) -> str:
    """Foreign text inside of rich markup, shown as it is."""
    return escape(shown(text))


def shown(text: str) -> str:
    """Foreign text for a terminal: what would control it, or cannot be printed, as an escape sequence in letters."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )


def set_up_logging(log_format: str) -> None:
    """Log to stderr: INFO and above, DEBUG of our own loggers with --debug."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("promoter").setLevel(logging.DEBUG if debug else logging.INFO)
