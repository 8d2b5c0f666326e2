"""Order by due time and among ties, in batches smaller and larger than any chunk; in the stream, `jobs` and elsewhere.

In a slow store, a due time may have passed when the job arrives, and the job is then due at that moment. So the
expected order is derived from the due times that the store reports, after these are checked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from promoter_core.spi import CHASQUIMQ, JobOutcome, JobRequest, PromotedJob, Ties
from promoter_core.testing.conformance.base import ContractBase, needs_ties
from promoter_core.testing.conformance.harness import Kit, job
from promoter_core.testing.conformance.obligations import obliges

ORDER = "Order: by due time, then by `capabilities.ties`."
EVERYWHERE = (
    "The order holds within a batch of any size, from one batch to the next, in the stream, in `jobs`, in `traces`"
)
INSERTION = "INSERTION is the order in which jobs were scheduled, including the order within a call."
FEW, MANY = 250, 1_100  # jobs: more than a chunk of 100 or 200, and of 1,000


class OrderContract(ContractBase):
    @pytest.mark.parametrize(("spread_ms", "limit"), [(1, 10_000), (1, 99), (110, 300)])
    async def test_many_jobs_are_promoted_by_due_time_and_ties(self, kit: Kit, spread_ms: int, limit: int) -> None:
        due_ms = (await kit.backend.stats(kit.queue)).now_ms + 100
        requests = [job(f"j{i:04}", due_ms=due_ms + i % spread_ms, name=f"n{i % 7}") for i in _shuffled(MANY)]
        for first in range(0, MANY, 600):
            await kit.backend.schedule(kit.queue, requests[first : first + 600])
        scheduled_ms = (await kit.backend.stats(kit.queue)).now_ms
        await self._all_due(kit, MANY, due_ms + spread_ms)
        jobs = await _promote_all(kit, limit)
        asked = {request.id: request.due_ms or 0 for request in requests}
        wrong = [j for j in jobs if not (j.due_ms == asked.get(j.id or "") or due_ms < j.due_ms <= scheduled_ms)]
        obliges("Backend.promote", ORDER, not wrong and len(jobs) == MANY, wrong_due_times=wrong, jobs=len(jobs))
        await self._in_order(kit, jobs, requests)

    async def test_jobs_due_at_once_in_one_call_keep_their_order(self, kit: Kit) -> None:
        """Their past due times do not matter: all are due now."""
        now_ms = (await kit.backend.stats(kit.queue)).now_ms
        requests = [
            job(f"j{i:04}", due_ms=now_ms - i) if i % 3 else job(f"j{i:04}", delay_ms=0) for i in _shuffled(FEW)
        ]
        await kit.backend.schedule(kit.queue, requests)
        await self._due_at_once(kit, requests)

    async def test_jobs_due_at_once_in_several_calls_keep_their_order(self, kit: Kit) -> None:
        now_ms = (await kit.backend.stats(kit.queue)).now_ms
        requests = [job(f"j{i:04}", delay_ms=0) if i % 3 else job(f"j{i:04}", due_ms=now_ms - i) for i in _shuffled(40)]
        for request in requests:
            await kit.backend.schedule(kit.queue, [request])
        await self._due_at_once(kit, requests)

    async def test_a_job_due_at_once_comes_after_those_that_were_due_before(self, kit: Kit) -> None:
        await kit.due("z")
        await kit.sleep_ms(5)
        await kit.backend.schedule(kit.queue, [job("a", delay_ms=0)])
        await kit.sleep_ms(5)
        await kit.backend.schedule(kit.queue, [job("0", due_ms=1)])
        lease = await kit.lead()
        seen = [[j.id for j in (await kit.promote(lease, limit=1)).jobs] for _ in range(3)]
        obliges("Backend.promote", ORDER, seen == [["z"], ["a"], ["0"]], promoted=seen)

    async def test_a_job_that_is_scheduled_again_takes_its_place_behind(self, kit: Kit) -> None:
        needs_ties(kit, Ties.INSERTION)
        await kit.schedule("a", "b", "c", delay_ms=0, unique=True)
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges("Backend.cancel", "REMOVED: the job was waiting", outcome is JobOutcome.REMOVED, outcome=outcome)
        await kit.schedule("b", "d", "a", delay_ms=0, unique=True)  # b is a repeat
        p = await kit.promote(await kit.lead())
        seen = [j.id for j in p.jobs]
        obliges("Backend.promote", INSERTION, seen == ["b", "c", "d", "a"], promoted=seen)

    async def test_trace_contexts_come_in_promotion_order(self, kit: Kit) -> None:
        if not kit.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        due_ms = (await kit.backend.stats(kit.queue)).now_ms + 100
        contexts = {f"j{i:04}": f"00-{i + 1:032x}-{i + 1:016x}-01" for i in range(FEW) if i % 5}
        requests = [
            job(f"j{i:04}", due_ms=due_ms + i // 3, traceparent=contexts.get(f"j{i:04}", "")) for i in _shuffled(FEW)
        ]
        await kit.backend.schedule(kit.queue, requests)
        await self._all_due(kit, FEW, due_ms + FEW // 3)
        lease, traces = await kit.lead(), []
        for limit in (7, 100, FEW):
            p = await kit.promote(lease, limit=limit, want_traces=True)
            traces.append((p.promoted, p.traces))
            expected = tuple(contexts[j.id] for j in p.jobs if j.id in contexts)
            obliges("Backend.promote", EVERYWHERE, p.traces == expected, limit=limit, traces=p.traces, jobs=p.jobs)
        total = sum(len(some) for _, some in traces)
        obliges("Backend.promote", EVERYWHERE, total == len(contexts), given=len(contexts), traces=total)

    async def _due_at_once(self, kit: Kit, requests: Sequence[JobRequest]) -> None:
        """Schedule jobs whose due times are those of their calls, so that ties decide the order."""
        jobs = await _promote_all(kit, 60)
        due_ms = {j.id: j.due_ms for j in jobs}
        in_calls = [due_ms.get(request.id, -1) for request in requests]
        rule = "A due time in the past counts as now."
        obliges("Backend.schedule", rule, in_calls == sorted(in_calls) and in_calls[0] >= 0, due_ms=in_calls)
        await self._in_order(kit, jobs, requests)

    async def _in_order(self, kit: Kit, jobs: Sequence[PromotedJob], requests: Sequence[JobRequest]) -> None:
        """Check that jobs, promoted in this order, have the order of the contract everywhere."""
        by_member = kit.backend.capabilities.ties is Ties.MEMBER
        ties: dict[str | None, Any] = {r.id: _member(r) if by_member else i for i, r in enumerate(requests)}
        names: dict[str | None, str] = {r.id: r.name for r in requests}
        told: list[Any] = [(j.id, j.name, j.due_ms) for j in jobs]
        right: list[Any] = [(j.id, names[j.id], j.due_ms) for j in sorted(jobs, key=lambda j: (j.due_ms, ties[j.id]))]
        obliges("Backend.promote", ORDER, told == right, **_first_difference(told, right))
        told = [(j.id, j.name or None, j.stream_id) for j in jobs]
        seen: list[Any] = [(a.id, a.name, a.entry.id) for a in await kit.arrivals()]
        obliges("Backend.promote", EVERYWHERE, seen == told, of="the stream", **_first_difference(seen, told))
        seen, told = [e["id"] for e in await kit.events()], [j.id for j in jobs]
        obliges("Backend.promote", EVERYWHERE, seen == told, of="the events", **_first_difference(seen, told))

    async def _all_due(self, kit: Kit, count: int, last_ms: int) -> None:
        await kit.sleep_ms(last_ms - (await kit.backend.stats(kit.queue)).now_ms)
        for _ in range(1_000):
            if (stats := await kit.backend.stats(kit.queue)).due >= count:
                return
            await kit.sleep_ms(5)
        obliges("Backend.stats", "Return a consistent snapshot of the queue", False, scheduled=count, stats=stats)


async def _promote_all(kit: Kit, limit: int) -> list[PromotedJob]:
    ticks = await kit.drain(await kit.lead(), limit=limit)  # a batch may be smaller than the limit
    return [job for tick in ticks for job in tick.jobs]


def _shuffled(count: int) -> list[int]:
    numbers = list(range(count))
    random.Random(count).shuffle(numbers)  # noqa: S311  # the same in each run
    return numbers


def _member(request: JobRequest) -> bytes:
    return CHASQUIMQ.encode_member(request.name, request.envelope)


def _first_difference(seen: Sequence[Any], expected: Sequence[Any]) -> dict[str, Any]:
    """Return where two lists differ first, for a failure message."""
    at = next(
        (i for i, (a, b) in enumerate(zip(seen, expected, strict=False)) if a != b), min(len(seen), len(expected))
    )
    return {"at": at, "seen": list(seen[at : at + 5]), "expected": list(expected[at : at + 5]), "jobs": len(seen)}
