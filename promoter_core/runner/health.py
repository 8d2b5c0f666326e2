"""`Health` of one queue, and when a queue counts as not ready."""

from __future__ import annotations

from dataclasses import dataclass

from promoter_core.settings import PromoterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one queue is served, for a liveness or readiness check."""

    queue: str
    state: str  # "follower", "leader", "releasing" or "stopped"
    leads: bool
    last_tick_age_s: float | None  # since the last good tick; None before the first
    led_age_s: float | None  # since it was last seen to be led, by us or by another; None before that
    last_error: str | None  # None once a later step has gone well
    holder: str | None = None  # who leads, us or another, as last seen; None when nobody is known to
    stuck_s: float | None = None  # for how long jobs have been seen overdue, and not promoted, under another's lead


def not_served(health: Health, s: PromoterSettings) -> list[str]:
    """Why the queue counts as not served: nobody was seen to lead it, or another leads and its jobs do not move."""
    bound_s = served_within_s(s)
    if health.stuck_s is not None and health.stuck_s > bound_s:
        return [f"queue {health.queue!r}: overdue for {health.stuck_s:.1f} s while {health.holder or 'another'} leads"]
    if health.led_age_s is not None and health.led_age_s <= bound_s:
        return []
    seen = "never seen to be led" if health.led_age_s is None else f"not seen to be led for {health.led_age_s:.1f} s"
    return [f"queue {health.queue!r}: {seen}" + (f" ({health.last_error})" if health.last_error else "")]


def served_within_s(s: PromoterSettings) -> float:
    """In what time a queue that is served was seen to be led: two leases, or two looks at the lock."""
    return 2 * max(s.lock_ttl_ms, s.follower_poll_ms) / 1000
