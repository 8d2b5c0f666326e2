"""Charts as numbers for a template: bars of upcoming jobs, a line of past lateness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from promoter_ui import text

WIDTH, HEIGHT = 600, 90
GAP = 1.0
FIRST = 24  # width reserved for the bar of due jobs

SPANS = {"minute": (60_000, 30), "hour": (3_600_000, 60), "day": (86_400_000, 48)}  # milliseconds, bars


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str  # the range of due times, relative to now
    count: int


@dataclass(frozen=True, slots=True)
class Future:
    """Jobs by due time: due jobs, one bar for each part of the span, and later jobs."""

    span: str
    bars: Sequence[Bar]
    overdue: Bar  # jobs due now; at most as high as the highest bar
    due: int
    within: int
    later: int
    most: int

    @property
    def summary(self) -> str:
        """Describe the chart in words, for screen readers."""
        return (
            f"{self.due:,} due now, {self.within:,} in the next {self.span}, {self.later:,} later; "
            f"at most {self.most:,} per bar"
        )


def bounds_ms(span: str, now_ms: int) -> list[int]:
    """Return the edges of the bars. Jobs due at or before the first one are due now."""
    length_ms, bars = SPANS[span]
    return [now_ms + 1 + length_ms * i // bars for i in range(bars + 1)]


def future(span: str, before: Sequence[int], total: int) -> Future:
    """`before` has the number of jobs due before each of `bounds_ms`, `total` the number of all."""
    length_ms, bars = SPANS[span]
    counts = [max(right - left, 0) for left, right in pairwise(before)]
    most = max([*counts, 1])
    width = (WIDTH - FIRST) / bars
    drawn = [
        Bar(
            x=round(FIRST + i * width, 2),
            y=round(HEIGHT - HEIGHT * count / most, 2),
            width=round(width - GAP, 2),
            height=round(HEIGHT * count / most, 2),
            label=" to ".join(text.interval(length_ms * edge / bars / 1000) for edge in (i, i + 1)),
            count=count,
        )
        for i, count in enumerate(counts)
    ]
    high = round(HEIGHT * min(before[0], most) / most, 2)
    overdue = Bar(0, HEIGHT - high, FIRST * 0.6, high, "now", before[0])
    return Future(
        span, drawn, overdue, before[0], before[-1] - before[0], max(total - before[-1], 0), max(counts, default=0)
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the time ahead, and how many jobs are due in it."""

    label: str
    count: int
    width: float  # of its bar


def ahead(due: int, minute: int, hour: int, day: int) -> list[Step]:
    """Return the steps: now, the next minute, the rest of the hour, the rest of the day.

    `hour` and `day` are cumulative.
    """
    counts = [("due now", due), ("in the next minute", minute), ("in 1 min to 1 h", hour - minute)]
    counts.append(("in 1 h to 1 day", day - hour))
    most = max([*(count for _, count in counts), 1])
    return [Step(label, count, round(WIDTH * max(count, 0) / most, 1)) for label, count in counts]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds over time, oldest first, as segments: nothing is drawn for times without a reading."""

    pieces: Sequence[str]  # the points of each, for an SVG polyline
    most: float
    last: float | None
    over_s: float
    of: str = ""  # a description of the values, if they are not samples over time

    @property
    def summary(self) -> str:
        """Describe the chart in words, for screen readers."""
        if self.of:
            return f"{self.of}; at most {text.interval(self.most)}"
        now = "unknown" if self.last is None else text.interval(self.last)
        return f"now {now}, at most {text.interval(self.most)} in the last {text.interval(self.over_s)}"


def line(values: Sequence[float | None], over_s: float, of: str = "") -> Line:
    known = [value for value in values if value is not None]
    most = max([*known, 0.01 if of else 1.0])
    step = WIDTH / max(len(values) - 1, 1)
    pieces, points = list[str](), list[str]()
    for i, value in enumerate([*values, None]):
        if value is not None:
            points.append(f"{i * step:.1f},{HEIGHT - (HEIGHT - 2) * value / most - 1:.1f}")
        elif points:
            pieces.append(" ".join(points if len(points) > 1 else points * 2))
            points = []
    last = values[-1] if values else None
    return Line(pieces, max(known, default=0.0), last, over_s, of)
