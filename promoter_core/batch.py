"""How many jobs a tick asks for: as many as the store moves within `max_tick_ms`.

So a backlog drains at full speed and nobody's commands wait longer than that behind one of our scripts.

Pure: it is told how long each tick took. A tick's time is the way to the store and back, which no batch size changes,
and the store's work, which this one follows.
"""

from __future__ import annotations

MAX_BATCH = 10_000  # what a Lua script can hold and a reply should
EASE = 0.05  # how fast a longer way is believed; a shorter one is at once


class BatchSize:
    """`limit` is what the next tick asks for; it starts as `start` and stays it when `max_tick_ms` is 0."""

    def __init__(self, start: int, max_tick_ms: int) -> None:
        self.limit = start
        self._target_s = max_tick_ms / 1000
        self._way_s: float | None = None

    def travelled(self, seconds: float) -> None:
        """A call that had nothing to move took this long."""
        way_s = self._way_s
        self._way_s = seconds if way_s is None or seconds < way_s else way_s + EASE * (seconds - way_s)

    def ticked(self, moved: int, seconds: float) -> None:
        """A tick moved `moved` jobs in this time: double after a full batch well under the target, and when over it
        shrink to what would have fitted. One that was slow for a reason of its own costs a few small batches, no more.
        """
        if not moved or self._way_s is None or seconds < self._way_s:
            self.travelled(seconds)
        if not moved or not self._target_s:
            return
        work_s = seconds - (self._way_s or 0.0)
        if work_s > self._target_s:
            self.limit = max(int(min(moved, self.limit) * self._target_s / work_s), 1)
        elif moved >= self.limit and work_s < self._target_s / 2:
            self.limit = min(self.limit * 2, max(MAX_BATCH, self.limit))
