"""Pages of waiting jobs while the set changes: cursors stay valid after promotions, cancellations and moves.

`ManagementSupport.list_jobs` must return each job that waits throughout on exactly one page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from promoter_core.spi import JobPage, Lease, Remove, Replace, Reschedule, RunNow
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import Kit, job
from promoter_core.testing.conformance.interleaving import STEPS, meet
from promoter_core.testing.conformance.managed import FAR_MS, MOST_PAGES, Managed, ManagedFixtures, TwoManaged
from promoter_core.testing.conformance.obligations import obliges

LIST = "ManagementSupport.list_jobs"
ONCE = "A job that waits throughout and keeps its due time is on exactly one page."
GONE = "A job that is promoted or cancelled meanwhile can be on one or none, and a moved one even on two."
BEHIND = "A cursor continues after the last job that was read, even if that job no longer waits."
ANYWHERE = "Cursors are opaque text, valid for the same queue and the same query, in any process."
TIES = 230  # more than a page, a chunk, or an internal node of any store

Between = Callable[[JobPage], Awaitable[object]]


class PagingContract(ManagedFixtures, ContractBase):
    @pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
    @pytest.mark.parametrize("by", ["cancel", "remove", "move later", "move earlier", "run now", "replace"])
    async def test_what_goes_between_two_pages_hides_no_other(self, managed: Managed, by: str, reverse: bool) -> None:
        """This includes the cursor's own job, among jobs with the same due time."""
        ids = [f"j{i:03}" for i in range(TIES)]
        await managed.schedule(*ids, due_ms=FAR_MS)
        gone: set[str] = set()

        async def between(page: JobPage) -> None:
            those = [str(j.id) for j in page.jobs[-3:] if j.id not in gone]
            gone.update(those)
            if by == "cancel":
                await managed.cancel(*those)
                return
            for id in those:
                change: Any = {
                    "remove": Remove(job=id),
                    "move later": Reschedule(job=id, due_ms=FAR_MS + 1),
                    "move earlier": Reschedule(job=id, due_ms=FAR_MS - 1),
                    "run now": RunNow(job=id, events=False),
                    "replace": Replace(request=job(id, payload=b"new", due_ms=FAR_MS + 5)),
                }[by]
                await managed.change(change)

        seen = await self._pages(managed, between, limit=10, reverse=reverse)
        counts = Counter(seen)
        stayed = [id for id in ids if id not in gone]
        wrong = {id: counts[id] for id in stayed if counts[id] != 1}
        obliges(LIST, ONCE, not wrong, went_by=by, times_on_a_page=wrong)
        wrong = {
            id: counts[id] for id in gone if counts[id] > (2 if by in ("move later", "move earlier", "replace") else 1)
        }
        obliges(LIST, GONE, not wrong, went_by=by, times_on_a_page=wrong)

    async def test_what_goes_before_its_page_hides_no_other(self, managed: Managed) -> None:
        """A cursor that is an offset skips as many jobs as were removed."""
        ids = [f"j{i:03}" for i in range(60)]
        for i, id in enumerate(ids):
            await managed.schedule(id, due_ms=FAR_MS + i)
        left = list(ids)

        async def between(page: JobPage) -> None:
            for id in {left[0], left[len(left) // 2], left[-1]}:
                left.remove(id)
                await managed.cancel(id)

        for reverse in (False, True):
            before = list(left)
            counts = Counter(await self._pages(managed, between, limit=9, reverse=reverse))
            wrong = {id: counts[id] for id in left if counts[id] != 1}
            obliges(LIST, ONCE, not wrong, reverse=reverse, times_on_a_page=wrong)
            wrong = {id: n for id, n in counts.items() if n > 1 or id not in before}
            obliges(LIST, GONE, not wrong, reverse=reverse, times_on_a_page=wrong)

    async def test_jobs_that_come_in_between_hide_no_other(self, managed: Managed) -> None:
        """Jobs are added before the cursor, after it, and at its due time."""
        ids = [f"j{i:03}" for i in range(0, 90, 2)]
        await managed.backend.schedule(managed.queue, [job(id, due_ms=FAR_MS + i // 15) for i, id in enumerate(ids)])
        for reverse in (False, True):
            added: set[str] = set()

            async def between(page: JobPage, added: set[str] = added, reverse: bool = reverse) -> None:
                last = page.jobs[-1] if page.jobs else None
                if last is None or last.due_ms is None:
                    return
                n = len(added)
                for i, ms in enumerate((FAR_MS - 1, last.due_ms - 1, last.due_ms, last.due_ms + 1, FAR_MS + 100)):
                    if n < 100:
                        added.add(f"new-{reverse}-{n + i:03}")
                        await managed.schedule(f"new-{reverse}-{n + i:03}", due_ms=ms)

            counts = Counter(await self._pages(managed, between, limit=4, reverse=reverse))
            wrong = {id: counts[id] for id in ids if counts[id] != 1}
            obliges(LIST, ONCE, not wrong, reverse=reverse, times_on_a_page=wrong)
            wrong = {id: counts[id] for id in added if counts[id] > 1}
            obliges(LIST, GONE, not wrong, reverse=reverse, came_in_between=len(added), times_on_a_page=wrong)
            await managed.cancel(*added)

    async def test_promotions_in_between_hide_no_job(self, managed: Managed) -> None:
        ids = [f"due-{i}" for i in range(40)]
        await managed.due(*ids, index=False)
        await managed.schedule(*(f"far-{i}" for i in range(40)), due_ms=FAR_MS)
        lease = await managed.lead()

        async def between(page: JobPage) -> None:
            await managed.promote(lease, limit=7)

        counts = Counter(await self._pages(managed, between, limit=6))
        wrong = {id: counts[id] for id in (f"far-{i}" for i in range(40)) if counts[id] != 1}
        obliges(LIST, ONCE, not wrong, times_on_a_page=wrong)
        wrong = {id: counts[id] for id in ids if counts[id] > 1}
        obliges(LIST, GONE, not wrong, promoted_in_between=True, times_on_a_page=wrong)

    @pytest.mark.parametrize("query", [{}, {"reverse": True}, {"name": "n"}, {"due_from_ms": FAR_MS + 1}], ids=str)
    async def test_a_cursor_goes_on_when_all_that_was_seen_has_gone(self, managed: Managed, query: Any) -> None:
        requests = [job(f"j{i:03}", due_ms=FAR_MS + i // 20, name="n" if i % 3 else "") for i in range(100)]
        await managed.backend.schedule(managed.queue, requests)
        expected = await managed.listed(**query)
        page = await managed.page(**query, limit=33)
        for _ in range(MOST_PAGES):  # a page may be empty
            if page.jobs or not page.cursor:
                break
            page = await managed.page(**query, limit=33, after=page.cursor)
        first = [j.id for j in page.jobs]
        await managed.cancel(*map(str, first))
        rest = await managed.listed(**query, limit=33, after=page.cursor) if page.cursor else []
        obliges(LIST, BEHIND, first + rest == expected, query=query, first=first, rest=rest, expected=expected)

    async def test_a_cursor_can_be_used_again(self, managed: Managed) -> None:
        await managed.schedule(*(f"j{i}" for i in range(20)), due_ms=FAR_MS)
        page = await managed.page(limit=5)
        twice = [await managed.listed(limit=5, after=page.cursor) for _ in range(2)] if page.cursor else []
        ok = bool(twice) and twice[0] == twice[1] and len(twice[0]) + len(page.jobs) == 20
        obliges(LIST, BEHIND, ok, first=page, the_rest_twice=twice)

    async def test_a_cursor_is_good_in_any_process(self, two_managed: TwoManaged) -> None:
        for query in ({}, {"reverse": True}, {"name": "n", "due_to_ms": FAR_MS + 2}):
            mine, theirs = two_managed()
            requests = [job(f"j{i:03}", due_ms=FAR_MS + i // 20, name="n" if i % 3 else "") for i in range(50)]
            await mine.backend.schedule(mine.queue, requests)
            expected = await mine.listed(**query)
            listed: list[Any] = []
            after = ""
            for n in range(MOST_PAGES):
                page = await (mine, theirs)[n % 2].page(**query, limit=7, after=after)
                listed += [j.id for j in page.jobs]
                if not (after := page.cursor):
                    break
            obliges(LIST, ANYWHERE, listed == expected, query=query, listed_in_turns=listed, expected=expected)

    async def test_a_page_is_not_torn_by_another_process(self, two_managed: TwoManaged) -> None:
        ids = [f"j{i:02}" for i in range(20)]
        for step in STEPS:
            mine, theirs = two_managed()
            await mine.schedule(*ids, due_ms=FAR_MS, name="n", unique=True, traceparent=f"00-{3:032x}-{3:016x}-01")

            async def work(theirs: Managed = theirs) -> Any:
                await theirs.change(
                    Remove(job="j05"), RunNow(job="j06"), Reschedule(job="j07", due_ms=FAR_MS + 1), Remove(job="j19")
                )

            page, _, held = await meet(mine.page(limit=20, want_details=True), step, work())
            counts = Counter([str(j.id) for j in page.jobs])
            stayed = [id for id in ids if id not in ("j05", "j06", "j07", "j19")]
            wrong = {id: counts[id] for id in stayed if counts[id] != 1 and not page.cursor}
            obliges(LIST, ONCE, not wrong, times_on_a_page=wrong, held_at_step=step)
            odd = [j for j in page.jobs if j.name != "n" or j.due_ms not in (FAR_MS, FAR_MS + 1)]
            obliges(LIST, "Return a page of the waiting jobs", not odd, odd=odd, held_at_step=step)
            halves = [j for j in page.jobs if j.id in stayed and (j.unique, j.keep_id_ms) != (True, 3_600_000)]
            obliges(LIST, "Return a page of the waiting jobs", not halves, odd=halves, held_at_step=step)
            if not held:
                break

    async def test_counts_are_of_one_moment(self, two_managed: TwoManaged) -> None:
        for step in STEPS:
            mine, theirs = two_managed()
            await mine.schedule(*"abcdef", due_ms=FAR_MS)

            async def work(theirs: Managed = theirs) -> None:
                await theirs.change(Reschedule(job="a", due_ms=FAR_MS - 10))
                await theirs.schedule("new", due_ms=FAR_MS - 10)
                await theirs.change(Remove(job="b"))

            bounds = [FAR_MS + 1, FAR_MS, FAR_MS + 1, FAR_MS]
            counts, _, held = await meet(mine.backend.count_jobs(mine.queue, bounds), step, work())
            ok = tuple(counts) in {(6, 0, 6, 0), (6, 1, 6, 1), (7, 2, 7, 2), (6, 2, 6, 2)}
            obliges("ManagementSupport.count_jobs", "all at one moment", ok, counts=counts, held_at_step=step)
            if not held:
                break

    async def test_a_job_that_is_looked_up_is_of_one_moment(self, two_managed: TwoManaged) -> None:
        """The details must not belong to the job that replaced the one with this envelope."""
        for step in STEPS:
            mine, theirs = two_managed()
            old = job("a", payload=b"old", due_ms=FAR_MS, name="old", unique=True, keep_id_ms=0)
            new = job("a", payload=b"new", due_ms=FAR_MS + 1, name="new", unique=True, keep_id_ms=86_400_000)
            await mine.backend.schedule(mine.queue, [old])
            (found,), _, held = await meet(
                mine.backend.get_jobs(mine.queue, ["a"]), step, theirs.change(Replace(request=new))
            )
            seen = found and (found.envelope, found.name, found.due_ms, found.unique, found.keep_id_ms)
            both = [(r.envelope, r.name, r.due_ms, r.unique, r.keep_id_ms) for r in (old, new)]
            rule = "Return the waiting jobs with these ids, with all details"
            obliges("ManagementSupport.get_jobs", rule, seen in both, found=found, held_at_step=step)
            if not held:
                break

    async def test_promotion_and_pages_go_on_at_once(self, two_managed: TwoManaged) -> None:
        """A leader in one process drains the queue while another process lists it."""
        mine, theirs = two_managed()
        await theirs.due(*(f"due-{i}" for i in range(30)))
        await theirs.schedule(*(f"far-{i:02}" for i in range(30)), due_ms=FAR_MS)
        lease = await theirs.lead()

        async def between(page: JobPage, lease: Lease = lease, theirs: Kit = theirs) -> None:
            await theirs.promote(lease, limit=4)

        counts = Counter(await self._pages(mine, between, limit=3))
        wrong = {id: counts[id] for id in (f"far-{i:02}" for i in range(30)) if counts[id] != 1}
        obliges(LIST, ONCE, not wrong, times_on_a_page=wrong)

    @staticmethod
    async def _pages(managed: Managed, between: Between, **query: Any) -> Sequence[str]:
        """Return the ids on all pages, calling `between` after each page except the last."""
        ids: list[str] = []
        after = ""
        for _ in range(MOST_PAGES):
            page = await managed.page(**query, after=after)
            ids += [str(j.id) for j in page.jobs]
            if not (after := page.cursor):
                return ids
            await between(page)
        obliges(LIST, "so that the cursors come to an end.", False, pages=MOST_PAGES, query=query)
        raise AssertionError
