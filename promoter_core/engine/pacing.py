"""Decides when the machine acts again: by the lease on the local clock, after errors, and during repeated wakes."""

from __future__ import annotations

from collections.abc import Callable

from promoter_core.engine.actions import Reason, Wait
from promoter_core.settings import PromoterSettings
from promoter_core.spi.model import ChangeKind

BACKOFF_MS = (50, 100, 200, 400)  # the last one repeats
DEBOUNCE_MS = (2, 4, 8, 10)  # the pause after a wake that found nothing due
MIN_WAIT_S = 0.001  # the store's clock has a resolution of 1 ms, so an earlier look finds nothing new


class LeaseTimer:
    """The lease, counted from its request: the store started counting no earlier."""

    __slots__ = ("_ttl_s", "_used", "deadline_s", "renew_s")

    def __init__(self, ttl_ms: int, *, used: float = 1 / 3) -> None:
        """Renewal is due once this part of the lease is `used`."""
        self.deadline_s = 0.0  # when the lease ends, unless it is renewed
        self.renew_s = 0.0
        self._ttl_s = ttl_ms / 1000
        self._used = used

    def began(self, asked_s: float) -> None:
        self.deadline_s = asked_s + self._ttl_s
        self.renew_s = asked_s + self._ttl_s * self._used

    def ended(self, now_s: float) -> bool:
        return now_s >= self.deadline_s

    def wants_renewal(self, now_s: float) -> bool:
        return now_s >= self.renew_s - MIN_WAIT_S


class Backoff:
    """Pauses after successive transient errors, lengthened by up to a tenth by `jitter` (0 to 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_s(self) -> float:
        pause_ms = BACKOFF_MS[min(self._failures, len(BACKOFF_MS) - 1)]
        self._failures += 1
        return pause_ms / 1000 * (1 + 0.1 * self._jitter())


class Debounce:
    """Pauses after wakes that found nothing due. They grow while wakes continue."""

    def __init__(self) -> None:
        self._last: int | None = None  # index into DEBOUNCE_MS

    def reset(self) -> None:
        self._last = None

    def next_s(self) -> float:
        self._last = 0 if self._last is None else min(self._last + 1, len(DEBOUNCE_MS) - 1)
        return DEBOUNCE_MS[self._last] / 1000


def leader_rest(
    s: PromoterSettings, *, held_back: bool, next_due_s: float | None, renew_s: float, poll_s: float | None
) -> tuple[float, Reason]:
    """Return the seconds until the next due time or the lease's renewal, whichever comes first, and which it is.

    `next_due_s` and `renew_s` are seconds from now. `poll_s` is the poll interval for backends that cannot report every
    change.
    """
    seconds, reason = renew_s, Reason.RENEW
    if held_back:
        if s.poll_interval_ms / 1000 < seconds:
            seconds, reason = s.poll_interval_ms / 1000, Reason.FULL
    elif next_due_s is not None and next_due_s < seconds:
        seconds, reason = next_due_s, Reason.NEXT_DUE
    if poll_s is not None and poll_s < seconds:
        seconds, reason = poll_s, Reason.POLL
    return (seconds if seconds > MIN_WAIT_S else MIN_WAIT_S), reason


def follower_wait(s: PromoterSettings, remaining_ms: int | None, poll_s: float | None) -> Wait:
    """Return the seconds until the other lease can expire, at most a follower's check interval."""
    wait_ms: float = s.follower_poll_ms
    reason = Reason.POLL
    if poll_s is not None:
        wait_ms = min(wait_ms, poll_s * 1000)
    if remaining_ms is not None and remaining_ms < wait_ms:
        wait_ms, reason = remaining_ms, Reason.HELD
    return Wait(max(wait_ms / 1000, 0) + MIN_WAIT_S, reason, ChangeKind.LOCK)
