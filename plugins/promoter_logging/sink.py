"""The `logging` sinks. Options: `logger` (default promoter.events, promoter.metrics) and `level` (default info)."""

from __future__ import annotations

import logging

from promoter_core.errors import BackendError, ConfigError
from promoter_core.model import LockOutcome, PromotedJob, Tick


class LoggingEvents:
    """An event sink: one line for each promoted job."""

    def __init__(self, logger: str = "promoter.events", level: str = "info") -> None:
        self._log, self._level = logging.getLogger(logger), _level(level)

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        for job in jobs:
            late_ms = job.promoted_ms - job.due_ms
            self._log.log(self._level, "queue %r: waiting %s %s, %d ms late", queue, job.id, job.name, late_ms)

    async def close(self) -> None:
        """Nothing to flush."""


class LoggingMetrics:
    """A metrics sink: one line for each tick that did something. Idle ticks are silent."""

    wants_jobs = False

    def __init__(self, logger: str = "promoter.metrics", level: str = "info") -> None:
        self._log, self._level = logging.getLogger(logger), _level(level)

    def on_tick(self, queue: str, tick: Tick) -> None:
        p = tick.promotion
        if p.promoted or p.quarantined or p.held_back:
            self._log.log(
                self._level,
                "queue %r: promoted %d, quarantined %d, held back %d, depth %d, lag %d ms, in %.1f ms",
                *(queue, p.promoted, p.quarantined, p.held_back, p.depth, p.oldest_pending_lag_ms),
                tick.duration_s * 1000,
            )

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        self._log.log(self._level, "queue %r: lock %s", queue, outcome)

    def on_error(self, queue: str, error: BackendError) -> None:
        self._log.warning("queue %r: error %s", queue, error.code)


def _level(name: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigError(f"logging sink: unknown level {name!r}; levels are debug, info, warning, error")
    return level
