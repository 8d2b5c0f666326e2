"""How long the id of a unique job stays taken, and the answers of a repeat and a cancellation.

An id is taken while its job waits, and for `JobRequest.keep_id_ms` afterwards. The tests allow the same tolerance of a
minute as the contract.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import KEEP_ID_MS, JobOutcome
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.overdue import HOUR_MS, MINUTE_MS, REFUSED, Leap
from promoter_core.testing.conformance.phases import StoredNames

REMEMBERED = "The same holds for `keep_id_ms` after the due time, and after a late promotion. It may end a minute early"
FREED = "At the latest, the id is free a minute after that time."
EXPIRED = "Dedup markers that have expired do not stay: the store deletes them, or later calls for the queue do"
NOT_KEPT = "with 0, the id is free as soon as the job is promoted."
FIRSTS = "`keep_id_ms` is that of the request that created the job."
WHY = "The outcome of a repeat is KEPT while the job waits, and ALREADY_PROMOTED after it was promoted."
CANCELLED = "ALREADY_PROMOTED: the job is not waiting, and its promotion still keeps its id taken."
NEVER = "NOT_FOUND: the job is not waiting, and nothing changed."
DAY_MS = 24 * HOUR_MS
YEAR_MS = 366 * DAY_MS
CREATED, KEPT, ALREADY = JobOutcome.CREATED, JobOutcome.KEPT, JobOutcome.ALREADY_PROMOTED
REMOVED, NOT_FOUND = JobOutcome.REMOVED, JobOutcome.NOT_FOUND
KEEPS = {"a minute": MINUTE_MS, "an hour": HOUR_MS, "a day": DAY_MS, "a leap year": YEAR_MS}

SetTime = Callable[[int], Awaitable[None]]


class KeptIdsContract(ContractBase):
    async def test_a_repeat_says_whether_the_job_waits_or_was_promoted(self, kit: Kit) -> None:
        for index in (True, False):
            k = kit.other()
            seen = [a.outcome for a in await k.schedule("a", "a", "b", unique=True, delay_ms=0, index=index)]
            obliges("Backend.schedule", WHY, seen == [CREATED, KEPT, CREATED], in_one_call=seen, index=index)
            seen = [a.outcome for a in await k.schedule("a", unique=True, index=index)]
            obliges("Backend.schedule", WHY, seen == [KEPT], it="is due, and waits", repeat=seen, index=index)
            await k.promote(await k.lead(), limit=1)
            seen = [a.outcome for a in await k.schedule("a", "b", "c", unique=True, index=index)]
            promoted = await k.arrived()
            right = [ALREADY if id in promoted else KEPT for id in "ab"] + [CREATED]
            obliges("Backend.schedule", WHY, seen == right, promoted=promoted, repeats=seen, index=index)

    async def test_a_cancellation_says_whether_the_job_was_promoted(self, kit: Kit) -> None:
        await kit.schedule("a", unique=True, delay_ms=0)
        await kit.schedule("free", unique=True, delay_ms=0, keep_id_ms=0)
        await kit.schedule("plain", delay_ms=0)
        await kit.schedule("gone", unique=True)
        await kit.cancel("gone")
        await kit.promote(await kit.lead())
        for _ in range(2):
            outcomes = list(await kit.cancel("never", "a", "free", "plain", "gone"))
            right = [NOT_FOUND, ALREADY, NOT_FOUND, NOT_FOUND, NOT_FOUND]
            rule = CANCELLED if outcomes[1] is not ALREADY else NEVER
            obliges("Backend.cancel", rule, outcomes == right, outcomes=outcomes, expected=right)
        answers = [a.outcome for a in await kit.schedule("a", "free", "plain", "gone", unique=True)]
        obliges("Backend.cancel", CANCELLED, answers == [ALREADY, *[CREATED] * 3], scheduled_again=answers)

    async def test_a_job_that_waits_is_cancelled_though_its_id_is_taken_by_another(self, kit: Kit) -> None:
        """A job that is not unique waits, and the marker of a promoted job with its id exists."""
        await kit.schedule("a", unique=True, delay_ms=0, payload=b"1")
        await kit.promote(await kit.lead())
        await kit.schedule("a", payload=b"2")
        (outcome,) = await kit.cancel("a")
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.cancel", "REMOVED: the job was waiting", outcome is REMOVED, outcome=outcome, stats=stats)
        obliges("Backend.cancel", "REMOVED: the job was waiting", stats.depth == 0, outcome=outcome, stats=stats)
        (anew,) = await kit.schedule("a", unique=True)
        obliges("Backend.cancel", "its id is free again", anew.outcome is CREATED, outcome=outcome, anew=anew)

    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    async def test_an_id_that_is_not_kept_is_free_as_soon_as_its_job_is_promoted(self, kit: Kit, index: bool) -> None:
        lease = await kit.lead()
        fields: dict[str, Any] = {"unique": True, "keep_id_ms": 0, "delay_ms": 0, "index": index}
        for n in range(4):
            seen = [a.outcome for a in await kit.schedule("a", "a", "b", **fields, payload=b"%d" % n)]
            obliges("Backend.schedule", NOT_KEPT, seen == [CREATED, KEPT, CREATED], round=n, answers=seen)
            await kit.empty(lease)
            outcomes = await kit.cancel("a")
            obliges("Backend.cancel", NEVER, outcomes == (NOT_FOUND,), round=n, cancelled=outcomes)
        payloads = [a.envelope.payload for a in await kit.arrivals() if a.id == "a"]
        obliges("Backend.schedule", NOT_KEPT, payloads == [b"0", b"1", b"2", b"3"], payloads=payloads)
        cancelled = await kit.schedule("a", **(fields | {"delay_ms": LONG_MS})), await kit.cancel("a")
        (anew,) = await kit.schedule("a", **fields)
        obliges("Backend.cancel", "its id is free again", anew.outcome is CREATED, before=cancelled, anew=anew)

    async def test_an_id_that_is_not_kept_is_taken_while_its_job_waits(self, kit: Kit, leap: Leap) -> None:
        await kit.schedule("a", unique=True, keep_id_ms=0, delay_ms=SOON_MS)
        for hours in (0, 1, 30):
            await leap(kit.queue, hours * HOUR_MS + SOON_MS)
            (again,) = await kit.schedule("a", unique=True, keep_id_ms=0)
            obliges("Backend.schedule", REFUSED, again.outcome is KEPT, hours=hours, repeat=again)
        p = await kit.promote(await kit.lead())
        (anew,) = await kit.schedule("a", unique=True, keep_id_ms=0)
        obliges("Backend.schedule", NOT_KEPT, anew.outcome is CREATED, hours_late=31, promotion=p, anew=anew)

    @pytest.mark.parametrize("late_ms", [0, 3 * HOUR_MS], ids=["on time", "late"])
    @pytest.mark.parametrize("keep_ms", KEEPS.values(), ids=KEEPS)
    async def test_an_id_is_kept_as_long_as_its_request_says(
        self, kit: Kit, leap: Leap, keep_ms: int, late_ms: int
    ) -> None:
        await kit.schedule("a", "b", unique=True, delay_ms=SOON_MS, keep_id_ms=keep_ms)
        await leap(kit.queue, SOON_MS + 10 + late_ms)
        p = await kit.promote(await kit.lead())
        obliges("Backend.schedule", REMEMBERED, p.promoted == 2, promotion=p)
        seen: dict[str, Any] = {"keep_id_ms": keep_ms, "promoted_ms_late": late_ms}
        if keep_ms > 2 * MINUTE_MS:
            await leap(kit.queue, keep_ms - 2 * MINUTE_MS)
            (again,) = await kit.schedule("a", unique=True)
            obliges("Backend.schedule", REMEMBERED, again.outcome is ALREADY, repeat=again, **seen)
            (outcome,) = await kit.cancel("a")
            obliges("Backend.cancel", CANCELLED, outcome is ALREADY, outcome=outcome, **seen)
            await leap(kit.queue, 2 * MINUTE_MS)
        else:
            await leap(kit.queue, keep_ms)
        await leap(kit.queue, 2 * MINUTE_MS)
        outcomes = [*await kit.cancel("b"), (await kit.schedule("b", unique=True))[0].outcome]
        obliges("Backend.schedule", FREED, outcomes == [NOT_FOUND, CREATED], cancelled_and_scheduled=outcomes, **seen)

    @pytest.mark.parametrize("late_ms", [0, 90 * MINUTE_MS], ids=["on time", "late"])
    async def test_an_id_is_kept_to_the_minute(self, kit: Kit, set_time: SetTime, late_ms: int) -> None:
        """The time starts at a late promotion, or at the due time of a job that is on time."""
        now_ms = (await kit.backend.stats(kit.queue)).now_ms + 1
        await set_time(now_ms)
        due_ms, ids = now_ms + 120 * MINUTE_MS, ("a", "b", "c", "d")
        keeps_ms = dict(zip(ids, (0, 5 * MINUTE_MS, KEEP_ID_MS, DAY_MS), strict=True))
        for id, keep_ms in keeps_ms.items():
            await kit.schedule(id, unique=True, due_ms=due_ms, keep_id_ms=keep_ms)
        await set_time(then_ms := due_ms + late_ms)
        p = await kit.promote(await kit.lead())
        obliges("Backend.schedule", REMEMBERED, p.promoted == 4, promotion=p)
        for id, keep_ms in keeps_ms.items():
            if keep_ms:
                await set_time(then_ms + keep_ms - MINUTE_MS - 1)
                (outcome,) = await kit.cancel(id)
                obliges("Backend.cancel", CANCELLED, outcome is ALREADY, keep_id_ms=keep_ms, outcome=outcome)
                (again,) = await kit.schedule(id, unique=True)
                obliges("Backend.schedule", REMEMBERED, again.outcome is ALREADY, keep_id_ms=keep_ms, repeat=again)
                await set_time(then_ms + keep_ms + MINUTE_MS + 1)
            (anew,) = await kit.schedule(id, unique=True, due_ms=due_ms + YEAR_MS)
            rule = FREED if keep_ms else NOT_KEPT
            obliges("Backend.schedule", rule, anew.outcome is CREATED, keep_id_ms=keep_ms, anew=anew)

    async def test_how_long_is_said_by_the_request_that_made_the_job(self, kit: Kit) -> None:
        for first_ms, second_ms, outcome in ((0, DAY_MS, CREATED), (KEEP_ID_MS, 0, ALREADY), (DAY_MS, 0, ALREADY)):
            k = kit.other()
            await k.schedule("a", unique=True, keep_id_ms=first_ms, delay_ms=0)
            await k.schedule("a", unique=True, keep_id_ms=second_ms, delay_ms=0)
            await k.promote(await k.lead())
            (again,) = await k.schedule("a", unique=True, keep_id_ms=second_ms)
            obliges("Backend.schedule", FIRSTS, again.outcome is outcome, keep_id_ms=(first_ms, second_ms), again=again)

    async def test_a_repeat_after_the_promotion_does_not_keep_the_id_longer(self, kit: Kit, leap: Leap) -> None:
        await kit.schedule("a", "b", unique=True, keep_id_ms=10 * MINUTE_MS, delay_ms=0)
        await kit.promote(await kit.lead())
        await leap(kit.queue, 6 * MINUTE_MS)
        await kit.schedule("a", unique=True, keep_id_ms=DAY_MS)
        (again,) = await kit.schedule("b", unique=True, keep_id_ms=0)
        obliges("Backend.schedule", FIRSTS, again.outcome is ALREADY, then="a repeat that keeps none", repeat=again)
        await leap(kit.queue, 6 * MINUTE_MS)
        outcomes = [a.outcome for a in await kit.schedule("a", "b", unique=True)]
        obliges("Backend.schedule", FREED, outcomes == [CREATED, CREATED], minutes=12, outcomes=outcomes)

    @pytest.mark.parametrize("ended", ["cancelled", "promoted"])
    async def test_the_next_job_with_an_id_is_kept_as_its_own_request_says(
        self, kit: Kit, leap: Leap, ended: str
    ) -> None:
        """The time requested for the earlier job has no effect."""
        lease = await kit.lead(ttl_ms=YEAR_MS)
        for first_ms, second_ms in ((0, KEEP_ID_MS), (MINUTE_MS, DAY_MS), (DAY_MS, MINUTE_MS), (DAY_MS, 0)):
            id = f"{first_ms}-{second_ms}"
            await kit.schedule(id, unique=True, keep_id_ms=first_ms, delay_ms=0, payload=b"1")
            if ended == "cancelled":
                await kit.cancel(id)
            else:
                await kit.empty(lease)
                await leap(kit.queue, first_ms and first_ms + 2 * MINUTE_MS)
            (made,) = await kit.schedule(id, unique=True, keep_id_ms=second_ms, delay_ms=0, payload=b"2")
            seen = {"keep_id_ms": (first_ms, second_ms), "the_first_was": ended}
            obliges("Backend.schedule", FREED, made.outcome is CREATED, second=made, **seen)
            await kit.empty(lease)
            if second_ms > 2 * MINUTE_MS:
                await leap(kit.queue, second_ms - 2 * MINUTE_MS)
                (again,) = await kit.schedule(id, unique=True)
                obliges("Backend.schedule", REMEMBERED, again.outcome is ALREADY, repeat=again, **seen)
            await leap(kit.queue, second_ms and 4 * MINUTE_MS)
            (anew,) = await kit.schedule(id, unique=True)
            obliges("Backend.schedule", FREED, anew.outcome is CREATED, anew=anew, **seen)
            await kit.cancel(id)

    async def test_many_jobs_of_one_batch_are_kept_each_as_long_as_it_says(self, kit: Kit) -> None:
        ids = [f"j{i}" for i in range(240)]
        requests = [
            job(id, delay_ms=0, unique=True, keep_id_ms=(0, 60, 1_440)[i % 3] * MINUTE_MS) for i, id in enumerate(ids)
        ]
        await kit.backend.schedule(kit.queue, requests)
        await kit.empty(await kit.lead())
        answers = [a.outcome for a in await kit.schedule(*ids, unique=True)]
        right = [CREATED if i % 3 == 0 else ALREADY for i in range(240)]
        wrong = [(r.id, r.keep_id_ms, a) for r, a, e in zip(requests, answers, right, strict=True) if a is not e]
        obliges("Backend.schedule", NOT_KEPT, not wrong, jobs=240, wrong=wrong[:10])

    async def test_without_unique_no_id_is_kept(self, kit: Kit) -> None:
        for keep_ms in (KEEP_ID_MS, DAY_MS):
            await kit.schedule("a", keep_id_ms=keep_ms, delay_ms=0, payload=b"%d" % keep_ms)
            await kit.empty(await kit.lead())
            (outcome,) = await kit.cancel("a")
            obliges("Backend.cancel", NEVER, outcome is NOT_FOUND, keep_id_ms=keep_ms, outcome=outcome)
        (made,) = await kit.schedule("a", unique=True)
        obliges("Backend.schedule", "while a unique job with this id waits", made.outcome is CREATED, made=made)

    async def test_nothing_in_the_store_is_named_after_a_job_that_is_not_kept(
        self, kit: Kit, stored_names: StoredNames
    ) -> None:
        ids = {how: f"job-{ULID()}" for how in ("promoted", "cancelled", "cancelled, kept for a day", "repeated")}
        for how, id in ids.items():
            await kit.schedule(id, unique=True, keep_id_ms=DAY_MS if "day" in how else 0, delay_ms=0)
        await kit.schedule(ids["repeated"], unique=True, keep_id_ms=DAY_MS)
        await kit.cancel(*(id for how, id in ids.items() if "cancelled" in how))
        await kit.empty(await kit.lead())
        names = await stored_names()
        left = {how: [name for name in names if id in name] for how, id in ids.items()}
        obliges("Backend.schedule", NOT_KEPT, not any(left.values()), left=left)

    async def test_expired_markers_are_deleted_in_the_end(
        self, kit: Kit, leap: Leap, stored_names: StoredNames
    ) -> None:
        lease, gained = await kit.lead(), dict[int, set[str]]()
        for keep_ms in (0, HOUR_MS):  # what a promoted job leaves in any case, and with a marker
            before = set(await stored_names())
            await kit.schedule(*(f"{keep_ms}-{ULID()}" for _ in range(20)), unique=True, delay_ms=0, keep_id_ms=keep_ms)
            await kit.empty(lease)
            gained[keep_ms] = set(await stored_names()) - before
        markers = len(gained[HOUR_MS]) - len(gained[0])
        await leap(kit.queue, HOUR_MS + 2 * MINUTE_MS)
        for n in range(3):
            await kit.schedule(f"later-{n}", unique=True, delay_ms=0, keep_id_ms=0)
            await kit.cancel("never")
            await kit.empty(await kit.lead())
        left = gained[HOUR_MS] & set(await stored_names())
        gone = len(gained[HOUR_MS]) - len(left)
        obliges("Backend.schedule", EXPIRED, gone >= markers / 2, markers=markers, deleted=gone, left=sorted(left))
