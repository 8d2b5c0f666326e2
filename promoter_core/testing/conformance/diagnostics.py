"""DiagnosticsSupport: the findings of a diagnosis, and that it leaves nothing behind. Skipped if it is not offered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from promoter_core.spi import DiagnosticsSupport, Severity
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.phases import StoredNames

DIAGNOSE = "DiagnosticsSupport.diagnose"
NOTHING = "Leaves nothing behind."


class DiagnosticsContract(ContractBase):
    @pytest.fixture
    def examined(self, kit: Kit) -> Any:
        needs_support(kit, DiagnosticsSupport)
        return kit.backend

    async def test_a_finding_that_is_not_ok_says_what_to_do(self, examined: Any) -> None:
        findings = await examined.diagnose()  # checks the shape as well
        silent = [f for f in findings if f.severity is not Severity.OK and not f.advice.strip()]
        obliges(DIAGNOSE, "and give advice.", not silent, silent=silent)

    async def test_a_diagnosis_leaves_a_queue_as_it_is(self, examined: Any, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a")
        await kit.promote(lease)
        await kit.due("b")
        await kit.schedule("far", unique=True)
        before = await self._state(kit)
        await asyncio.gather(examined.diagnose(), examined.diagnose())
        after = await self._state(kit)
        obliges(DIAGNOSE, NOTHING, before == after, before=before, after=after)
        p = await kit.promote(lease)
        obliges(DIAGNOSE, NOTHING, [job.id for job in p.jobs] == ["b"], promotion=p)

    async def test_a_diagnosis_leaves_nothing_behind(self, examined: Any, kit: Kit, stored_names: StoredNames) -> None:
        await kit.schedule("a", unique=True)
        await kit.lead()
        before = set(await stored_names())
        await asyncio.gather(examined.diagnose(), examined.diagnose())
        after = set(await stored_names())
        obliges(DIAGNOSE, NOTHING, after <= before, left_behind=sorted(after - before))
        gone = [name for name in before - after if kit.queue in name]
        obliges(DIAGNOSE, NOTHING, not gone, gone=gone)

    @staticmethod
    async def _state(kit: Kit) -> Any:
        s = await kit.backend.stats(kit.queue)
        counts = (s.depth, s.due, s.stream_len, s.events_len, s.dlq_len, s.holder, s.next_due_ms)
        return counts, await kit.arrived(), await kit.events()
