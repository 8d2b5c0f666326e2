"""`Turns`: which queues are served next. Pure data; it knows no clock and no backend."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from promoter_core.actions import Action, Wait
from promoter_core.machine import Machine
from promoter_core.settings import PromoterSettings

AT_ONCE = 32  # queues served in one round trip


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
    batch in turn, and one with little to do waits for one batch at most.
    """

    def __init__(self) -> None:
        self._light: deque[Line] = deque()
        self._draining: deque[Line] = deque()
        self._waiting: list[tuple[float, int, Line]] = []
        self._sequence = 0

    def __bool__(self) -> bool:
        """Somebody is to be served now."""
        return bool(self._light or self._draining)

    def wait(self, line: Line, until_s: float) -> None:
        line.due_s = until_s
        self._sequence += 1
        heapq.heappush(self._waiting, (until_s, self._sequence, line))

    def stand(self, line: Line, *, drains: bool = False) -> None:
        line.due_s = None
        (self._draining if drains else self._light).append(line)

    def due(self, now_s: float) -> list[Line]:
        """Lines whose wait is over; they wait no longer."""
        lines = []
        while self._waiting and self._waiting[0][0] <= now_s:
            until_s, _, line = heapq.heappop(self._waiting)
            if line.due_s == until_s:  # it has not been woken since
                line.due_s = None
                lines.append(line)
        return lines

    def next_s(self) -> float | None:
        """When the next wait is over."""
        while self._waiting and self._waiting[0][2].due_s != self._waiting[0][0]:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def round(self, at_once: int = AT_ONCE) -> list[Line]:
        """The lines of the next round trip, in turn; they stand no longer."""
        lines = [self._light.popleft() for _ in range(min(len(self._light), at_once - 1))]
        if self._draining:
            lines.append(self._draining.popleft())
        return lines


def deaf(line: Line) -> bool:
    """No change ends its wait."""
    return isinstance(line.action, Wait) and line.action.deaf
