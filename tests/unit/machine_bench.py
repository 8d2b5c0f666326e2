"""A machine on the bench: told outcomes, asked what it does."""

from __future__ import annotations

from typing import Any, Self, cast

import pytest

from promoter_core import PermanentError, PromoterSettings, TransientError
from promoter_core.engine.actions import Action, Decision, Outcome, Promote, Wait
from promoter_core.engine.machine import Machine
from promoter_core.spi import Lease, Phase, PromotedJob, Promotion, PromotionRequest, Tick

FUSED = frozenset({Phase.CLEANUP, Phase.EMIT})
LEASE = Lease("q", "me", 6_000)
JOB = PromotedJob("a", "", due_ms=1_000, promoted_ms=1_001, stream_id="1001-0")
LOST_TOUCH = TransientError("gone", code="CONNECTION")
REFUSED = PermanentError("no", code="NOPERM")


class Bench:
    """A machine and the time, with what it has said so far."""

    def __init__(self, *, fused: frozenset[Phase] = FUSED, **options: Any) -> None:
        settings: dict[str, Any] = {
            "lock_ttl_ms": 6_000,
            "promote_batch": 10,
            "max_tick_ms": 0,  # the batch stays what it is
            "follower_poll_ms": 2_000,
        }
        known = {k: options.pop(k) for k in list(options) if k not in ("want_jobs", "until_idle", "in_fleet")}
        self.machine = Machine(
            "q", "me", PromoterSettings(**settings | known), fused=fused, jitter=lambda: 0.0, **options
        )
        self.now_s = 100.0
        self.decision: Decision = self.machine.start(self.now_s)

    @property
    def action(self) -> Action:
        return self.decision.action

    @property
    def request(self) -> PromotionRequest:
        assert isinstance(self.action, Promote)
        return self.action.request

    @property
    def wait(self) -> Wait:
        assert isinstance(self.action, Wait)
        return self.action

    def then(self, outcome: Outcome, after_s: float = 0.0, *, poll_s: float | None = None) -> Self:
        self.now_s += after_s
        self.decision = self.machine.handle(outcome, self.now_s, poll_s)
        return self

    def leads(self, promotion: Promotion | None = None) -> Self:
        """Win the lock; with a promotion, have the first tick give it."""
        self.then(LEASE)
        return self.then(promotion) if promotion else self


def about(seconds: float) -> float:
    """Equal to what is nearly that."""
    return cast("float", pytest.approx(seconds))


def tick_of(decision: Decision) -> Promotion:
    (tick,) = [r for r in decision.reports if isinstance(r, Tick)]
    return tick.promotion
