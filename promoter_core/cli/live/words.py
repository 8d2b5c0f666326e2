"""Format figures for narrow columns. States are words, so they are readable without colours."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from promoter_core.monitor import QueueSnapshot

LATE_S = 5.0  # a queue with a leader is late when a job has been due for longer
NOTHING = "–"
BLOCKS = " ▁▂▃▄▅▆▇█"


class State(Enum):
    """The state of a queue, worst first."""

    ERROR = "error"  # the queue cannot be read
    NO_LEADER = "no leader"  # jobs wait, and no promoter holds the lock
    LATE = "late"  # a promoter holds the lock, and jobs are overdue
    OK = "ok"
    IDLE = "idle"  # no jobs wait, and no promoter leads
    UNREAD = "…"  # not read yet

    @property
    def rank(self) -> int:
        return list(State).index(self)

    @property
    def bad(self) -> bool:
        return self in (State.ERROR, State.NO_LEADER, State.LATE)


def state_of(queue: QueueSnapshot) -> State:
    if queue.error is not None:
        return State.ERROR
    if queue.stats is None:
        return State.UNREAD
    if not queue.led:
        return State.NO_LEADER if queue.unled_jobs else State.IDLE
    return State.LATE if queue.overdue_s > LATE_S else State.OK


def short(number: float) -> str:
    """Format a number in 5 characters: `0`, `9999`, `12.3k`, `999k`, `1.2M`."""
    if number < 10_000:
        return f"{number:.0f}"
    for unit in "kMGT":
        number /= 1000
        if number < 99.95:
            return f"{number:.1f}{unit}"
        if number < 999.5:
            return f"{number:.0f}{unit}"
    return "lots"


def short_s(seconds: float) -> str:
    """Format an interval in 5 characters: `250ms`, `1.2s`, `59s`, `12m`, `3.5h`, `12d`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    for size, unit in ((60, "s"), (60, "m"), (24, "h")):
        if seconds < 9.95:
            return f"{seconds:.1f}{unit}"
        if seconds < size - 0.5:
            return f"{seconds:.0f}{unit}"
        seconds /= size
    return f"{seconds:.1f}d" if seconds < 9.95 else f"{min(seconds, 9999):.0f}d"


def short_rate(per_s: float | None) -> str:
    """Format a rate per second, with one decimal if it is small."""
    if per_s is None:
        return NOTHING
    return f"{per_s:.1f}" if 0 < per_s < 9.95 else short(per_s)


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw the last `width` values as blocks, scaled to the highest."""
    last = values[-width:]
    most = max(last, default=0.0)
    return "".join(BLOCKS[1 + round(7 * value / most)] if most else BLOCKS[1] for value in last)
