"""`RoundRobin`: which queues are served next. Pure data, without a clock or a backend."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from promoter_core.engine.actions import Action, Lock, Wait
from promoter_core.engine.machine import Machine

T = TypeVar("T")

AT_ONCE = 32  # queues served in one round trip
LOCKS_AT_ONCE = 128  # lock requests are cheap for the store
DUE_AT_ONCE = 256  # expired waits handled at once; most lead to another wait
AT_LEAST = 8  # minimum number of queues from each line in one round trip


@dataclass(slots=True, eq=False)
class ServedQueue:
    """One queue: its machine, and the action that it wants performed."""

    queue: str
    machine: Machine
    action: Action
    changed: bool = False  # it changed since its last step that reads the store began
    due_s: float | None = None  # when its wait ends; `inf`: no timeout; None: not waiting
    busy_s: float = 0.0  # when it last had work
    handed_over: bool = False  # the machine is shutting down: another process takes over, or the run ends


class RoundRobin:
    """Queues wait for their time, or are in line to be served.

    Queues that drain a backlog have a separate line, of which each round takes one. So each of them gets one batch in
    turn, and a queue with little work waits for at most one batch. Queues that request their lock, and queues that have
    just acquired it, have separate lines too: a thousand take-overs do not delay the queues that we lead.
    """

    def __init__(self) -> None:
        self._locks: deque[ServedQueue] = deque()
        self._fresh: deque[ServedQueue] = deque()
        self._light: deque[ServedQueue] = deque()
        self._draining: deque[ServedQueue] = deque()
        self._waiting: list[tuple[float, int, ServedQueue]] = []
        self._sequence = 0

    def __bool__(self) -> bool:
        """Whether a queue is waiting to be served now."""
        return bool(self._light or self._draining or self._locks or self._fresh)

    @property
    def room(self) -> int:
        """How many queues to add before the next round trip: more would only wait here, and delay the others."""
        return max(AT_ONCE - len(self._light), AT_LEAST)

    @property
    def lock_room(self) -> int:
        """How many queues that request their lock to add."""
        return max(LOCKS_AT_ONCE - len(self._locks), AT_LEAST)

    def wait(self, served: ServedQueue, until_s: float) -> None:
        served.due_s = until_s
        self._sequence += 1
        heapq.heappush(self._waiting, (until_s, self._sequence, served))

    def rest(self, served: ServedQueue) -> None:
        """Let the queue wait without a timeout."""
        served.due_s = math.inf

    def enqueue(self, served: ServedQueue, *, drains: bool = False, fresh: bool = False) -> None:
        """Add the queue to its line. `fresh`: it has just acquired its lock."""
        served.due_s = None
        if isinstance(served.action, Lock):
            self._locks.append(served)
        else:
            (self._draining if drains else self._fresh if fresh else self._light).append(served)

    def due(self, now_s: float) -> Iterator[ServedQueue]:
        """Return queues whose wait is over, as many as there is room for. They no longer wait."""
        full = len(self._light) + self.room
        for _ in range(DUE_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > now_s or len(self._light) >= full:
                return
            until_s, _, served = heapq.heappop(self._waiting)
            if served.due_s == until_s:  # it has not been woken meanwhile
                served.due_s = None
                yield served

    def next_s(self) -> float | None:
        """When the next wait is over."""
        while self._waiting and self._waiting[0][2].due_s != self._waiting[0][0]:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def next_round(self, at_once: int = AT_ONCE) -> list[ServedQueue]:
        """Take the queues of the next round trip out of their lines, in turn."""
        least = min(len(self._fresh), AT_LEAST)
        served = take(self._light, at_once - 1 - least)
        served += take(self._fresh, at_once - 1 - len(served))
        return served + take(self._draining, 1) + take(self._locks, LOCKS_AT_ONCE)


def take(queues: deque[T], most: int) -> list[T]:
    """Remove and return the first items."""
    return [queues.popleft() for _ in range(min(len(queues), most))]


def interruptible(x: ServedQueue) -> bool:
    """Return whether a change ends the queue's wait."""
    return not isinstance(x.action, Wait) or x.action.interruptible
