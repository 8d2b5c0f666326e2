"""Repeated ids: a repeat changes nothing, a new job with an old id is a new job, and ids of queues are independent.

A repeat is a request for a unique id that is already taken. Its answer is `created=False`.
"""

from __future__ import annotations

from typing import Any

import pytest

from promoter_core.spi import JobOutcome, Promotion
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.overdue import HOUR_MS, MINUTE_MS, REMEMBERED, Leap

REPEAT = "a repeat changes nothing and answers `created=False`"
FREE = "will never be promoted, and its id is free again"
TRACES = "`traces` has the trace contexts of the promoted jobs"
FIRST, SECOND = f"00-{1:032x}-{1:016x}-01", f"00-{2:032x}-{2:016x}-01"
MANY = 250  # more than a chunk
OTHERWISE: dict[str, dict[str, Any]] = {  # differences that a repeated request may have
    "sooner": {"delay_ms": 0},
    "later": {"delay_ms": 10 * LONG_MS},
    "another payload": {"payload": b"other"},
    "another name": {"name": "other"},
    "another trace context": {"traceparent": SECOND},
    "no trace context": {"traceparent": ""},
    "no index": {"index": False},
    "all of it": {"delay_ms": 0, "payload": b"other", "name": "other", "traceparent": SECOND, "index": False},
}


class IdentityContract(ContractBase):
    @pytest.mark.parametrize("changes", OTHERWISE.values(), ids=OTHERWISE)
    async def test_a_repeat_leaves_the_first_as_it_was(self, kit: Kit, changes: dict[str, Any]) -> None:
        first: dict[str, Any] = {
            "delay_ms": LONG_MS,
            "name": "n",
            "payload": b"first",
            "traceparent": FIRST,
            "unique": True,
        }
        await kit.schedule("a", **first)
        before = await kit.backend.stats(kit.queue)
        for _ in range(2):
            (again,) = await kit.schedule("a", **(first | changes))
            obliges("Backend.schedule", REPEAT, again.created is False, repeat_with=changes, again=again)
        after = await kit.backend.stats(kit.queue)
        same = (after.depth, after.next_due_ms) == (before.depth, before.next_due_ms)
        obliges("Backend.schedule", REPEAT, same, repeat_with=changes, before=before, after=after)
        await self._cancelled(kit, "a", repeat_with=changes)
        (anew,) = await kit.schedule("a", **first)
        obliges("Backend.cancel", FREE, anew.created is True, repeat_with=changes, anew=anew)

    @pytest.mark.parametrize("changes", OTHERWISE.values(), ids=OTHERWISE)
    async def test_a_repeat_leaves_what_the_consumer_gets_as_it_was(self, kit: Kit, changes: dict[str, Any]) -> None:
        lease = await kit.lead()
        first: dict[str, Any] = {
            "delay_ms": SOON_MS,
            "name": "n",
            "payload": b"first",
            "traceparent": FIRST,
            "unique": True,
        }
        await kit.schedule("a", **first)
        await kit.schedule("a", **(first | changes))
        p = await self._promoted(kit, lease, 1)
        arrivals = [(a.id, a.name, a.envelope.payload) for a in await kit.arrivals()]
        right = [("a", "n", b"first")]
        obliges("Backend.schedule", REPEAT, arrivals == right, repeat_with=changes, arrivals=arrivals)
        if kit.backend.capabilities.traces:
            obliges("Backend.schedule", REPEAT, p.traces == (FIRST,), repeat_with=changes, traces=p.traces)
        (again,) = await kit.schedule("a", **(first | changes))
        obliges("Backend.schedule", REPEAT, again.created is False, repeat_with=changes, again=again)
        await kit.sleep_ms(SOON_MS)
        p = await kit.promote(lease, want_traces=True)
        obliges("Backend.schedule", REPEAT, (p.promoted, p.depth) == (0, 0), repeat_with=changes, promotion=p)

    async def test_repeats_are_found_far_apart_in_one_call(self, kit: Kit) -> None:
        ids = [f"j{i}" for i in range(MANY)]
        answers = await kit.schedule(*ids, *reversed(ids), "new", unique=True)
        created = [a.created for a in answers]
        rule = "A request that occurs twice in one call is also a repeat."
        right = [True] * MANY + [False] * MANY + [True]
        wrong = [a.id for a, expected in zip(answers, right, strict=True) if a.created != expected]
        obliges("Backend.schedule", rule, created == right, jobs=len(answers), wrong=wrong)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", rule, stats.depth == MANY + 1, stats=stats)

    async def test_a_repeat_in_one_call_leaves_the_first_as_it_was(self, kit: Kit) -> None:
        first = job("a", delay_ms=LONG_MS, name="n", payload=b"first", unique=True)
        await kit.backend.schedule(kit.queue, [first, job("a", delay_ms=0, payload=b"second", unique=True)])
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", REPEAT, (stats.depth, stats.due) == (1, 0), stats=stats)
        await self._cancelled(kit, "a", repeat_with="a job due at once, in the same call")

    async def test_cancelling_a_promoted_job_does_not_free_its_id(self, kit: Kit) -> None:
        await kit.schedule("a", unique=True, delay_ms=0)
        await kit.promote(await kit.lead())
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        rule = "ALREADY_PROMOTED: the job is not waiting, and its promotion still keeps its id taken."
        obliges("Backend.cancel", rule, outcome is JobOutcome.ALREADY_PROMOTED, outcome=outcome)
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.cancel", rule, again.created is False, again=again)

    async def test_an_id_that_was_cancelled_is_as_new(self, kit: Kit) -> None:
        lease = await kit.lead()
        for round in range(3):
            (made,) = await kit.schedule("a", unique=True, payload=b"%d" % round)
            obliges("Backend.cancel", FREE, made.created is True, round=round, answer=made)
            (again,) = await kit.schedule("a", unique=True)
            obliges("Backend.schedule", REPEAT, again.created is False, round=round, again=again)
            await self._cancelled(kit, "a", round=round)
        await kit.schedule("a", unique=True, payload=b"last", delay_ms=SOON_MS)
        await self._promoted(kit, lease, 1)
        payloads = [a.envelope.payload for a in await kit.arrivals()]
        obliges("Backend.cancel", FREE, payloads == [b"last"], payloads=payloads)
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.schedule", REPEAT, again.created is False, after="its promotion", again=again)

    async def test_a_job_that_was_not_unique_leaves_no_marker(self, kit: Kit) -> None:
        lease = await kit.lead()
        for index in (True, False):
            await kit.schedule("a", delay_ms=0, index=index)
            await self._promoted(kit, lease, 1)
        (made,) = await kit.schedule("a", unique=True)
        rule = "while a unique job with this id waits"
        obliges("Backend.schedule", rule, made.created is True, before_it="jobs that were not unique", answer=made)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_a_job_that_is_not_unique_does_not_free_an_id_that_is_taken(self, kit: Kit, index: bool) -> None:
        lease = await kit.lead()
        await kit.schedule("a", unique=True, delay_ms=0)
        await self._promoted(kit, lease, 1)
        await kit.schedule("a", delay_ms=0, index=index, payload=b"plain")
        for state in ("waits", "was promoted"):
            (again,) = await kit.schedule("a", unique=True)
            obliges("Backend.schedule", REMEMBERED, again.created is False, the_other_job=state, answer=again)
            if state == "waits":
                await self._promoted(kit, lease, 1)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_a_promotion_leaves_the_next_job_with_its_id_alone(self, kit: Kit, index: bool) -> None:
        """Cleanup, as a method or fused, deletes only the index of the promoted job."""
        lease = await kit.lead()
        await kit.schedule("a", payload=b"1", delay_ms=SOON_MS, index=index)
        await kit.schedule("a", payload=b"2", index=True)
        await self._promoted(kit, lease, 1)
        rule = "and the index of a job that was scheduled meanwhile under the same id."
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges("SeparateCleanup.cleanup", rule, outcome is JobOutcome.REMOVED, outcome=outcome)
        stats = await kit.backend.stats(kit.queue)
        obliges("SeparateCleanup.cleanup", rule, stats.depth == 0, stats=stats)

    async def test_of_jobs_with_one_id_the_last_is_cancelled_and_the_first_promoted(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.schedule("a", payload=b"1", delay_ms=SOON_MS)
        await kit.schedule("a", payload=b"2", delay_ms=SOON_MS + 1)
        await self._cancelled(kit, "a", of="two")
        await self._promoted(kit, lease, 1)
        payloads = [a.envelope.payload for a in await kit.arrivals()]
        rule = "otherwise the last scheduled, if the store can tell."
        obliges("Backend.cancel", rule, len(payloads) == 1, payloads=payloads)
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        rule = "NOT_FOUND: the job is not waiting, and nothing changed."
        obliges("Backend.cancel", rule, outcome is JobOutcome.NOT_FOUND, outcome=outcome)

    @pytest.mark.parametrize("last", ["plain", "unique"])
    async def test_of_jobs_with_one_id_the_unique_one_is_cancelled(self, kit: Kit, last: str) -> None:
        """For example, a retry of a job, and the job that its producer has scheduled since."""
        for unique in (True, False) if last == "plain" else (False, True):
            payload = b"unique" if unique else b"plain"
            (answer,) = await kit.schedule("a", payload=payload, unique=unique, delay_ms=SOON_MS)
            if not answer.created:
                pytest.skip("needs a backend on which a unique job is no repeat of one that is not")
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.schedule", REPEAT, again.created is False, answer=again)
        rule = "a unique one first"
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges("Backend.cancel", rule, outcome is JobOutcome.REMOVED, outcome=outcome)
        await self._promoted(kit, await kit.lead(), 1)
        payloads = [a.envelope.payload for a in await kit.arrivals()]
        obliges("Backend.cancel", rule, payloads == [b"plain"], payloads=payloads)

    @pytest.mark.parametrize("ended", ["promoted", "promoted without a look at traces", "cancelled"])
    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_a_trace_context_is_not_inherited(self, kit: Kit, ended: str, index: bool) -> None:
        if not kit.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        lease = await kit.lead()
        delay_ms = LONG_MS if ended == "cancelled" else 0
        await kit.schedule("a", "other", delay_ms=delay_ms, traceparent=FIRST, index=index)
        if ended == "cancelled":
            await kit.backend.cancel(kit.queue, ["a", "other"])
        else:
            await kit.promote(lease, want_traces=ended == "promoted")
        await kit.schedule("a", payload=b"next", delay_ms=0, index=index)
        await kit.schedule("b", delay_ms=0, traceparent=SECOND, index=index)
        p = await kit.promote(lease, want_traces=True)
        rule = "A job never has the context of an earlier job with its id."
        obliges("Backend.promote", rule, p.promoted == 2 and p.traces == (SECOND,), the_earlier_was=ended, promotion=p)

    async def test_the_same_ids_in_two_queues_are_other_jobs(self, kit: Kit) -> None:
        """This covers everything stored for an id: its job, index, marker and trace context."""
        rule = "Queues never see one another."
        one, other = kit, kit.other()
        ids = [f"j{i}" for i in range(5)]
        await one.schedule(*ids, unique=True, delay_ms=0, payload=b"one", traceparent=FIRST)
        p = await one.promote(await one.lead(), want_traces=True)
        obliges("Backend", rule, p.promoted == len(ids), promotion=p)
        answers = await other.schedule(*ids, unique=True, delay_ms=LONG_MS, payload=b"other")
        obliges("Backend", rule, all(a.created for a in answers), promoted_in_another=ids, answers=answers)
        outcomes = await one.backend.cancel(one.queue, ids)
        obliges(
            "Backend", rule, set(outcomes) == {JobOutcome.ALREADY_PROMOTED}, waiting_in_another=ids, outcomes=outcomes
        )
        await self._cancelled(other, ids[0], promoted_in_another=True)
        (again,) = await one.schedule(ids[0], unique=True)
        obliges("Backend", rule, again.created is False, cancelled_in_another=ids[0], again=again)
        (anew,) = await other.schedule(ids[0], unique=True, delay_ms=0, payload=b"anew")
        obliges("Backend", rule, anew.created is True, cancelled=ids[0], anew=anew)
        p = await other.promote(await other.lead(), want_traces=True)
        payloads = [a.envelope.payload for a in await other.arrivals()]
        obliges("Backend", rule, (p.traces, payloads) == ((), [b"anew"]), promotion=p, payloads=payloads)

    async def test_the_same_ids_in_two_queues_have_trace_contexts_each(self, kit: Kit) -> None:
        if not kit.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        other = kit.other()
        await kit.schedule("a", delay_ms=0, traceparent=FIRST)
        await other.schedule("a", delay_ms=0, traceparent=SECOND)
        await kit.schedule("b", delay_ms=0)
        await other.schedule("c", delay_ms=0)
        for k, context in ((kit, FIRST), (other, SECOND)):
            p = await k.promote(await k.lead(), want_traces=True)
            obliges("Backend.promote", TRACES, p.traces == (context,), queue=k.queue, expected=context, promotion=p)

    async def test_an_id_that_is_remembered_no_more_is_as_new(self, kit: Kit, leap: Leap) -> None:
        lease = await kit.lead(ttl_ms=24 * HOUR_MS)
        for round in range(2):
            (made,) = await kit.schedule("a", unique=True, delay_ms=0, payload=b"%d" % round)
            obliges("Backend.schedule", REMEMBERED, made.created is True, round=round, answer=made)
            await self._promoted(kit, lease, 1)
            await leap(kit.queue, HOUR_MS - 5 * MINUTE_MS)
            (again,) = await kit.schedule("a", unique=True)
            obliges("Backend.schedule", REMEMBERED, again.created is False, round=round, again=again)
            await leap(kit.queue, 10 * MINUTE_MS)
        await kit.schedule("a", unique=True, payload=b"waits")
        await leap(kit.queue, 2 * MINUTE_MS)
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.schedule", REPEAT, again.created is False, waiting="the third", again=again)
        await self._cancelled(kit, "a", waiting="the third")

    async def _cancelled(self, kit: Kit, id: str, **seen: Any) -> None:
        """Cancel the job, which must be found and reduce the depth by one."""
        depth = (await kit.backend.stats(kit.queue)).depth
        (outcome,) = await kit.backend.cancel(kit.queue, [id])
        stats = await kit.backend.stats(kit.queue)
        removed = outcome is JobOutcome.REMOVED and stats.depth == depth - 1
        obliges("Backend.cancel", "REMOVED: the job was waiting", removed, outcome=outcome, depth_before=depth, **seen)

    async def _promoted(self, kit: Kit, lease: Any, count: int) -> Promotion:
        """Promote as soon as that many jobs are due, and only these."""
        for _ in range(1_000):
            if (await kit.backend.stats(kit.queue)).due >= count:
                break
            await kit.sleep_ms(5)
        p = await kit.promote(lease, want_traces=True)
        obliges("Backend.promote", "Move due jobs from the sorted set to the stream", p.promoted == count, promotion=p)
        return p
