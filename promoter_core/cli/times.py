"""Times as people write them: ISO 8601, `5m`, `in 1h30m`, `2h ago`, `now`, and the words that dateparser reads."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from promoter_core import JobError
from promoter_core.cli import output

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_ISO = re.compile(r"\d{4}-?\d\d(-?\d\d|$)|\d{4}-?W\d\d")
_LONG = re.compile(r"(?<=\d)(sec(?:ond)?s?|min(?:ute)?s?|hours?|days?|weeks?)")
WORDS = "dateparser"  # the module that parses words; extra `dates`


@dataclass(frozen=True, slots=True)
class When:
    """A given time: a delay from now, by the store's clock, or a moment."""

    delay: timedelta | None = None  # negative: in the past
    at: datetime | None = None
    in_words: bool = False  # parsed by dateparser, so report how it was understood

    def moment(self, now_ms: int) -> datetime:
        """Return the moment, if the store's clock shows `now_ms`. Raises JobError."""
        if self.at is not None:
            return self.at
        try:
            return datetime.fromtimestamp(now_ms / 1000, UTC) + (self.delay or timedelta())
        except OverflowError:
            raise JobError(f"{self.delay} from now is out of range: up to the end of the year 9999") from None

    def due(self) -> dict[str, Any]:
        """Return `delay=` or `at=`, and print how words were interpreted. Raises JobError for a time in the past."""
        if self.in_words and self.at is not None:
            now = datetime.now(UTC)
            if self.at < now:
                raise JobError(f"that is {_local(self.at)}, which has passed")
            ahead = output.show_ms((self.at - now) / timedelta(milliseconds=1))
            output.note(f"understood as {_local(self.at)}, in {ahead}")
        if self.delay is not None and self.delay < timedelta():
            raise JobError("that is in the past: a due time is now or later")
        return {"delay": self.delay} if self.delay is not None else {"at": self.at}


def parse_duration(text: str) -> timedelta:
    """Parse `500ms`, `5s`, `1h30m`, `2d`, or a number of seconds. Raises JobError."""
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


def parse_step(text: str) -> timedelta:
    """Parse a duration, with `-` for earlier. Raises JobError."""
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text.removeprefix("+"))


def parse_when(text: str) -> When:
    """Parse a time, in any way in which people write one. Raises JobError."""
    words = " ".join(text.split())
    if words.lower() == "now":
        return When(delay=timedelta())
    plain = words.lower()
    ago = plain.endswith(" ago")
    span = plain.removesuffix(" ago") if ago else plain.removeprefix("in ").removeprefix("+")
    span = _LONG.sub(lambda unit: unit[0][0], span.replace(" and ", " ").replace(",", " ").replace(" ", ""))
    if span and _PART.sub("", span) == "":
        return When(delay=-parse_duration(span) if ago else parse_duration(span))
    if _ISO.match(words) and (moment := _iso(words)) is not None:
        if moment.tzinfo is None:
            raise JobError(f"{text!r} has no time zone: add Z for UTC, or an offset such as +02:00")
        return When(at=moment)
    return When(at=_of_words(text, words), in_words=True)


def due_time(delay: str | None, at: str | None) -> dict[str, Any]:
    """Return `delay=` or `at=`, of which one is required. Raises JobError."""
    if (delay is None) == (at is None):
        raise JobError("give either --delay or --at, such as --delay 5s")
    return {"delay": parse_duration(delay)} if delay is not None else parse_when(at or "").due()


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _of_words(text: str, words: str) -> datetime:
    expected = "expected ISO 8601, such as 2030-01-31T09:00:00Z, or 'in 1h30m'"
    if find_spec(WORDS) is None:
        raise JobError(f"{text!r} is not a time: {expected}; for words, pip install 'promoter-core[dates]'")
    # dateparser reads a bare number as a day, and guesses the order of day and month.
    if not words or words.replace(".", "").isdigit() or re.search(r"\d[/.]\d+[/.]", words) or _ISO.match(words):
        raise JobError(f"{text!r} is ambiguous: {expected}")
    found = _by_dateparser(words)
    if found is None:
        raise JobError(f"{text!r} is not a time: {expected}, or English words such as 'tomorrow 09:00'")
    return found if found.tzinfo is not None else found.astimezone()


def _by_dateparser(words: str) -> datetime | None:
    import dateparser

    # Without a base in the local zone, dateparser compares with UTC and can be a day off.
    settings: Any = {"RELATIVE_BASE": datetime.now().replace(tzinfo=None), "PREFER_DATES_FROM": "future"}  # noqa: DTZ005
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: datetime | None = dateparser.parse(words, languages=["en"], settings=settings)
    except Exception:  # dateparser raises arbitrary exceptions on unexpected text
        return None
    return found


def _local(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds")
