"""`Backoff`: how long a failed job waits before it runs again, and how often it can run."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta

from promoter_core.client.requests import Delay
from promoter_core.spi.errors import ConfigError
from promoter_core.spi.wire import RetryOverrides

MAX_DELAY_S = 366 * 86_400
MAX_FACTOR = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a job waits before each retry. Create one with `Backoff.fixed` or `Backoff.exponential`.

    The delay before retry `n`, counted from 1, is `first_s * factor ** (n - 1)` seconds, at most `max_s`, plus a random
    time below `jitter_s`, so that jobs that failed together do not retry together. `max_attempts` counts all runs,
    including the first; None: no limit.
    """

    first_s: float
    factor: float = 1.0
    max_s: float = MAX_DELAY_S
    jitter_s: float = 0.0
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        for name, value, low, high in (
            ("the first delay", self.first_s, 0.0, MAX_DELAY_S),
            ("factor", self.factor, 0.0, MAX_FACTOR),
            ("max", self.max_s, 0.0, MAX_DELAY_S),
            ("jitter", self.jitter_s, 0.0, MAX_DELAY_S),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{name} of a back-off must be a number, not {type(value).__name__}")
            if not low <= value <= high:  # false for NaN as well
                raise ConfigError(f"{name} of a back-off is {value}: it must be from {low:g} to {high:g}")
        most = self.max_attempts
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigError(f"max_attempts must be a whole number from 1, or None, not {most!r:.60}")

    @classmethod
    def fixed(cls, delay: Delay, *, jitter: Delay = 0, max_attempts: int | None = None) -> Backoff:
        """Wait the same time before each retry: a timedelta or seconds. Raises ConfigError."""
        return cls(first_s=_seconds(delay), jitter_s=_seconds(jitter), max_attempts=max_attempts)

    @classmethod
    def exponential(
        cls,
        first: Delay,
        factor: float = 2,
        *,
        max: Delay = 3600,
        jitter: Delay = 0,
        max_attempts: int | None = None,
    ) -> Backoff:
        """Wait `first` before the first retry, and `factor` times as long before each next one, up to `max`.

        Times are timedeltas or seconds. Raises ConfigError.
        """
        return cls(
            first_s=_seconds(first),
            factor=factor,
            max_s=_seconds(max),
            jitter_s=_seconds(jitter),
            max_attempts=max_attempts,
        )

    def delay_s(self, attempt: int) -> float:
        """Return the seconds to wait before retry `attempt`, counted from 1. Varies between calls, with jitter."""
        try:
            base = self.first_s * float(self.factor) ** max(attempt - 1, 0)  # a float, because an int could become huge
        except OverflowError:
            base = self.max_s if self.first_s else 0.0
        return min(base, self.max_s) + random.uniform(0, self.jitter_s)  # noqa: S311  # no secret depends on it

    def overridden(self, retry: RetryOverrides | None) -> Backoff:
        """Return this back-off with the overrides of a job, as ChasquiMQ's workers apply them."""
        if retry is None:
            return self
        most = self.max_attempts
        if retry.max_attempts is not None:
            most = max(retry.max_attempts, 1)  # 0 counts as 1: a job that fails has run
        if retry.kind is None or retry.delay_ms is None:
            return replace(self, max_attempts=most)
        factor = self.factor if retry.multiplier is None else min(retry.multiplier, MAX_FACTOR)
        return Backoff(
            first_s=_within(retry.delay_ms, 0.0),
            factor=1.0 if retry.kind == "fixed" else factor,
            max_s=_within(retry.max_delay_ms, self.max_s),
            jitter_s=_within(retry.jitter_ms, self.jitter_s),
            max_attempts=most,
        )


# The default of ChasquiMQ's worker for a job without a back-off.
WORKERS_DEFAULT = Backoff(first_s=0.1, factor=2.0, max_s=30.0, jitter_s=0.1, max_attempts=25)


def _seconds(value: Delay) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _within(ms: int | None, otherwise_s: float) -> float:
    return otherwise_s if ms is None else min(ms / 1000, float(MAX_DELAY_S))
