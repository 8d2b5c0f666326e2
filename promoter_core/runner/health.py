"""`Health` of one queue, and when a queue counts as not ready."""

from __future__ import annotations

from dataclasses import dataclass

from promoter_core.settings import PromoterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of one queue, for a liveness or readiness check."""

    queue: str
    state: str  # "follower", "leader", "releasing" or "stopped"
    leads: bool
    last_tick_age_s: float | None  # since the last successful tick; None before the first
    led_age_s: float | None  # since any promoter was last seen leading it; None before that
    last_error: str | None  # None once a later step has succeeded
    holder: str | None = None  # the leader last seen, this or another promoter; None when unknown
    stuck_s: float | None = None  # how long jobs have been overdue and not promoted, while another leads


def not_served(health: Health, s: PromoterSettings) -> list[str]:
    """Return why the queue counts as not served: no leader was seen, or another leads and its jobs do not move."""
    bound_s = served_within_s(s)
    if health.stuck_s is not None and health.stuck_s > bound_s:
        return [f"queue {health.queue!r}: overdue for {health.stuck_s:.1f} s while {health.holder or 'another'} leads"]
    if health.led_age_s is not None and health.led_age_s <= bound_s:
        return []
    seen = "never seen to be led" if health.led_age_s is None else f"not seen to be led for {health.led_age_s:.1f} s"
    return [f"queue {health.queue!r}: {seen}" + (f" ({health.last_error})" if health.last_error else "")]


def served_within_s(s: PromoterSettings) -> float:
    """Return how recently a served queue was seen to be led: two leases, or two checks of the lock, in seconds."""
    return 2 * max(s.lock_ttl_ms, s.follower_poll_ms) / 1000
