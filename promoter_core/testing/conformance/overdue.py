"""Jobs that wait long after their due time, without a promoter or without room, are known as long as they wait.

Needs the fixture `leap`, which advances the store's time by hours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from promoter_core.spi import JobOutcome
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit
from promoter_core.testing.conformance.obligations import obliges

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
REFUSED = "while a unique job with this id waits, for however long, a repeat changes nothing"
REMEMBERED = "The same holds for `keep_id_ms` after the due time, and after a late promotion. It may end a minute early"

Leap = Callable[[str, int], Awaitable[None]]


class OverdueContract(ContractBase):
    async def test_a_job_that_has_waited_for_hours_can_be_cancelled(self, kit: Kit, leap: Leap) -> None:
        await kit.schedule("a", "b", unique=True, delay_ms=SOON_MS)
        await kit.schedule("c", delay_ms=SOON_MS)
        await kit.schedule("plain", delay_ms=SOON_MS, index=False)
        await leap(kit.queue, 3 * HOUR_MS)
        outcomes = await kit.backend.cancel(kit.queue, ["a", "never", "c", "plain"])
        expected = [JobOutcome.NOT_FOUND if i == 1 else JobOutcome.REMOVED for i in range(4)]
        rule = "the job was waiting, for however long."
        obliges("Backend.cancel", rule, list(outcomes) == expected, outcomes=outcomes)
        p = await kit.promote(await kit.lead())
        obliges("Backend.cancel", "will never be promoted", await kit.arrived() == ["b"], promotion=p)
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.cancel", "its id is free again", again.created is True, again=again)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_the_id_of_a_job_that_waits_is_taken_however_long(self, kit: Kit, leap: Leap, index: bool) -> None:
        await kit.schedule("a", unique=True, delay_ms=SOON_MS, index=index)
        for hours in (1, 2, 40):
            await leap(kit.queue, hours * HOUR_MS)
            (again,) = await kit.schedule("a", unique=True, delay_ms=LONG_MS, index=index)
            obliges("Backend.schedule", REFUSED, again.created is False, hours=hours, again=again)
        (other,) = await kit.schedule("b", unique=True, delay_ms=LONG_MS)
        obliges("Backend.schedule", REFUSED, other.created is True, other=other)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", REFUSED, (stats.depth, stats.due) == (2, 1), stats=stats)

    @pytest.mark.parametrize("late_ms", [0, 30 * MINUTE_MS, 3 * HOUR_MS], ids=["on time", "late", "hours late"])
    async def test_an_id_is_remembered_for_an_hour_after_the_promotion(
        self, kit: Kit, leap: Leap, late_ms: int
    ) -> None:
        await kit.schedule("a", unique=True, delay_ms=SOON_MS)
        await leap(kit.queue, SOON_MS + 10 + late_ms)
        p = await kit.promote(await kit.lead())
        obliges("Backend.schedule", REMEMBERED, p.promoted == 1, promotion=p)
        await leap(kit.queue, 55 * MINUTE_MS)
        (again,) = await kit.schedule("a", unique=True, delay_ms=LONG_MS)
        obliges("Backend.schedule", REMEMBERED, again.created is False, again=again)
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        gone = outcome is JobOutcome.ALREADY_PROMOTED
        obliges("Backend.cancel", "ALREADY_PROMOTED: the job is not waiting", gone, outcome=outcome)
        await leap(kit.queue, 10 * MINUTE_MS)
        (again,) = await kit.schedule("a", unique=True, delay_ms=LONG_MS)
        obliges("Backend.schedule", REMEMBERED, again.created is True, again=again)
