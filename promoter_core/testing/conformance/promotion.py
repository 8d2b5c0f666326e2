"""promote: which jobs are due, in which order, how many, for which holder, and what is reported about the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from promoter_core.spi import Clock, Lease, LeaseHeld, LeaseLost, Promotion, Ties, later_than
from promoter_core.testing.conformance.base import ContractBase, needs_ties
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, SOON_MS, Kit, context_of
from promoter_core.testing.conformance.obligations import obliges

SHORT_MS = 120
ORDER = "Order: by due time, then by `capabilities.ties`."
CONTEXT = "the entry, the event and the `PromotedJob` of a job that was scheduled with a trace context contain it"


class PromotionContract(ContractBase):
    async def test_an_empty_queue_promotes_nothing(self, kit: Kit) -> None:
        p = await kit.promote(await kit.lead())
        seen = (p.promoted, p.depth, p.oldest_pending_lag_ms, p.next_due_ms, tuple(p.jobs))
        obliges("Backend.promote", "describe the set *after* the move", seen == (0, 0, 0, None, ()), promotion=p)

    async def test_a_due_job_goes_from_the_set_to_the_stream(self, kit: Kit) -> None:
        await kit.due("a")
        p = await kit.promote(await kit.lead())
        obliges("Backend.promote", "Move due jobs from the sorted set to the stream", p.promoted == 1, promotion=p)
        obliges("Backend.promote", "Move due jobs from the sorted set to the stream", await kit.arrived() == ["a"])
        again = await kit.promote(Lease(kit.queue, "leader", LONG_MS))
        obliges("Backend.promote", "Move due jobs from the sorted set", again.promoted == 0, again=again)

    async def test_a_job_is_never_promoted_early(self, kit: Kit) -> None:
        await kit.schedule("later")
        p = await kit.promote(await kit.lead())
        rule = "Due: a job whose due time is at or before the store's clock."
        obliges("Backend.promote", rule, p.promoted == 0 and await kit.arrived() == [], promotion=p)

    async def test_a_job_due_in_a_moment_is_not_promoted_before_it(self, kit: Kit) -> None:
        lease = await kit.lead()
        earliest_ms = (await kit.backend.stats(kit.queue)).now_ms + SOON_MS * 4
        await kit.schedule("a", delay_ms=SOON_MS * 4)
        rule = "Due: a job whose due time is at or before the store's clock."
        for _ in range(200):
            p = await kit.promote(lease)
            for got in p.jobs:
                obliges("Backend.promote", rule, got.due_ms <= p.now_ms, job=got, now_ms=p.now_ms)
            if p.promoted:
                now_ms = (await kit.backend.stats(kit.queue)).now_ms
                obliges("Backend.promote", rule, now_ms >= earliest_ms, now_ms=now_ms, earliest_ms=earliest_ms)
                return
            obliges("Backend.promote", rule, p.next_due_ms is not None and p.next_due_ms > p.now_ms, promotion=p)
            await kit.sleep_ms(1)
        obliges("Backend.promote", rule, False, promotion=p)

    async def test_at_most_the_limit_is_promoted(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a", "b", "c", "d", "e")
        sizes = [(await kit.promote(lease, limit=2)).promoted for _ in range(4)]
        obliges("Backend.promote", "At most `request.limit` jobs.", sizes == [2, 2, 1, 0], sizes=sizes)
        obliges("Backend.promote", ORDER, await kit.arrived() == list("abcde"))

    async def test_the_order_is_by_due_time(self, kit: Kit) -> None:
        await kit.ahead({id: 15 * "abcde".index(id) - i for i, id in enumerate("dbeac")})
        p = await kit.promote(await kit.lead())
        obliges("Backend.promote", ORDER, await kit.arrived() == list("abcde"), arrived=await kit.arrived())
        obliges(
            "Backend.promote", "and in promotion order otherwise", [j.id for j in p.jobs] == list("abcde"), jobs=p.jobs
        )

    async def test_equal_due_times_keep_the_order_of_insertion(self, kit: Kit) -> None:
        needs_ties(kit, Ties.INSERTION)
        await self._equal(kit, list("cabed"), list("cabed"))

    async def test_equal_due_times_are_in_the_order_of_their_members(self, kit: Kit) -> None:
        needs_ties(kit, Ties.MEMBER)
        await self._equal(kit, list("cabed"), list("abcde"))

    async def _equal(self, kit: Kit, ids: list[str], expected: list[str]) -> None:
        await kit.ahead(dict.fromkeys(ids, 0))
        await kit.promote(await kit.lead())
        obliges("Backend.promote", ORDER, await kit.arrived() == expected, arrived=await kit.arrived())

    async def test_without_the_lock_nothing_is_promoted(self, kit: Kit) -> None:
        await kit.due("a")
        await self._lost(kit, Lease(kit.queue, "me", LONG_MS))

    async def test_an_expired_lease_promotes_nothing(self, kit: Kit) -> None:
        lease = await kit.lead("me", SHORT_MS)
        await kit.due("a")
        await kit.sleep_ms(SHORT_MS + 30)
        await self._lost(kit, lease)

    async def test_a_lease_that_went_to_another_promotes_nothing(self, kit: Kit) -> None:
        lease = await kit.lead("me", SHORT_MS)
        await kit.due("a")
        await kit.sleep_ms(SHORT_MS + 30)
        other = await kit.lead("other")
        await self._lost(kit, lease)
        p = await kit.promote(other)
        obliges("Backend.promote", "fenced by `lease`", p.promoted == 1, promotion=p)

    async def _lost(self, kit: Kit, lease: Lease) -> None:
        answer = await kit.try_promote(lease)
        rule = "unless `lease.holder` holds the lock and it has not expired, nothing changes"
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.promote", rule, isinstance(answer, LeaseLost), answer=answer)
        obliges("Backend.promote", rule, await kit.arrived() == [] and stats.depth == 1, stats=stats)

    async def test_the_work_is_no_longer_than_the_call(self, kit: Kit, clock: Clock) -> None:
        lease = await kit.lead()
        for n in (1, 500):
            await kit.due(*(f"{n}-{i}" for i in range(n)))
            began_s, began_really_s = clock.monotonic(), time.monotonic()
            promotion = await kit.backend.promote(lease, replace(REQUEST, want_work=True))
            # A store on a virtual clock measures by it or in real time: neither passes with the other.
            took_ms = max(clock.monotonic() - began_s, time.monotonic() - began_really_s) * 1000
            obliges("Backend.promote", "Move due jobs", promotion.promoted == n, due=n, promotion=promotion)
            if promotion.work_ms is not None:
                obliges(
                    "Backend.promote",
                    "`work_ms` is how long the store worked on this call, by its own clock",
                    0 <= promotion.work_ms <= took_ms + 5,
                    work_ms=promotion.work_ms,
                    took_ms=took_ms,
                )

    async def test_a_lost_lease_is_not_renewed(self, kit: Kit) -> None:
        await kit.try_promote(Lease(kit.queue, "me", LONG_MS))
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.promote", "nothing changes and the answer is `LeaseLost`", stats.holder is None, stats=stats)

    async def test_promote_renews_the_lease_when_asked(self, kit: Kit) -> None:
        short_ms = await self._tick(kit, renew=True)
        await kit.sleep_ms(short_ms + 30)
        answer = await kit.backend.lock(kit.queue, "other", LONG_MS)
        rule = "With `request.renew` the lease restarts."
        obliges("Backend.promote", rule, isinstance(answer, LeaseHeld), answer=answer)

    @pytest.mark.parametrize("due", [False, True], ids=["idle", "due"])
    async def test_promote_leaves_the_lease_alone_otherwise(self, kit: Kit, due: bool) -> None:
        if due:
            await kit.due("a")
        short_ms = await self._tick(kit, renew=False)
        await kit.sleep_ms(short_ms + 30)
        answer = await kit.backend.lock(kit.queue, "other", LONG_MS)
        rule = "With `request.renew` the lease restarts."
        obliges("Backend.promote", rule, isinstance(answer, Lease), answer=answer)

    async def _tick(self, kit: Kit, *, renew: bool) -> int:
        """Run a tick within a short lease, and return the length of the lease, which is longer in a slow store."""
        short_ms, long = SHORT_MS, Lease(kit.queue, "me", LONG_MS)
        await kit.lead("me", short_ms)
        while isinstance(await kit.try_promote(long, renew=renew), LeaseLost) and short_ms < LONG_MS // 8:
            short_ms *= 4
            await kit.lead("me", short_ms)
        return short_ms

    async def test_depth_lag_and_next_due_are_those_of_the_jobs_still_pending(self, kit: Kit) -> None:
        rule = "`depth`, `oldest_pending_lag_ms` and `next_due_ms` describe the set *after* the move"
        lease = await kit.lead()
        await kit.schedule("far")
        far_ms = (await kit.backend.stats(kit.queue)).next_due_ms
        await kit.due("a", "b")
        await kit.sleep_ms(40)
        first = await kit.promote(lease, limit=1)
        obliges("Backend.promote", rule, first.depth == 2, promotion=first)
        second_due = first.next_due_ms
        lag_ms = first.now_ms - (second_due or 0)
        obliges("Backend.promote", rule, first.oldest_pending_lag_ms == lag_ms > 0, promotion=first)
        second = await kit.promote(lease)
        seen = (second.depth, second.oldest_pending_lag_ms, second.next_due_ms)
        obliges("Backend.promote", rule, seen == (1, 0, far_ms), promotion=second)
        obliges("Backend.promote", rule, [j.due_ms for j in second.jobs] == [second_due], promotion=second)

    async def test_jobs_tell_id_name_due_time_and_when_and_where_they_arrived(self, kit: Kit) -> None:
        due_ms = await kit.ahead({"a": 0}, name="invoice")
        p = await kit.promote(await kit.lead())
        named = [(got.id, got.name) for got in p.jobs] == [("a", "invoice")]
        obliges("Backend.promote", "`jobs` is empty unless `request.want_jobs`", named, jobs=p.jobs)
        got, arrival = p.jobs[0], await kit.arrival()
        obliges("Backend.promote", "Order: by due time", got.due_ms == due_ms, job=got)
        obliges("Backend.promote", "`now_ms` is the store's clock", got.promoted_ms == p.now_ms >= due_ms, job=got)
        obliges(
            "Backend.promote",
            "Move due jobs from the sorted set to the stream",
            got.stream_id == arrival.entry.id,
            job=got,
        )

    async def test_jobs_are_left_out_when_nobody_wants_them(self, kit: Kit) -> None:
        await kit.due("a")
        p = await kit.backend.promote(await kit.lead(), replace(REQUEST, want_jobs=False))
        rule = "`jobs` is empty unless `request.want_jobs`"
        obliges("Backend.promote", rule, not p.jobs and p.promoted == 1, promotion=p)

    async def test_the_late_are_counted_by_bounds(self, kit: Kit) -> None:
        rule = "`lateness_counts` counts, for each bound of `promoter_core.spi.LATENESS_MS`, the promoted jobs"
        lease, now_ms = await kit.lead(), (await kit.backend.stats(kit.queue)).now_ms
        for i, ahead_ms in enumerate((20, 60, 100, 140, 180)):
            await kit.schedule(f"{i}", due_ms=now_ms + ahead_ms)
        await kit.schedule("later")
        await kit.sleep_ms(250)
        for limit in (2, 1, 10):
            p = await kit.promote(lease, limit=limit)
            expected = later_than(p.now_ms, [job.due_ms for job in p.jobs])
            obliges("Backend.promote", rule, p.lateness_counts == expected, promotion=p, expected=expected)
        nothing = await kit.promote(lease)
        obliges("Backend.promote", rule, nothing.lateness_counts == (), promotion=nothing)

    async def test_trace_contexts_come_with_the_promotion_when_they_are_wanted(self, kit: Kit) -> None:
        if not kit.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        rule = "`traces` has the trace contexts of the promoted jobs"
        contexts = [f"00-{n:032x}-{n:016x}-01" for n in range(1, 5)]
        lease = await kit.lead()
        for i, context in enumerate(contexts):
            await kit.schedule(f"{i}", delay_ms=SOON_MS + i, traceparent=context)
            await kit.schedule(f"without-{i}", delay_ms=SOON_MS + i)
        await kit.backend.cancel(kit.queue, ["1"])
        await kit.sleep_ms(SOON_MS + 30)
        first = await kit.promote(lease, limit=2, want_traces=True)
        obliges("Backend.promote", rule, first.traces == (contexts[0],), promotion=first)
        second = await kit.promote(lease, want_traces=True)
        obliges("Backend.promote", rule, second.traces == (contexts[2], contexts[3]), promotion=second)
        rule, ids = "and `trace_ids` the ids of these jobs", (first.trace_ids, second.trace_ids)
        obliges("Backend.promote", rule, ids == (("0",), ("2", "3")), trace_ids=ids)
        await kit.schedule("again", delay_ms=1, traceparent=contexts[0])
        await kit.sleep_ms(30)
        unasked = await kit.promote(lease)
        seen = (unasked.promoted, unasked.traces)
        obliges(
            "Backend.promote",
            "`request.want_traces`, `traces` has the trace contexts",
            seen == (1, ()),
            promotion=unasked,
        )

    @pytest.mark.parametrize("wanted", [True, False], ids=["asked for", "unasked"])
    async def test_a_trace_context_goes_on_with_its_job(self, kit: Kit, wanted: bool) -> None:
        if not kit.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        both = {"traceparent": f"00-{1:032x}-{1:016x}-01", "tracestate": "vendor=a b,other=1"}
        one = {"traceparent": f"00-{2:032x}-{2:016x}-00"}
        given: dict[str, Any] = {"both": both, "none": {}, "one": one, "alone": {"tracestate": "vendor=1"}}
        lease = await kit.lead()
        for name in ("", "n"):
            for id, trace in given.items():
                await kit.schedule(id + name, delay_ms=0, name=name, index=id != "one", **trace)
        await kit.sleep_ms(30)
        p = await kit.promote(lease, want_traces=wanted)
        expected = {id + name: {} if id == "alone" else trace for name in ("", "n") for id, trace in given.items()}
        seen = {a.id: context_of(a.entry.fields) for a in await kit.arrivals()}
        alone = {id: trace for id, trace in seen.items() if id.startswith("alone")}
        obliges(
            "Backend.promote", "A `tracestate` without a `traceparent` is dropped.", not any(alone.values()), **alone
        )
        obliges("Backend.promote", CONTEXT, seen == expected, stream=seen, expected=expected)
        seen = {event["id"]: context_of(event) for event in await kit.events()}
        obliges("Backend.promote", CONTEXT, seen == expected, events=seen, expected=expected)
        contexts = {str(j.id): {"traceparent": j.traceparent, "tracestate": j.tracestate} for j in p.jobs}
        seen = {id: {field: text for field, text in trace.items() if text} for id, trace in contexts.items()}
        obliges("Backend.promote", CONTEXT, seen == expected, jobs=p.jobs, expected=expected)

    async def test_concurrent_promotes_move_each_job_once(self, kit: Kit) -> None:
        ids = [f"j{i:03}" for i in range(200)]
        lease = await kit.lead()
        await kit.due(*ids, delay_ms=SOON_MS)
        promotions = await asyncio.gather(*(kit.promote(lease, limit=7) for _ in range(40)))
        arrived = await kit.arrived()
        obliges("Backend.promote", "in one atomic step", sorted(arrived) == ids, arrived=arrived)
        obliges("Backend.promote", "in one atomic step", sum(p.promoted for p in promotions) == 200)

    async def test_a_promote_that_is_cancelled_loses_nothing(self, kit: Kit) -> None:
        ids = [f"j{i:02}" for i in range(40)]
        lease = await kit.lead()
        await kit.due(*ids, delay_ms=SOON_MS)
        for rounds in range(12):
            under_way = asyncio.ensure_future(kit.promote(lease, limit=2))
            for _ in range(rounds):
                await asyncio.sleep(0)
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
        await kit.empty(lease)
        arrived = await kit.arrived()
        rule = "or is cancelled may or may not have taken effect (a reply can be lost), but never partially"
        obliges("Backend", rule, sorted(arrived) == ids, missing=set(ids) - set(arrived), arrived=len(arrived))

    async def test_the_clock_is_the_stores_and_goes_on(self, kit: Kit) -> None:
        lease = await kit.lead()
        first = await kit.promote(lease)
        await kit.sleep_ms(30)
        second = await kit.promote(lease)
        obliges(
            "Backend.promote",
            "`now_ms` is the store's clock",
            second.now_ms - first.now_ms >= 29,
            first=first,
            second=second,
        )

    async def test_queues_never_mix(self, kit: Kit) -> None:
        other = kit.other()
        await kit.due("mine")
        await other.due("theirs")
        p: Promotion = await kit.promote(await kit.lead())
        obliges("Backend", "Queues never see one another.", p.promoted == 1 and p.depth == 0, promotion=p)
        obliges("Backend", "Queues never see one another.", await kit.arrived() == ["mine"])
        stats = await other.backend.stats(other.queue)
        obliges("Backend", "Queues never see one another.", (stats.depth, stats.stream_len) == (1, 0), stats=stats)
