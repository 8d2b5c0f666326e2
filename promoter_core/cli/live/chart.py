"""Draw upcoming jobs as text: overdue jobs, then bars by due time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promoter_core.cli.live.words import BLOCKS, short
from promoter_core.monitor import Future

HEIGHT = 5  # lines of bars
LEFT = 11  # columns to the left of the bars


@dataclass(frozen=True, slots=True)
class Zoom:
    """A time range of the chart, and its bars."""

    name: str
    ahead_s: int
    bars: int
    ticks: tuple[str, ...]  # labels, evenly spaced


ZOOMS = (
    Zoom("minute", 60, 60, ("now", "15 s", "30 s", "45 s", "1 min")),
    Zoom("hour", 3_600, 60, ("now", "15 min", "30 min", "45 min", "1 h")),
    Zoom("day", 86_400, 48, ("now", "6 h", "12 h", "18 h", "1 day")),
    Zoom("week", 604_800, 56, ("now", "2 days", "4 days", "5 days", "1 week")),
)


def draw(seen: Future | None, zoom: Zoom, width: int) -> list[str]:
    """Return HEIGHT lines of bars and a line of labels, each up to `width` columns."""
    bars = seen.bars if seen is not None else (0,) * zoom.bars
    wide = max((width - LEFT - 1) // len(bars), 1)
    shown = bars[: (width - LEFT - 1) // wide]
    most = max(shown, default=0)
    left = ["overdue", "?" if seen is None else short(seen.overdue), "", "peak", "?" if seen is None else short(most)]
    lines = []
    for line in range(HEIGHT):
        above = 8 * (HEIGHT - 1 - line)  # height of the lines below this one, in eighths
        cells = "".join(BLOCKS[min(max(_height(n, most) - above, 0), 8)] * wide for n in shown)
        lines.append(f"{left[line]:>{LEFT - 2}} │{cells}".rstrip())
    return [*lines, " " * LEFT + _labels(zoom.ticks, wide * len(shown), width - LEFT)]


def _height(n: int, most: int) -> int:
    """Return the height of a bar, in eighths of a line. A bar that is not empty is visible."""
    return max(round(n / most * 8 * HEIGHT), 1) if n else 0


def _labels(ticks: Sequence[str], span: int, room: int) -> str:
    line = ""
    for i, tick in enumerate(ticks):
        at = span * i // (len(ticks) - 1)
        if i == len(ticks) - 1:
            at = min(at, room) - len(tick)
        if at >= len(line) + (1 if line else 0):
            line = line.ljust(at) + tick
    return line[:room]
