"""ManagementSupport: waiting jobs are found by id, counted and listed. Cursors: paging.py, changes: changes.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from promoter_core.spi import (
    KEEP_ID_MS,
    MAX_DUE_MS,
    BackendError,
    JobOutcome,
    JobQuery,
    ManagementSupport,
    PermanentError,
    Remove,
    Reschedule,
    RunNow,
    StreamName,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, job
from promoter_core.testing.conformance.managed import FAR_MS, FOUND, Managed, ManagedFixtures, payload_of
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.text import IDS, NAMES

GET, LIST, COUNT = (f"ManagementSupport.{name}" for name in ("get_jobs", "list_jobs", "count_jobs"))
IN_ORDER = "Return a page of the waiting jobs, in promotion order"
COUNTED = "Count the jobs due before each of these times, all at one moment. Times can be in any order."
TRACE = f"00-{7:032x}-{7:016x}-01"
STATE = "vendor=1"
MANY = 250  # more than a chunk

Add = Callable[..., Awaitable[None]]


class ManagementContract(ManagedFixtures, ContractBase):
    async def test_a_job_is_found_by_its_id(self, kit: Kit) -> None:
        needs_support(kit, ManagementSupport)
        await kit.schedule("a", unique=True, name="mail", due_ms=FAR_MS)
        found, none, again = await kit.backend.get_jobs(kit.queue, ["a", "b", "a"])
        obliges(GET, FOUND, none is None and found == again, answer=(found, none, again))
        seen = found and (found.id, found.name, found.envelope, found.due_ms, found.unique, found.malformed)
        right = ("a", "mail", job("a").envelope, FAR_MS, True, False)
        obliges(GET, FOUND, seen == right, expected=right, answer=found)
        answers = await kit.backend.get_jobs(kit.queue, [])
        obliges(GET, FOUND, list(answers) == [], ids=[], answers=answers)
        (elsewhere,) = await kit.backend.get_jobs(kit.other().queue, ["a"])
        obliges("Backend", "Queues never see one another.", elsewhere is None, answer=elsewhere)

    @pytest.mark.parametrize("how", ["get_jobs", "list_jobs"])
    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_all_details_are_shown(self, managed: Managed, how: str, index: bool) -> None:
        keeps = {"hour": KEEP_ID_MS, "none": 0, "day": 86_400_000}
        for id, keep_id_ms in keeps.items():
            fields: dict[str, Any] = {"unique": True, "keep_id_ms": keep_id_ms, "name": f"n {id}"}
            fields |= {"traceparent": TRACE, "tracestate": STATE}
            await managed.schedule(id, due_ms=FAR_MS, index=index, **fields)
        await managed.schedule("plain", due_ms=FAR_MS, index=index)
        ids = [*keeps, "plain"]
        if how == "get_jobs":
            found = list(await managed.backend.get_jobs(managed.queue, ids))
            obliges(GET, FOUND, None not in found, ids=ids, answers=found)
        else:
            found = await managed.walk(want_details=True)
        trace = (TRACE, STATE) if managed.backend.capabilities.traces else ("", "")
        seen = {j.id: (j.unique, j.keep_id_ms, (j.traceparent, j.tracestate), j.name) for j in found}
        right: dict[str, Any] = {id: (True, keep_id_ms, trace, f"n {id}") for id, keep_id_ms in keeps.items()}
        right["plain"] = (False, None, ("", ""), "")
        rule = (
            "Return the waiting jobs with these ids, with all details"
            if how == "get_jobs"
            else "Return a page of the waiting jobs"
        )
        obliges(f"ManagementSupport.{how}", rule, seen == right, expected=right, seen=seen)

    async def test_a_job_that_waits_no_more_is_not_found(self, managed: Managed) -> None:
        for id in ("promoted", "cancelled", "removed", "run now"):
            await managed.schedule(id, unique=True, delay_ms=0 if id == "promoted" else LONG_MS)
        await managed.promote(await managed.lead())
        await managed.cancel("cancelled")
        await managed.change(Remove(job="removed"), RunNow(job="run now"))
        await managed.schedule("waits")
        found = await managed.backend.get_jobs(managed.queue, ["promoted", "cancelled", "removed", "run now", "waits"])
        ids = [j and j.id for j in found]
        obliges(GET, FOUND, ids == [None, None, None, None, "waits"], found=found)
        listed = await managed.listed()
        obliges(LIST, IN_ORDER, listed == ["waits"], listed=listed)

    async def test_many_jobs_are_found_in_the_order_asked(self, managed: Managed) -> None:
        ids = [f"j{i}" for i in range(MANY)]
        await managed.schedule(*ids)
        asked = [f"{prefix}{i}" for i in reversed(range(MANY)) for prefix in ("no", "j")]
        found = await managed.backend.get_jobs(managed.queue, asked)
        wrong = [id for id, j in zip(asked, found, strict=True) if (j and j.id) != (id if id[0] == "j" else None)]
        obliges(GET, FOUND, not wrong, asked=len(asked), wrong=wrong)

    async def test_a_job_that_is_overdue_is_seen_like_any_other(self, managed: Managed) -> None:
        await managed.due("a", "b", index=False)
        now_ms = (await managed.backend.stats(managed.queue)).now_ms
        found, listed = await managed.get("a"), await managed.listed(due_to_ms=now_ms + 1)
        obliges(GET, FOUND, found.due_ms is not None and found.due_ms <= now_ms, found=found, now_ms=now_ms)
        obliges(LIST, IN_ORDER, listed == ["a", "b"], listed=listed)
        (count,) = await managed.backend.count_jobs(managed.queue, [now_ms + 1])
        obliges(COUNT, COUNTED, count == 2, count=count)

    async def test_of_jobs_with_one_id_the_one_that_cancel_would_remove_is_shown(self, managed: Managed) -> None:
        for payload in (b"1", b"2", b"3"):
            await managed.schedule("a", payload=payload)
        for left in (3, 2, 1):
            shown = payload_of(await managed.get("a"))
            before = {payload_of(j) for j in await managed.walk()}
            await managed.cancel("a")
            removed = before - {payload_of(j) for j in await managed.walk()}
            rule = "An id finds the job that `Backend.cancel` would remove"
            ok = len(before) == left and removed == {shown}
            obliges("ManagementSupport", rule, ok, shown=shown, waiting=before, cancelled=removed)

    async def test_a_job_without_an_index_is_shown_among_many(self, managed: Managed) -> None:
        await managed.schedule(*(f"j{i}" for i in range(1_500)), index=False)
        found = await managed.backend.get_jobs(managed.queue, ["j1234", "never", "j7"])
        rule = "A job without one is searched for among at least the 10,000 that are due first."
        obliges(GET, rule, [j and j.id for j in found] == ["j1234", None, "j7"], found=found)

    async def test_text_that_looks_alike_stays_apart(self, managed: Managed) -> None:
        exactly = "Queue names, ids, names and holders are compared and returned exactly"
        for index in (True, False):
            k = managed.other()
            requests = [job(id, name=NAMES[i % len(NAMES)], delay_ms=LONG_MS, index=index) for i, id in enumerate(IDS)]
            await k.backend.schedule(k.queue, requests)
            found = await k.backend.get_jobs(k.queue, IDS)
            wrong = [
                (r.id, j) for r, j in zip(requests, found, strict=True) if (j and (j.id, j.name)) != (r.id, r.name)
            ]
            obliges("Backend", exactly, not wrong, indexed=index, wrong_of_get_jobs=wrong)
            listed = {(j.id, j.name, j.envelope) for j in await k.walk()}
            right = {(r.id, r.name, r.envelope) for r in requests}
            seen = {"too_many": listed - right, "missing": right - listed}
            obliges("Backend", exactly, listed == right, indexed=index, **seen)
            for name in ("x\0", "\udcff", "é", "ﬁ", "job"):
                named = {j.id for j in await k.walk(name=name)}
                expected = {r.id for r in requests if r.name == name}
                obliges("Backend", exactly, named == expected, indexed=index, name=name, listed=named, right=expected)

    async def test_pages_hold_each_job_once_and_in_order(self, managed: Managed) -> None:
        ids = [f"j{i:02}" for i in range(25)]
        for i in (*range(1, 25, 2), *range(0, 25, 2)):
            await managed.schedule(ids[i], due_ms=FAR_MS + i)
        for limit in (1, 7, 10, 25, 26, 1_000):
            listed = await managed.listed(limit=limit)
            obliges(LIST, IN_ORDER, listed == ids, limit=limit, listed=listed)
            listed = await managed.listed(limit=limit, reverse=True)
            rule = "`reverse` reverses the order."
            obliges(LIST, rule, listed == ids[::-1], limit=limit, listed=listed)

    async def test_an_empty_queue_is_one_empty_page(self, managed: Managed) -> None:
        for query in ({}, {"reverse": True}, {"name": "n"}, {"due_from_ms": 1}, {"due_to_ms": FAR_MS}, {"limit": 1}):
            before_ms = (await managed.backend.stats(managed.queue)).now_ms
            page = await managed.page(**query)
            after_ms = (await managed.backend.stats(managed.queue)).now_ms
            obliges(LIST, IN_ORDER, (list(page.jobs), page.cursor) == ([], ""), query=query, page=page)
            in_time = before_ms <= page.now_ms <= after_ms
            obliges("JobPage", "The answer to a `JobQuery`.", in_time, page=page, store_ms=(before_ms, after_ms))
        counts = await managed.backend.count_jobs(managed.queue, [0, 1, FAR_MS])
        obliges(COUNT, COUNTED, list(counts) == [0, 0, 0], counts=counts)

    async def test_due_times_bound_a_page_to_the_millisecond(self, managed: Managed) -> None:
        for i in range(5):
            await managed.schedule(f"j{i}", due_ms=FAR_MS + i)
        await managed.schedule("last", due_ms=MAX_DUE_MS)
        bounds = [None, 0, *(FAR_MS + i for i in range(6)), MAX_DUE_MS, MAX_DUE_MS + 1, 2**53]
        for low in bounds:
            for high in bounds:
                expected = [
                    id
                    for id, ms in [*((f"j{i}", FAR_MS + i) for i in range(5)), ("last", MAX_DUE_MS)]
                    if (low is None or ms >= low) and (high is None or ms < high)
                ]
                reverse = (bounds.index(low) + bounds.index(high)) % 2 == 1
                expected = expected[::-1] if reverse else expected
                listed = await managed.listed(due_from_ms=low, due_to_ms=high, reverse=reverse, limit=4)
                obliges(LIST, IN_ORDER, listed == expected, due_from_ms=low, due_to_ms=high, listed=listed)

    async def test_jobs_are_counted_to_the_millisecond(self, managed: Managed) -> None:
        for i, count in enumerate((1, 0, 3, 2)):
            if count:
                await managed.schedule(*(f"j{i}-{n}" for n in range(count)), due_ms=FAR_MS + i)
        await managed.schedule("last", due_ms=MAX_DUE_MS)
        bounds = [FAR_MS + 4, FAR_MS, 0, FAR_MS + 1, FAR_MS + 2, 2**53, FAR_MS + 3, FAR_MS, MAX_DUE_MS]
        counts = list(await managed.backend.count_jobs(managed.queue, bounds))
        obliges(COUNT, COUNTED, counts == [6, 0, 0, 1, 1, 7, 4, 0, 6], bounds_ms=bounds, counts=counts)
        counts = list(await managed.backend.count_jobs(managed.queue, []))
        obliges(COUNT, COUNTED, counts == [], bounds_ms=[], counts=counts)
        bounds = [FAR_MS + i // 100 for i in range(600)][::-1]
        counts = list(await managed.backend.count_jobs(managed.queue, bounds))
        expected = [[0, 1, 1, 4, 6, 6][ms - FAR_MS] for ms in bounds]
        obliges(COUNT, COUNTED, counts == expected, bounds=len(bounds), counts=counts)

    async def test_jobs_of_one_name_are_listed_alone(self, managed: Managed) -> None:
        await managed.schedule(*(f"j{i}" for i in range(2_500)), due_ms=FAR_MS, name="other")
        await managed.schedule("early", due_ms=FAR_MS - 1, name="wanted")
        await managed.schedule("late", "later", due_ms=FAR_MS + 1, name="wanted")
        await managed.schedule("named", due_ms=FAR_MS + 2, name="wanted ")
        await managed.schedule("nameless", due_ms=FAR_MS + 3)
        for reverse in (False, True):
            for limit in (1, 100):
                pages = await managed.walk_pages(name="wanted", limit=limit, reverse=reverse)
                listed = [j.id for page in pages for j in page.jobs]
                ok = sorted(map(str, listed)) == ["early", "late", "later"]
                ok = ok and listed[-1 if reverse else 0] == "early"
                obliges(LIST, IN_ORDER, ok, name="wanted", reverse=reverse, limit=limit, listed=listed)
                looked = "jobs read): at most 1,000 or `limit`, whichever is more."
                obliges(LIST, looked, len(pages) >= 3, pages=len(pages), jobs=2_505)
        k = managed.other()
        await k.schedule(*(f"j{i}" for i in range(1_000)), due_ms=FAR_MS, name="other")
        await k.schedule("a", due_ms=FAR_MS + 1, name="wanted")
        page = await k.page(name="wanted")
        looked = "jobs read): at most 1,000 or `limit`, whichever is more."
        obliges(LIST, looked, (list(page.jobs), bool(page.cursor)) == ([], True), jobs_before_it=1_000, page=page)
        for name, expected in (("never", []), ("", ["nameless"])):
            listed = await managed.listed(name=name)
            obliges(LIST, IN_ORDER, listed == expected, name=name, listed=listed)

    async def test_the_order_of_pages_is_the_order_of_promotion(self, managed: Managed) -> None:
        """This includes jobs that are due in the same millisecond."""
        ids = [f"j{i * 7 % 60:02}" for i in range(60)]
        due_ms = (await managed.backend.stats(managed.queue)).now_ms + 10 * SOON_MS
        for start in range(0, 60, 20):
            requests = [job(id, due_ms=due_ms + i // 30) for i, id in enumerate(ids[start : start + 20])]
            await managed.backend.schedule(managed.queue, requests)
        listed = await managed.walk(limit=7)
        backwards = [j.id for j in await managed.walk(limit=11, reverse=True)]
        for _ in range(1_000):
            if (now_ms := (await managed.backend.stats(managed.queue)).now_ms) > due_ms:
                break
            await managed.sleep_ms(due_ms - now_ms + 1)
        if any((j.due_ms or 0) > due_ms for j in listed):
            return  # a slow store: some jobs became due before all were scheduled
        await managed.empty(await managed.lead())
        arrived = await managed.arrived()
        order = [j.id for j in listed]
        obliges(LIST, IN_ORDER, order == arrived, listed=order, promoted=arrived)
        rule = "`reverse` reverses the order."
        obliges(LIST, rule, backwards == arrived[::-1], listed=backwards, promoted=arrived)

    async def test_text_that_is_no_cursor_is_a_permanent_error(self, managed: Managed) -> None:
        await managed.schedule("a", "b")
        rule = "Raises PermanentError when `after` is not a cursor of this store."
        long = "9" * 5_000
        for after in ("no cursor", "-", "!", "\0", "é", "1-", "-1", "x-1", "1-x", "%", f"{long}-1", f"1-{long}"):
            for reverse in (False, True):
                try:
                    answer: Any = await managed.backend.list_jobs(managed.queue, JobQuery(after=after, reverse=reverse))
                except BackendError as exc:
                    answer = exc
                obliges(LIST, rule, isinstance(answer, PermanentError), after=after, answer=answer)

    async def test_looks_change_nothing(self, managed: Managed) -> None:
        await managed.schedule("a", "b", unique=True, delay_ms=LONG_MS, name="n")
        before = await managed.backend.stats(managed.queue)
        await managed.get("a")
        await managed.walk(name="n", reverse=True)
        await managed.backend.count_jobs(managed.queue, [0, FAR_MS])
        after = await managed.backend.stats(managed.queue)
        same = [(s.depth, s.next_due_ms, s.stream_len, s.holder) for s in (before, after)]
        obliges(GET, FOUND, same[0] == same[1], before=before, after=after)

    async def test_malformed_members_are_listed_and_changed_by_themselves(
        self, managed: Managed, add_malformed: Add
    ) -> None:
        members = [b"\xc1 no job", b"\0\xff", b"stays"]
        for member in members:
            await add_malformed(managed.queue, member)
        await managed.schedule("a")
        found = [j for j in await managed.walk() if j.malformed]
        seen = {(j.id, j.envelope, j.name) for j in found}
        rule = "Malformed members are listed too, without a name."
        obliges(LIST, rule, seen == {(None, member, "") for member in members}, members=members, listed=found)
        by_member = {j.envelope: j for j in found}
        removed, ran = by_member[members[0]], by_member[members[1]]
        outcomes = await managed.change(
            Remove(job=removed),
            RunNow(job=ran),
            Remove(job=removed),
            Reschedule(job=by_member[b"stays"], due_ms=FAR_MS),
        )
        right = [JobOutcome.REMOVED, JobOutcome.MOVED, JobOutcome.NOT_FOUND, JobOutcome.MOVED]
        rule = "MOVED when the stream is full or the job is malformed"
        obliges("RunNow", rule, outcomes == right, expected=right, outcomes=outcomes)
        obliges("RunNow", rule, await managed.arrived() == [], stream=await managed.arrived())
        p = await managed.promote(await managed.lead())
        dead = [entry.fields.get("d") for entry in await managed.entries(StreamName.DLQ)]
        rule = "it is now due and the promoter handles it like any other"
        obliges("RunNow", rule, (p.malformed, dead) == (1, [members[1]]), promotion=p, dead_letters=dead)

    async def test_parked_jobs_are_listed_last_and_never_counted(self, managed: Managed, add_parked: Add) -> None:
        await add_parked(managed.queue, job("parked", name="n"))
        await managed.schedule("far", due_ms=MAX_DUE_MS)
        seen = [(j.id, j.due_ms, j.name) for j in await managed.walk(limit=1)]
        right = [("far", MAX_DUE_MS, ""), ("parked", None, "n")]
        obliges(LIST, "parked jobs come last.", seen == right, expected=right, listed=seen)
        listed = await managed.listed(reverse=True, limit=1)
        obliges(LIST, "parked jobs come last.", listed == ["parked", "far"], reverse=True, listed=listed)
        for bounds, right_ids in (((FAR_MS, 2**53), ["far"]), ((FAR_MS, None), ["far", "parked"]), ((None, 1), [])):
            listed = await managed.listed(due_from_ms=bounds[0], due_to_ms=bounds[1])
            obliges("JobQuery", "The argument of", listed == right_ids, due_from_to=bounds, listed=listed)
        counts = list(await managed.backend.count_jobs(managed.queue, [2**53, MAX_DUE_MS + 1]))
        obliges(COUNT, "a parked job never is.", counts == [1, 1], counts=counts)
        outcomes = await managed.change(Reschedule(job="parked", due_ms=FAR_MS))
        obliges("Reschedule", "Change a job's due time", outcomes == [JobOutcome.MOVED], outcomes=outcomes)
        obliges(GET, FOUND, (await managed.get("parked")).due_ms == FAR_MS, found=await managed.get("parked"))
        await add_parked(managed.queue, job("run"))
        outcomes = await managed.change(RunNow(job="run"))
        arrived = await managed.arrived()
        ok = (outcomes, arrived) == ([JobOutcome.PROMOTED], ["run"])
        obliges("RunNow", "Promote a job at once", ok, outcomes=outcomes, arrived=arrived)
