"""`Turns`: which queues are served next. Pure data; it knows no clock and no backend."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from promoter_core.actions import Action, Lock, Wait
from promoter_core.machine import Machine
from promoter_core.settings import PromoterSettings

AT_ONCE = 32  # queues served in one round trip
LOCKS_AT_ONCE = 128  # that is cheap for the store
DUE_AT_ONCE = 256  # waits that end, of which most begin another one
AT_LEAST = 8  # lines that each cause may add between two round trips, however many stand already


@dataclass(slots=True, eq=False)
class Line:
    """One queue: its machine, and what that wants done."""

    settings: PromoterSettings
    machine: Machine
    action: Action
    changed: bool = False  # something did, since the last step that read it began
    due_s: float | None = None  # when its wait ends; None while it does not wait
    busy_s: float = 0.0  # when it last had anything to do
    handed_over: bool = False  # it is another's, or ends: the machine is shutting down

    @property
    def queue(self) -> str:
        return self.settings.queue


class Turns:
    """Lines wait for their time, or stand in a queue to be served.

    One that drains a backlog stands in a queue of its own, of which each round takes one line: so every line gets one
    batch in turn, and one with little to do waits for one batch at most. So do those that ask for their lock, and those
    that have just been given it: a thousand queues that are taken over do not hold up those that we lead.
    """

    def __init__(self) -> None:
        self._locks: deque[Line] = deque()
        self._fresh: deque[Line] = deque()
        self._light: deque[Line] = deque()
        self._draining: deque[Line] = deque()
        self._waiting: list[tuple[float, int, Line]] = []
        self._sequence = 0

    def __bool__(self) -> bool:
        """Somebody is to be served now."""
        return bool(self._light or self._draining or self._locks or self._fresh)

    @property
    def room(self) -> int:
        """How many lines are to be added before the next round trip: more would wait here, and hold up the others."""
        return max(AT_ONCE - len(self._light), AT_LEAST)

    @property
    def lock_room(self) -> int:
        """How many are to be added that ask for their lock."""
        return max(LOCKS_AT_ONCE - len(self._locks), AT_LEAST)

    def wait(self, line: Line, until_s: float) -> None:
        line.due_s = until_s
        self._sequence += 1
        heapq.heappush(self._waiting, (until_s, self._sequence, line))

    def stand(self, line: Line, *, drains: bool = False, fresh: bool = False) -> None:
        """`fresh`: it has just been given its lock."""
        line.due_s = None
        if isinstance(line.action, Lock):
            self._locks.append(line)
        else:
            (self._draining if drains else self._fresh if fresh else self._light).append(line)

    def due(self, now_s: float) -> Iterator[Line]:
        """Lines whose wait is over, the first ones that there is room for; they wait no longer."""
        full = len(self._light) + self.room
        for _ in range(DUE_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > now_s or len(self._light) >= full:
                return
            until_s, _, line = heapq.heappop(self._waiting)
            if line.due_s == until_s:  # it has not been woken since
                line.due_s = None
                yield line

    def next_s(self) -> float | None:
        """When the next wait is over."""
        while self._waiting and self._waiting[0][2].due_s != self._waiting[0][0]:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def round(self, at_once: int = AT_ONCE) -> list[Line]:
        """The lines of the next round trip, in turn; they stand no longer."""
        least = min(len(self._fresh), AT_LEAST)
        lines = some(self._light, at_once - 1 - least)
        lines += some(self._fresh, at_once - 1 - len(lines))
        return lines + some(self._draining, 1) + some(self._locks, LOCKS_AT_ONCE)


def some(lines: deque[Line], most: int) -> list[Line]:
    """The first ones; they are taken out."""
    return [lines.popleft() for _ in range(min(len(lines), most))]


def deaf(line: Line) -> bool:
    """No change ends its wait."""
    return isinstance(line.action, Wait) and line.action.deaf
