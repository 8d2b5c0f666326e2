"""ManagementSupport: waiting jobs are seen, counted and changed."""

from __future__ import annotations

from promoter_core.spi import JobOutcome, JobQuery, ManagementSupport, Reschedule
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, Kit
from promoter_core.testing.conformance.obligations import obliges


class ManagementContract(ContractBase):
    async def test_a_job_is_found_by_its_id(self, kit: Kit) -> None:
        needs_support(kit, ManagementSupport)
        await kit.schedule("a", unique=True, name="mail", due_ms=4_000_000_000_000)
        found, none = await kit.backend.get_jobs(kit.queue, ["a", "b"])
        rule = "The waiting jobs with these ids, with all details; None for an id with which none waits."
        obliges("ManagementSupport.get_jobs", rule, none is None, answer=none)
        seen = found and (found.id, found.name, found.due_ms, found.unique)
        obliges("ManagementSupport.get_jobs", rule, seen == ("a", "mail", 4_000_000_000_000, True), answer=found)

    async def test_pages_hold_each_job_once_and_in_order(self, kit: Kit) -> None:
        needs_support(kit, ManagementSupport)
        ids = [f"j{i:02}" for i in range(25)]
        for i, id in enumerate(ids):
            await kit.schedule(id, due_ms=4_000_000_000_000 + i)
        seen: list[str | None] = []
        query = JobQuery(limit=10)
        while True:
            page = await kit.backend.list_jobs(kit.queue, query)
            seen += [job.id for job in page.jobs]
            if not page.cursor:
                break
            query = JobQuery(limit=10, after=page.cursor)
        rule = "A page of the waiting jobs, in the order in which they are promoted"
        obliges("ManagementSupport.list_jobs", rule, seen == ids, listed=seen)

    async def test_a_job_is_moved_to_another_due_time(self, kit: Kit) -> None:
        needs_support(kit, ManagementSupport)
        await kit.schedule("a", unique=True, delay_ms=LONG_MS)
        change = Reschedule(job="a", due_ms=4_000_000_000_000)
        outcomes = await kit.backend.change_jobs(kit.queue, [change, Reschedule(job="b", delay_ms=0)])
        rule = "Carry out changes, each atomic for itself and against `promote`; outcomes in the order asked."
        expected = [JobOutcome.MOVED, JobOutcome.NOT_FOUND]
        obliges("ManagementSupport.change_jobs", rule, list(outcomes) == expected, outcomes=outcomes)
        before, after = await kit.backend.count_jobs(kit.queue, [4_000_000_000_000, 4_000_000_000_001])
        counted = "How many jobs are due before each of these times"
        obliges("ManagementSupport.count_jobs", counted, (before, after) == (0, 1), counts=(before, after))
