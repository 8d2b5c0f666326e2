"""How many jobs a tick asks for: as many as the store moves within `max_tick_ms`.

So a backlog drains at full speed and nobody's commands wait longer than that behind one of our scripts.

Pure: it is told how long each tick took. A tick's time is the way to the store and back, which no batch size changes,
and the store's work, which this one follows.
"""

from __future__ import annotations

from collections import deque

MAX_BATCH = 10_000  # what a Lua script can hold and a reply should
REMEMBERED = 4  # ticks
EASE = 0.05  # how fast a longer way is believed; a shorter one is at once


class BatchSize:
    """`limit` is what the next tick asks for; it starts as `start` and stays it when `max_tick_ms` is 0."""

    def __init__(self, start: int, max_tick_ms: int) -> None:
        self.limit = start
        self._target_s = max_tick_ms / 1000
        self._way_s: float | None = None
        self._costs_s: deque[float] = deque(maxlen=REMEMBERED)  # of a job, in the last ticks

    def travelled(self, seconds: float) -> None:
        """A call that had nothing to move took this long."""
        way_s = self._way_s
        self._way_s = seconds if way_s is None or seconds < way_s else way_s + EASE * (seconds - way_s)

    def ticked(self, moved: int, seconds: float) -> None:
        """A tick moved `moved` jobs in this time.

        What a job costs the store is the least that one has cost in the last ticks: any of them may have been slow
        because our own process was busy. The batch doubles at most, and shrinks at once to what fits.
        """
        if not moved or self._way_s is None or seconds < self._way_s:
            self.travelled(seconds)
        if not moved or not self._target_s:
            return
        work_s = max(seconds - (self._way_s or 0.0), 0.0)
        self._costs_s.append(work_s / moved)
        if moved >= self.limit or work_s > self._target_s:
            cost_s = min(self._costs_s)
            fits = int(self._target_s / cost_s) if cost_s > self._target_s / MAX_BATCH else MAX_BATCH
            self.limit = max(min(fits, self.limit * 2), 1)
