"""`Replace`: a job replaces the waiting job with its id, or only moves it, or is created."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import JobOutcome, JobRequest, Remove, Replace, Reschedule, RunNow
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, context_of, job
from promoter_core.testing.conformance.managed import FAR_MS, Managed, ManagedFixtures, payload_of
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.overdue import MINUTE_MS, Leap
from promoter_core.testing.conformance.phases import StoredNames
from promoter_core.testing.conformance.text import IDS

CHANGE = "ManagementSupport.change_jobs"
TAKES = "`Replace` takes the request's envelope, name, index, `unique` and `keep_id_ms`"
NOTHING_STAYS = "and keeps of the old job only what `keep_…` says."
IN_PLACE = "Replace the waiting job that has the id of `request`; if there is none, schedule `request`."
ANYWAY = "or CREATED, even if a promotion still keeps the id taken."
NONE_MADE = "With `keep_due` nothing is created: NOT_FOUND or ALREADY_PROMOTED instead."
ONLY_MOVES = "REPLACED; MOVED with `keep_data`"
OLD_TRACE, NEW_TRACE = f"00-{4:032x}-{4:016x}-01", f"00-{5:032x}-{5:016x}-01"
CREATED, KEPT, MOVED, PROMOTED, REMOVED = (
    JobOutcome.CREATED,
    JobOutcome.KEPT,
    JobOutcome.MOVED,
    JobOutcome.PROMOTED,
    JobOutcome.REMOVED,
)
ALREADY, NOT_FOUND, REPLACED = JobOutcome.ALREADY_PROMOTED, JobOutcome.NOT_FOUND, JobOutcome.REPLACED
NEW = job(
    "a",
    payload=b"new",
    due_ms=FAR_MS + 10,
    name="new",
    unique=True,
    keep_id_ms=86_400_000,
    traceparent=NEW_TRACE,
    tracestate="vendor=new",
)


class ReplacingContract(ManagedFixtures, ContractBase):
    @pytest.mark.parametrize("keep_due", [False, True], ids=["new due time", "old due time"])
    @pytest.mark.parametrize("keep_name", [False, True], ids=["new name", "old name"])
    @pytest.mark.parametrize("keep_data", [False, True], ids=["new data", "old data"])
    async def test_what_is_kept_stays_and_the_rest_is_new(
        self, managed: Managed, keep_data: bool, keep_name: bool, keep_due: bool
    ) -> None:
        old: dict[str, Any] = {"payload": b"old", "name": "old", "traceparent": OLD_TRACE, "tracestate": "vendor=old"}
        await managed.schedule("a", due_ms=FAR_MS, unique=True, **old)
        await managed.schedule("other", due_ms=FAR_MS + 5)
        keeps = {"keep_data": keep_data, "keep_name": keep_name, "keep_due": keep_due}
        outcomes = await managed.change(Replace(request=NEW, **keeps))
        expected = MOVED if keep_data else REPLACED
        obliges("Replace", ONLY_MOVES, outcomes == [expected], outcomes=outcomes, **keeps)
        found = await managed.get("a")
        seen: dict[str, Any] = {"payload": payload_of(found), "name": found.name, "due_ms": found.due_ms}
        right: dict[str, Any] = {
            "payload": b"old" if keep_data else b"new",
            "name": "old" if keep_data or keep_name else "new",
            "due_ms": FAR_MS if keep_due else FAR_MS + 10,
        }
        obliges(CHANGE, NOTHING_STAYS, seen == right, seen=seen, expected=right, **keeps)
        if managed.backend.capabilities.traces:
            trace = (OLD_TRACE, "vendor=old") if keep_data else (NEW_TRACE, "vendor=new")
            rule = "Its trace context is that of the request, unless `keep_data`."
            ok = (found.traceparent, found.tracestate) == trace
            obliges(CHANGE, rule, ok, found=found, expected=trace, **keeps)
        if not keep_data:
            obliges(CHANGE, TAKES, found.keep_id_ms == 86_400_000, found=found, **keeps)
        listed = await managed.listed()
        order = ["a", "other"] if keep_due else ["other", "a"]
        obliges("Replace", IN_PLACE, listed == order, listed=listed, **keeps)
        (again,) = await managed.schedule("a", unique=True)
        obliges("Backend.schedule", "KEPT while the job waits", again.outcome is KEPT, repeat=again, **keeps)
        outcomes = [*await managed.cancel("a"), *await managed.cancel("a")]
        obliges("Replace", IN_PLACE, outcomes == [REMOVED, NOT_FOUND], cancelled=outcomes, **keeps)

    @pytest.mark.parametrize("given", [{}, {"tracestate": "vendor=new"}], ids=["none", "tracestate alone"])
    async def test_a_request_without_a_trace_context_takes_that_of_the_job_away(
        self, managed: Managed, given: dict[str, Any]
    ) -> None:
        """A `tracestate` has no meaning without a `traceparent`."""
        await managed.schedule("a", due_ms=FAR_MS, traceparent=OLD_TRACE, tracestate="vendor=old")
        await managed.change(Replace(request=job("a", payload=b"new", delay_ms=0, **given)))
        rule = "Its trace context is that of the request, unless `keep_data`."
        found = await managed.get("a")
        obliges(CHANGE, rule, (found.traceparent, found.tracestate) == ("", ""), given=given, found=found)
        p = await managed.promote(await managed.lead())
        obliges(CHANGE, rule, [(j.traceparent, j.tracestate) for j in p.jobs] == [("", "")], given=given, promotion=p)
        seen = [context_of((await managed.arrival()).entry.fields), *map(context_of, await managed.events())]
        obliges(CHANGE, rule, seen == [{}, {}], given=given, entry_and_event=seen)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_one_of_two_is_promoted_and_it_is_the_new_one(self, managed: Managed, index: bool) -> None:
        await managed.schedule("a", due_ms=FAR_MS, payload=b"old", name="old", traceparent=OLD_TRACE, index=index)
        request = job("a", payload=b"\xc1\0new", attempt=4, delay_ms=0)
        outcomes = await managed.change(Replace(request=request))
        obliges("Replace", IN_PLACE, outcomes == [REPLACED], outcomes=outcomes)
        p = await managed.promote(await managed.lead(), want_traces=True)
        obliges(CHANGE, NOTHING_STAYS, (p.promoted, p.depth, p.traces) == (1, 0, ()), promotion=p)
        arrived = [(a.id, a.name, a.envelope.payload, a.envelope.attempt) for a in await managed.arrivals()]
        obliges(CHANGE, TAKES, arrived == [("a", None, b"\xc1\0new", 4)], arrived=arrived)

    @pytest.mark.parametrize("keep_data", [False, True])
    async def test_without_a_waiting_job_one_is_created(self, managed: Managed, keep_data: bool) -> None:
        """This also holds if a promoted job has taken its id."""
        for id, state in (("a", "never"), ("b", "promoted"), ("c", "run now"), ("d", "cancelled")):
            if state != "never":
                await managed.schedule(id, unique=True, due_ms=FAR_MS, payload=b"old")
            if state == "promoted":
                await managed.change(Reschedule(job=id, delay_ms=0))
                await managed.promote(await managed.lead())
            elif state != "never":
                await managed.change(RunNow(job=id) if state == "run now" else Remove(job=id))
            request = job(id, payload=b"new", name="n", due_ms=FAR_MS, unique=True, traceparent=NEW_TRACE)
            outcomes = await managed.change(Replace(request=request, keep_data=keep_data, keep_name=True))
            obliges("Replace", ANYWAY, outcomes == [CREATED], the_one_before_was=state, outcomes=outcomes)
            found = await managed.get(id)
            seen = (payload_of(found), found.name, found.due_ms, found.unique)
            obliges("Replace", IN_PLACE, seen == (b"new", "n", FAR_MS, True), the_one_before_was=state, found=found)
            outcomes = [(await managed.schedule(id, unique=True))[0].outcome, *await managed.cancel(id)]
            obliges("Replace", IN_PLACE, outcomes == [KEPT, REMOVED], the_one_before_was=state, repeat_cancel=outcomes)
            (anew,) = await managed.schedule(id, unique=True, payload=b"anew", due_ms=FAR_MS)
            obliges("Backend.cancel", "its id is free again", anew.outcome is CREATED, before=state, anew=anew)

    async def test_with_the_due_time_kept_nothing_is_created(self, managed: Managed) -> None:
        await managed.schedule("b", unique=True, due_ms=FAR_MS)
        await managed.schedule("c", due_ms=FAR_MS)
        await managed.change(RunNow(job="b"), RunNow(job="c"))
        requests: list[JobRequest] = [replace(NEW, id=id, envelope=job(id).envelope) for id in "abc"]
        for keep_data in (False, True):
            changes = [Replace(request=r, keep_due=True, keep_data=keep_data) for r in requests]
            outcomes = await managed.change(*changes)
            obliges("Replace", NONE_MADE, outcomes == [NOT_FOUND, ALREADY, NOT_FOUND], outcomes=outcomes)
        obliges("Replace", NONE_MADE, await managed.left() == (0, 2), depth_and_stream=await managed.left())

    async def test_a_job_that_was_created_is_promoted_and_remembered(self, managed: Managed) -> None:
        request = job("a", payload=b"1", delay_ms=0, unique=True)
        lease = await managed.lead()
        for n in range(3):
            await managed.change(Replace(request=replace(request, envelope=job("a", payload=b"%d" % n).envelope)))
            p = await managed.promote(lease)
            obliges("Replace", ANYWAY, p.promoted == 1, round=n, promotion=p)
            (again,) = await managed.schedule("a", unique=True)
            rule = "ALREADY_PROMOTED after it was promoted."
            obliges("Backend.schedule", rule, again.outcome is ALREADY, round=n, repeat=again)
        payloads = [a.envelope.payload for a in await managed.arrivals()]
        obliges("Replace", ANYWAY, payloads == [b"0", b"1", b"2"], payloads=payloads)

    async def test_an_id_that_was_taken_is_kept_from_the_promotion_of_the_next_job(
        self, managed: Managed, leap: Leap
    ) -> None:
        """The first marker's expiry does not apply to the second."""
        lease = await managed.lead(ttl_ms=24 * 60 * MINUTE_MS)
        for n in range(2):
            request = job("a", payload=b"%d" % n, delay_ms=0, unique=True, keep_id_ms=20 * MINUTE_MS)
            await managed.change(Replace(request=request))
            await managed.empty(lease)
            await leap(managed.queue, 15 * MINUTE_MS)
        (again,) = await managed.schedule("a", unique=True)
        rule = "The same holds for `keep_id_ms` after the due time, and after a late promotion."
        seen = {"minutes_since_the_promotions": (30, 15), "keep_minutes": 20, "repeat": again}
        obliges("Backend.schedule", rule, again.outcome is ALREADY, **seen)
        await leap(managed.queue, 7 * MINUTE_MS)
        (anew,) = await managed.schedule("a", unique=True)
        rule = "At the latest, the id is free a minute after that time."
        obliges("Backend.schedule", rule, anew.outcome is CREATED, minutes_since_the_last=22, anew=anew)

    async def test_an_id_that_was_taken_is_free_after_a_next_job_that_does_not_keep_it(self, managed: Managed) -> None:
        """The marker of the first promotion does not outlive the second."""
        lease = await managed.lead()
        for n, keep_id_ms in enumerate((3_600_000, 0)):
            request = job("a", payload=b"%d" % n, delay_ms=0, unique=True, keep_id_ms=keep_id_ms)
            await managed.change(Replace(request=request))
            await managed.empty(lease)
        (again,) = await managed.schedule("a", unique=True)
        obliges(CHANGE, TAKES, again.outcome is CREATED, kept_before_ms=3_600_000, kept_ms=0, repeat=again)

    async def test_a_delay_of_a_replacement_counts_from_the_stores_clock(self, managed: Managed) -> None:
        before_ms = (await managed.backend.stats(managed.queue)).now_ms
        for expected, keep_data in ((CREATED, False), (REPLACED, False), (MOVED, True)):
            request = job("a", payload=expected.encode(), delay_ms=LONG_MS, unique=True)
            outcomes = await managed.change(Replace(request=request, keep_data=keep_data))
            after_ms = (await managed.backend.stats(managed.queue)).now_ms
            due_ms = (await managed.get("a")).due_ms or 0
            ok = outcomes == [expected] and before_ms <= due_ms - LONG_MS <= after_ms
            obliges("Replace", IN_PLACE, ok, outcomes=outcomes, due_ms=due_ms, store_ms=(before_ms, after_ms))

    async def test_the_id_is_kept_as_the_new_request_says(self, managed: Managed) -> None:
        for old_ms, new_ms, outcome in ((0, 3_600_000, ALREADY), (3_600_000, 0, CREATED), (86_400_000, 0, CREATED)):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, unique=True, keep_id_ms=old_ms)
            request = job("a", payload=b"new", delay_ms=0, unique=True, keep_id_ms=new_ms)
            await k.change(Replace(request=request))
            await k.promote(await k.lead())
            (again,) = await k.schedule("a", unique=True)
            seen = {"keep_id_ms": (old_ms, new_ms), "repeat": again}
            obliges(CHANGE, TAKES, again.outcome is outcome, **seen)

    async def test_a_job_that_only_moves_keeps_its_id_as_it_was(self, managed: Managed) -> None:
        rule = "and so does how long its id stays taken."
        for old_ms, new_ms, outcome in ((0, 3_600_000, CREATED), (3_600_000, 0, ALREADY), (86_400_000, 0, ALREADY)):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, unique=True, keep_id_ms=old_ms)
            request = job("a", payload=b"new", delay_ms=0, unique=True, keep_id_ms=new_ms)
            await k.change(Replace(request=request, keep_data=True))
            found = await k.get("a")
            obliges("Replace", rule, found.keep_id_ms == old_ms, keep_id_ms=(old_ms, new_ms), found=found)
            await k.promote(await k.lead())
            (again,) = await k.schedule("a", unique=True)
            obliges("Replace", rule, again.outcome is outcome, keep_id_ms=(old_ms, new_ms), repeat=again)

    async def test_a_job_without_an_index_is_replaced_or_not_looked_for(self, managed: Managed) -> None:
        for search in (True, False):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, payload=b"old", index=False)
            outcomes = await k.change(Replace(request=job("a", payload=b"new", due_ms=FAR_MS), search=search))
            payloads = sorted(payload_of(j) for j in await k.walk())
            seen = {"search": search, "outcomes": outcomes, "waiting": payloads}
            ok = (outcomes, payloads) == ([REPLACED], [b"new"])
            if not search:
                ok = ok or (outcomes, payloads) == ([CREATED], [b"new", b"old"])
            obliges("Replace", IN_PLACE, ok, **seen)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_a_job_that_took_anothers_place_is_found(self, managed: Managed, index: bool) -> None:
        await managed.schedule("a", due_ms=FAR_MS, payload=b"old", index=not index)
        await managed.change(Replace(request=job("a", payload=b"new", due_ms=FAR_MS, index=index), search=True))
        obliges(CHANGE, TAKES, payload_of(await managed.get("a")) == b"new", found=await managed.get("a"))
        outcomes = [*await managed.cancel("a"), *await managed.cancel("a")]
        obliges(CHANGE, TAKES, outcomes == [REMOVED, NOT_FOUND], cancelled=outcomes)

    async def test_of_jobs_with_one_id_one_is_replaced(self, managed: Managed) -> None:
        for payload in (b"1", b"2", b"3"):
            await managed.schedule("a", payload=payload, due_ms=FAR_MS)
        last = payload_of(await managed.get("a"))
        await managed.change(Replace(request=job("a", payload=b"new", due_ms=FAR_MS + 1)))
        left = sorted(payload_of(j) for j in await managed.walk())
        right = sorted({b"1", b"2", b"3", b"new"} - {last})
        obliges("Replace", IN_PLACE, left == right, the_one_by_this_id_was=last, waiting=left)
        outcomes = [(await managed.cancel("a"))[0] for _ in range(4)]
        obliges("Replace", IN_PLACE, outcomes == [REMOVED] * 3 + [NOT_FOUND], cancelled=outcomes)

    async def test_the_same_again_is_one_job(self, managed: Managed) -> None:
        """The same request, byte for byte, is repeated."""
        request = job("a", due_ms=FAR_MS, unique=True, name="n", traceparent=NEW_TRACE)
        outcomes = await managed.change(*(Replace(request=request) for _ in range(4)))
        obliges("Replace", IN_PLACE, outcomes == [CREATED, *[REPLACED] * 3], outcomes=outcomes)
        found, left = await managed.get("a"), await managed.left()
        ok = left == (1, 0) and (found.unique, found.due_ms) == (True, FAR_MS)
        obliges("Replace", IN_PLACE, ok, depth_and_stream=left, found=found)
        outcomes = [*await managed.cancel("a"), *await managed.cancel("a")]
        obliges("Replace", IN_PLACE, outcomes == [REMOVED, NOT_FOUND], cancelled=outcomes)

    async def test_ids_that_look_alike_are_replaced_apart(self, managed: Managed) -> None:
        requests = [job(id, due_ms=FAR_MS, unique=True, payload=b"%d" % i) for i, id in enumerate(IDS)]
        outcomes = await managed.change(*(Replace(request=r) for r in requests))
        exactly = "Queue names, ids, names and holders are compared and returned exactly"
        obliges("Backend", exactly, set(outcomes) == {CREATED}, outcomes=outcomes)
        requests = [job(r.id, due_ms=FAR_MS, unique=True, payload=b"new %d" % i) for i, r in enumerate(requests)]
        outcomes = await managed.change(*(Replace(request=r) for r in requests))
        obliges("Backend", exactly, set(outcomes) == {REPLACED}, outcomes=outcomes)
        listed = {(j.id, j.envelope) for j in await managed.walk()}
        right = {(r.id, r.envelope) for r in requests}
        obliges("Backend", exactly, listed == right, too_many=listed - right, missing=right - listed)

    async def test_nothing_in_the_store_is_named_after_a_job_that_was_replaced(
        self, managed: Managed, stored_names: StoredNames
    ) -> None:
        """The old job was unique and had a trace context; the new one has neither."""
        id = f"job-{ULID()}"
        old: dict[str, Any] = {"unique": True, "keep_id_ms": 86_400_000, "traceparent": OLD_TRACE}
        await managed.schedule(id, due_ms=FAR_MS, payload=b"old", **old)
        await managed.change(Replace(request=job(id, payload=b"new", delay_ms=0)))
        await managed.promote(await managed.lead())
        left = [name for name in await stored_names() if id in name]
        obliges(CHANGE, NOTHING_STAYS, not left, left=left)
        (made,) = await managed.schedule(id, unique=True)
        obliges(CHANGE, NOTHING_STAYS, made.outcome is CREATED, scheduled_again=made)
