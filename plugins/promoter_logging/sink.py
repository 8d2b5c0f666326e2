"""The `logging` sinks: promoted jobs and ticks as rate-limited lines of Python's logging, as text or JSON.

Options: `logger` (default promoter.events, promoter.metrics), `level` (default info), `format` (text or json), and
`per_second` (jobs logged individually) or `every_s` (seconds between a queue's lines).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from promoter_core.spi import (
    BackendError,
    Clock,
    ConfigError,
    LockOutcome,
    PromotedJob,
    SinkFailure,
    SystemClock,
    Tick,
    sink_options,
)

MOST = 10**9 - 1


class _Lines:
    """Writes a line with a text for people, and with fields for programs as attributes of the record."""

    def __init__(self, logger: str, level: str, format: str) -> None:
        number = logging.getLevelNamesMapping().get(level.upper())
        if number is None:
            raise ConfigError(f"logging sink: unknown level {level!r}; levels are debug, info, warning, error")
        if format not in ("text", "json"):
            raise ConfigError(f"logging sink: format must be text or json, not {format!r}")
        self._log, self._level, self._json = logging.getLogger(logger), number, format == "json"

    def write(self, event: str, text: str, *, warning: bool = False, **fields: Any) -> None:
        level = logging.WARNING if warning else self._level
        if self._log.isEnabledFor(level):
            named = {"event.action": event} | fields
            self._log.log(level, "%s", json.dumps(named) if self._json else text.format(**fields), extra=named)


class LoggingEvents:
    """An event sink: one line per promoted job, up to `per_second`, and then one with the number of others."""

    def __init__(
        self,
        logger: str = "promoter.events",
        level: str = "info",
        format: str = "text",
        per_second: str = "100",
        *,
        clock: Clock | None = None,
    ) -> None:
        self._lines = _Lines(logger, level, format)
        self._clock = clock or SystemClock()
        self._per_second = sink_options.number("logging sink", "per_second", per_second, 0, MOST)
        self._second = 0
        self._told = 0  # records logged in this second
        self._more = 0  # records suppressed in this second

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        second = int(self._clock.monotonic())
        if second != self._second:
            self._rest()
            self._second, self._told = second, 0
        told = jobs[: max(int(self._per_second) - self._told, 0)]
        self._told += len(told)
        self._more += len(jobs) - len(told)
        for job in told:
            text = "queue {queue!r}: waiting {job_id} {job_name}, {late_ms} ms late"
            late_ms = job.promoted_ms - job.due_ms
            self._lines.write("waiting", text, queue=queue, job_id=job.id, job_name=job.name, late_ms=late_ms)

    async def close(self) -> None:
        self._rest()

    def _rest(self) -> None:
        more, self._more = self._more, 0
        if more:
            self._lines.write("waiting-more", "and {jobs} jobs more within a second", jobs=more)


@dataclass
class _Sum:
    """The sums of one queue since its last lines."""

    line_s: float | None = None
    promoted: int = 0
    malformed: int = 0
    ticks: int = 0
    tick_ms: float = 0.0  # the longest
    held_back: int = 0  # as of the last tick, like depth and lag
    depth: int = 0
    lag_ms: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    errors_s: float | None = None


class LoggingMetrics:
    """A metrics sink: a line for ticks that did something and for errors, at most one of each per `every_s` and queue.

    The next line sums up what happens in between. Idle ticks are not logged.
    """

    wants_jobs = False

    def __init__(
        self,
        logger: str = "promoter.metrics",
        level: str = "info",
        format: str = "text",
        every_s: str = "1",
        *,
        clock: Clock | None = None,
    ) -> None:
        self._lines = _Lines(logger, level, format)
        self._clock = clock or SystemClock()
        self._every_s = sink_options.number("logging sink", "every_s", every_s, 0, MOST)
        self._sums: dict[str, _Sum] = {}

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, s = tick.promotion, self._sums.setdefault(queue, _Sum())
        if p.promoted or p.malformed or p.held_back:
            s.promoted += p.promoted
            s.malformed += p.malformed
            s.ticks += 1
            s.tick_ms = max(s.tick_ms, tick.duration_s * 1000)
        s.held_back, s.depth, s.lag_ms = p.held_back, p.depth, p.oldest_pending_lag_ms
        if s.ticks and self._may(s.line_s):
            self._tick_line(queue, s)
            self._sums[queue] = _Sum(self._clock.monotonic(), errors=s.errors, errors_s=s.errors_s)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        self._lines.write("lock", "queue {queue!r}: lock {outcome}", queue=queue, outcome=outcome.value)

    def on_error(self, queue: str, error: BackendError) -> None:
        s = self._sums.setdefault(queue, _Sum())
        s.errors[error.code] = s.errors.get(error.code, 0) + 1
        if self._may(s.errors_s):
            self._error_line(queue, s)
            s.errors, s.errors_s = {}, self._clock.monotonic()

    def on_forget(self, queue: str) -> None:
        """Log what has not been logged yet."""
        s = self._sums.pop(queue, _Sum())
        if s.ticks:
            self._tick_line(queue, s)
        if s.errors:
            self._error_line(queue, s)

    def _tick_line(self, queue: str, s: _Sum) -> None:
        self._lines.write(
            "ticks",
            "queue {queue!r}: promoted {promoted}, malformed {malformed}, held back {held_back}, "
            "depth {depth}, lag {lag_ms} ms, in {ticks} ticks of up to {tick_ms} ms",
            queue=queue,
            promoted=s.promoted,
            malformed=s.malformed,
            held_back=s.held_back,
            depth=s.depth,
            lag_ms=s.lag_ms,
            ticks=s.ticks,
            tick_ms=round(s.tick_ms, 1),
        )

    def _error_line(self, queue: str, s: _Sum) -> None:
        codes = ", ".join(code if n == 1 else f"{n} × {code}" for code, n in s.errors.items())
        text = "queue {queue!r}: error" + ("" if sum(s.errors.values()) == 1 else "s") + f" {_literal(codes)}"
        self._lines.write("errors", text, warning=True, queue=queue, errors=s.errors)

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        """Do nothing: the core logs it already."""

    def _may(self, last_s: float | None) -> bool:
        return last_s is None or self._clock.monotonic() - last_s >= self._every_s


def _literal(text: str) -> str:
    """Escape text for a format string."""
    return text.replace("{", "{{").replace("}", "}}")
