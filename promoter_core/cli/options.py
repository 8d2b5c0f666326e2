"""Options and arguments that several commands share, and their parsers."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated

from promoter_core import ConfigError, JobError
from promoter_core.cli.arguments import Option
from promoter_core.spi import check_queue_name, is_pattern

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def one_queue(name: str | None) -> str | None:
    """The value of --queue where one queue is meant. Raises ConfigError."""
    if name is not None and is_pattern(check_queue_name(name)):
        raise ConfigError(f"--queue {name!r} is a pattern: this command takes the name of one queue")
    return name


Url = Annotated[
    str,
    Option("--url", envvar="PROMOTER_URL", help="The backend, such as redis://localhost:6379.", show_default=False),
]
Queue = Annotated[
    str,
    Option("--queue", "-q", envvar="PROMOTER_QUEUE", help="The queue's name.", show_default=False, callback=one_queue),
]
Json = Annotated[bool, Option("--json", help="Print JSON, for programs.")]


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
