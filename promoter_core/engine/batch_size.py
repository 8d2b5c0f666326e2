"""Decides how many jobs a tick requests: as many as the store moves within `max_tick_ms`.

So a backlog drains at full speed, and no client waits longer than that for one of our calls.

Pure: its input is how long the store worked on each tick, by the store's own clock. That excludes the round trip, so a
slow network does not change the batch. If the store cannot measure it, the batch is fixed.

A tick has a fixed cost for the store (such as a commit) and a cost for each job. A smaller batch saves only the latter.
So if the fixed cost is more than a quarter of `max_tick_ms`, a tick can take `PAYS` times that cost: then at least
three quarters of the store's work move jobs.
"""

from __future__ import annotations

from statistics import median

MAX_BATCH = 10_000  # what a Lua script can hold, and a reply should
MIN_BATCH = 8  # below this, a round trip costs more than its jobs, however large they are
PAYS = 4  # a tick should take at least this many times its fixed cost
REMEMBERED = 3  # number of estimates, of which the median is used: a single tick may be slow for another reason
APART = 1.8  # batches whose sizes differ by this factor show the fixed cost and the cost of a job
OUTLIER = 1.5  # a tick that takes this many times the limit is an outlier, and halves the next batch
PROBE_AFTER = 8  # after this many ticks of similar size, one of another size measures the fixed cost again
ASK_AFTER = 15  # ticks that are not full, between two measurements: measuring costs time
PROBED = 4  # a probe is this many times smaller


class BatchSize:
    """`limit` is the size of the next batch. It starts as `start`, and is fixed when `max_tick_ms` is 0."""

    def __init__(self, start: int, max_tick_ms: int) -> None:
        self.limit = start
        self._size = start  # the best known size; during a probe, `limit` differs
        self._smallest = min(start, MIN_BATCH)
        self._target_ms = max_tick_ms
        self._last: tuple[int, float] | None = None  # jobs moved and work in the previous tick
        self._fixed_ms: tuple[float, ...] = ()  # the last estimates of the fixed cost, each from two consecutive ticks
        self._large: tuple[tuple[int, float], ...] = ()  # the last ticks large enough to show the cost of a job
        self._unknown = ASK_AFTER  # ticks since the last measurement
        self._alike = PROBE_AFTER  # ticks since two consecutive ones differed in size; the fixed cost is not known yet

    @property
    def asks(self) -> bool:
        """Whether the next tick should measure the store's work: in a backlog, and occasionally otherwise."""
        return bool(self._target_ms) and self._unknown >= ASK_AFTER

    def observe_tick(self, moved: int, work_ms: float | None) -> None:
        """Record that a tick moved `moved` jobs, and how long the store worked on it; None when unknown.

        The batch at most doubles. It shrinks at once to the size that fits, or by half on the evidence of a single slow
        tick. A tick that was not full measures the fixed cost, and changes the size only if it took too long.
        """
        self._unknown = ASK_AFTER if moved >= self.limit else 0 if self.asks else self._unknown + 1
        if not self._target_ms or not moved or work_ms is None:
            return
        self._compare(moved, work_ms)
        fixed_ms = median(self._fixed_ms) if self._fixed_ms else 0.0
        allowed_ms = max(self._target_ms, PAYS * fixed_ms)
        if moved < self.limit and work_ms <= allowed_ms:
            return
        self._large = (*self._large, (moved, work_ms))[-REMEMBERED:]
        job_ms = median(max(work - fixed_ms, 0.0) / n for n, work in self._large)
        budget_ms = allowed_ms - fixed_ms
        fits = int(budget_ms / job_ms) if job_ms > budget_ms / MAX_BATCH else MAX_BATCH
        if work_ms > OUTLIER * allowed_ms and fits >= moved:
            fits = moved // 2
        self._size = max(min(fits, self._size * 2), self._smallest)
        self.limit = self._size
        if self._alike >= PROBE_AFTER and (self._size < MAX_BATCH or work_ms > self._target_ms):
            self._alike = 0
            self.limit = max(self._size // PROBED, 1) if self._size > 1 else 2

    def _compare(self, moved: int, work_ms: float) -> None:
        """Estimate the fixed cost from this tick and the last one, if their sizes differ."""
        last, self._last = self._last, (moved, work_ms)
        self._alike += 1
        if last is None or max(moved, last[0]) < APART * min(moved, last[0]):
            return
        self._alike = 0
        job_ms = max((work_ms - last[1]) / (moved - last[0]), 0.0)
        fixed_ms = work_ms - job_ms * moved
        self._fixed_ms = (*self._fixed_ms, min(max(fixed_ms, 0.0), work_ms, last[1]))[-REMEMBERED:]
