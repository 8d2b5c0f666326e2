"""Changes of waiting jobs: moves and removals, by id or by `StoredJob`, and the wakes that they cause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import (
    MAX_DUE_MS,
    ChangeKind,
    JobChange,
    JobOutcome,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
)
from promoter_core.testing.conformance.base import ContractBase, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, job
from promoter_core.testing.conformance.managed import FAR_MS, Managed, ManagedFixtures, TwoManaged, payload_of
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.phases import StoredNames
from promoter_core.testing.conformance.text import IDS
from promoter_core.testing.conformance.waiting import PATIENT_S

CHANGE = "ManagementSupport.change_jobs"
IN_ORDER = "Make changes, each atomically, also against `promote`. Outcomes are in the order of `changes`."
FIRST = "Changes of the same job take effect in the order of the call."
MOVED_KEEPS = "A moved job keeps its envelope and name byte for byte, its index and its trace context."
TAKEN = "Its id stays taken as if it had been scheduled with the new due time."
BOUNDS = "A due time in the past counts as now, one after the year 9999 as the end of that year."
NOTHING = "NOT_FOUND and ALREADY_PROMOTED change nothing."
PROMOTED_ONCE = "ALREADY_PROMOTED: the job no longer waits, and its promotion still keeps its id taken."
ITSELF = "A `StoredJob` finds its job wherever it has moved since, and no other job with its id."
WAKES = "A change that gives the set an earlier head, or removes its head, ends a wait for JOBS."
TRACE = f"00-{8:032x}-{8:016x}-01"

CREATED, KEPT, MOVED, PROMOTED, REMOVED = (
    JobOutcome.CREATED,
    JobOutcome.KEPT,
    JobOutcome.MOVED,
    JobOutcome.PROMOTED,
    JobOutcome.REMOVED,
)
ALREADY, NOT_FOUND, REPLACED = JobOutcome.ALREADY_PROMOTED, JobOutcome.NOT_FOUND, JobOutcome.REPLACED


class ChangesContract(ManagedFixtures, ContractBase):
    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    @pytest.mark.parametrize("by", ["id", "handle"])
    async def test_a_job_is_moved_to_another_due_time(self, managed: Managed, by: str, index: bool) -> None:
        for due_ms in (FAR_MS, FAR_MS - 1, 2 * FAR_MS, FAR_MS):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, index=index)
            await k.schedule("b", due_ms=FAR_MS + 1, index=index)
            which = await k.get("a") if by == "handle" else "a"
            outcomes = await k.change(Reschedule(job=which, due_ms=due_ms))
            obliges("Reschedule", "MOVED, NOT_FOUND or ALREADY_PROMOTED.", outcomes == [MOVED], outcomes=outcomes)
            seen = {j.id: j.due_ms for j in await k.walk()}
            rule = "Change a job's due time"
            obliges("Reschedule", rule, seen == {"a": due_ms, "b": FAR_MS + 1}, due_ms=due_ms, waiting=seen)
            stats = await k.backend.stats(k.queue)
            ok = (stats.depth, stats.next_due_ms) == (2, min(due_ms, FAR_MS + 1))
            obliges("Reschedule", rule, ok, due_ms=due_ms, stats=stats)

    async def test_a_delay_of_a_change_counts_from_the_stores_clock(self, managed: Managed) -> None:
        await managed.schedule("a", due_ms=FAR_MS)
        await managed.schedule("b", due_ms=FAR_MS)
        before_ms = (await managed.backend.stats(managed.queue)).now_ms
        await managed.change(Reschedule(job="a", delay_ms=LONG_MS), Reschedule(job="b", delay_ms=0))
        after_ms = (await managed.backend.stats(managed.queue)).now_ms
        rule = "to `delay_ms` from now, by the store's clock, or to `due_ms`."
        for id, delay_ms in (("a", LONG_MS), ("b", 0)):
            due_ms = (await managed.get(id)).due_ms
            ok = due_ms is not None and before_ms <= due_ms - delay_ms <= after_ms
            obliges("Reschedule", rule, ok, delay_ms=delay_ms, due_ms=due_ms, store_ms=(before_ms, after_ms))
        p = await managed.promote(await managed.lead())
        obliges("Reschedule", rule, [j.id for j in p.jobs] == ["b"], delay_ms=0, promotion=p)

    @pytest.mark.parametrize("change", ["Reschedule", "Replace"])
    async def test_a_due_time_in_the_past_is_now_and_one_beyond_the_last_is_the_last(
        self, managed: Managed, change: str
    ) -> None:
        ids = ["past", "long past", "beyond", "far beyond", "delayed beyond"]
        await managed.schedule(*ids, due_ms=FAR_MS)
        before_ms = (await managed.backend.stats(managed.queue)).now_ms
        times: list[dict[str, Any]] = [
            {"due_ms": before_ms - 1},
            {"due_ms": 1},
            {"due_ms": MAX_DUE_MS + 1},
            {"due_ms": 2**53},
            {"delay_ms": MAX_DUE_MS},
        ]
        changes: list[JobChange] = [
            Reschedule(job=id, **at) if change == "Reschedule" else Replace(request=job(id, payload=b"new", **at))
            for id, at in zip(ids, times, strict=True)
        ]
        await managed.change(*changes)
        after_ms = (await managed.backend.stats(managed.queue)).now_ms
        for id in ids:
            due_ms = (await managed.get(id)).due_ms
            ok = due_ms is not None and (before_ms <= due_ms <= after_ms if "past" in id else due_ms == MAX_DUE_MS)
            obliges(CHANGE, BOUNDS, ok, change=change, id=id, due_ms=due_ms, store_ms=(before_ms, after_ms))
        stats = await managed.backend.stats(managed.queue)
        obliges(CHANGE, BOUNDS, (stats.due, stats.parked) == (2, 0), stats=stats)

    @pytest.mark.parametrize("unique", [True, False], ids=["unique", "not unique"])
    async def test_a_moved_job_keeps_all_but_its_due_time(self, managed: Managed, unique: bool) -> None:
        rest: dict[str, Any] = {"unique": unique, "traceparent": TRACE, "keep_id_ms": 86_400_000}
        envelope: dict[str, Any] = {"payload": b"\xc1\0raw", "attempt": 3, "created_at_ms": 1}
        for name in ("", "näme\0"):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, name=name, **envelope, **rest)
            before = await k.get("a")
            for due_ms in (FAR_MS + 5, FAR_MS - 5):
                await k.change(Reschedule(job="a", due_ms=due_ms))
                after = await k.get("a")
                ok = replace(after, handle=b"") == replace(before, handle=b"", due_ms=due_ms)
                obliges(CHANGE, MOVED_KEEPS, ok, before=before, after=after)
            await k.change(Reschedule(job="a", delay_ms=0))
            p = await k.promote(await k.lead(), want_traces=True)
            arrivals = [(a.envelope.payload, a.envelope.attempt, a.name) for a in await k.arrivals()]
            obliges(CHANGE, MOVED_KEEPS, arrivals == [(b"\xc1\0raw", 3, name or None)], arrivals=arrivals)
            traces = (TRACE,) if k.backend.capabilities.traces else ()
            obliges(CHANGE, MOVED_KEEPS, p.traces == traces, promotion=p)

    async def test_a_moved_job_can_be_cancelled_and_its_id_is_taken(self, managed: Managed) -> None:
        for due in ({"due_ms": FAR_MS + 1}, {"delay_ms": LONG_MS}, {"delay_ms": 0}):
            k = managed.other()
            await k.schedule("a", due_ms=FAR_MS, unique=True)
            await k.change(Reschedule(job="a", **due))
            (again,) = await k.schedule("a", unique=True)
            obliges(CHANGE, TAKEN, again.outcome is KEPT, moved_to=due, repeat=again)
            outcomes = [*await k.cancel("a"), *await k.cancel("a")]
            obliges(CHANGE, "its index", outcomes == [REMOVED, NOT_FOUND], moved_to=due, cancelled=outcomes)
            (anew,) = await k.schedule("a", unique=True)
            obliges("Backend.cancel", "its id is free again", anew.outcome is CREATED, moved_to=due, anew=anew)

    async def test_a_moved_job_is_promoted_at_its_new_time_alone(self, managed: Managed) -> None:
        await managed.schedule("sooner", due_ms=FAR_MS, unique=True)
        await managed.schedule("later", delay_ms=0, unique=True)
        await managed.change(Reschedule(job="later", due_ms=FAR_MS), Reschedule(job="sooner", delay_ms=0))
        p = await managed.promote(await managed.lead())
        ok = ([j.id for j in p.jobs], p.depth, p.next_due_ms) == (["sooner"], 1, FAR_MS)
        obliges("Reschedule", "Change a job's due time", ok, promotion=p)
        answers = await managed.schedule("sooner", "later", unique=True)
        outcomes = [a.outcome for a in answers]
        obliges(CHANGE, TAKEN, outcomes == [ALREADY, KEPT], repeats=outcomes)

    async def test_a_change_of_what_does_not_wait_changes_nothing(self, managed: Managed) -> None:
        await managed.schedule("kept", "free", delay_ms=SOON_MS, unique=True)
        await managed.change(Reschedule(job="free", delay_ms=0))
        await managed.schedule("plain", delay_ms=0)
        await managed.schedule("gone", due_ms=FAR_MS, unique=True)
        shown = {id: await managed.get(id) for id in ("kept", "plain", "gone")}
        await managed.cancel("gone", "free")
        await managed.sleep_ms(SOON_MS + 5)
        await managed.empty(await managed.lead())
        await managed.schedule("stays", due_ms=FAR_MS)
        before = await managed.left(), len(await managed.events())
        expected = {"kept": ALREADY, "plain": NOT_FOUND, "gone": NOT_FOUND, "free": NOT_FOUND, "never": NOT_FOUND}
        for id, outcome in expected.items():
            both: tuple[str | StoredJob | None, ...] = (id, shown.get(id))
            for which in both:
                if which is None:
                    continue
                keep_due = Replace(request=job(id, due_ms=FAR_MS), keep_due=True)
                changes: list[JobChange] = [
                    Reschedule(job=which, delay_ms=0),
                    RunNow(job=which),
                    Remove(job=which),
                    *([keep_due] if which is id else []),
                ]
                outcomes = await managed.change(*changes)
                obliges(CHANGE, PROMOTED_ONCE, set(outcomes) == {outcome}, job=which, expected=outcome, seen=outcomes)
        after = await managed.left(), len(await managed.events())
        obliges(CHANGE, NOTHING, before == after, waiting_and_in_the_streams=(before, after))
        listed = await managed.listed()
        obliges(CHANGE, NOTHING, listed == ["stays"], listed=listed)
        outcomes = [a.outcome for a in await managed.schedule(*expected, unique=True)]
        obliges(CHANGE, NOTHING, outcomes == [ALREADY, *[CREATED] * 4], scheduled_again=outcomes)

    async def test_a_removed_job_is_as_one_that_was_cancelled(self, managed: Managed) -> None:
        for by in ("id", "handle"):
            k = managed.other()
            await k.schedule("a", "b", unique=True, keep_id_ms=86_400_000, due_ms=FAR_MS)
            which = await k.get("a") if by == "handle" else "a"
            outcomes = await k.change(Remove(job=which), Remove(job=which))
            rule = "Remove a job from the sorted set. Outcomes: REMOVED, NOT_FOUND or ALREADY_PROMOTED."
            obliges("Remove", rule, outcomes == [REMOVED, NOT_FOUND], by=by, outcomes=outcomes)
            obliges("Remove", rule, await k.listed() == ["b"], by=by, listed=await k.listed())
            (anew,) = await k.schedule("a", unique=True, payload=b"anew")
            rule = "it will never be promoted, and its id is free again"
            obliges("Backend.cancel", "its id is free again", anew.outcome is CREATED, by=by, anew=anew)
            (outcome,) = await k.cancel("a")
            obliges("Backend.cancel", "REMOVED: the job was waiting", outcome is REMOVED, by=by, outcome=outcome)

    async def test_many_changes_of_one_call_are_answered_in_their_order(self, managed: Managed) -> None:
        ids = [f"j{i}" for i in range(300)]
        await managed.schedule(*ids, due_ms=FAR_MS, unique=True)
        changes: list[JobChange] = []
        expected: list[JobOutcome] = []
        for i, id in enumerate(ids):
            those: list[tuple[JobChange, JobOutcome]] = [
                (Reschedule(job=id, due_ms=FAR_MS + 1), MOVED),
                (RunNow(job=id), PROMOTED),
                (Remove(job=id), REMOVED),
                (Remove(job=f"no-{id}"), NOT_FOUND),
                (Replace(request=job(id, payload=b"new", due_ms=FAR_MS + 2)), REPLACED),
                (Replace(request=job(f"new-{id}", due_ms=FAR_MS + 3)), CREATED),
            ]
            changes.append(those[i % 6][0])
            expected.append(those[i % 6][1])
        outcomes = await managed.change(*changes)
        wrong = [(i, a, b) for i, (a, b) in enumerate(zip(outcomes, expected, strict=True)) if a is not b]
        obliges(CHANGE, IN_ORDER, not wrong, changes=len(changes), wrong=wrong[:10])
        left = await managed.left()
        obliges(CHANGE, IN_ORDER, left == (250, 50), depth_and_stream=left)
        outcomes = await managed.change()
        obliges(CHANGE, IN_ORDER, outcomes == [], changes=[], outcomes=outcomes)

    async def test_changes_of_one_job_take_effect_in_their_order(self, managed: Managed) -> None:
        await managed.schedule("a", "b", due_ms=FAR_MS, unique=True)
        request = job("a", payload=b"new", due_ms=FAR_MS + 1, unique=True)
        outcomes = await managed.change(
            Reschedule(job="a", due_ms=FAR_MS + 7),
            Replace(request=request, keep_due=True),
            Reschedule(job="b", due_ms=FAR_MS + 2),
            Remove(job="a"),
            Reschedule(job="a", delay_ms=0),
            Replace(request=request),
            RunNow(job="b"),
            RunNow(job="b"),
            Reschedule(job="a", due_ms=FAR_MS + 9),
        )
        right = [MOVED, REPLACED, MOVED, REMOVED, NOT_FOUND, CREATED, PROMOTED, ALREADY, MOVED]
        obliges(CHANGE, FIRST, outcomes == right, outcomes=outcomes, expected=right)
        seen = [(j.id, j.due_ms, payload_of(j)) for j in await managed.walk()]
        obliges(CHANGE, FIRST, seen == [("a", FAR_MS + 9, b"new")], waiting=seen)

    async def test_a_stored_job_finds_itself_among_jobs_with_its_id(self, managed: Managed) -> None:
        for payload in (b"1", b"2", b"3", b"4"):
            await managed.schedule("a", payload=payload, due_ms=FAR_MS)
        by_payload = {payload_of(j): j for j in await managed.walk()}
        obliges("ManagementSupport", ITSELF, len(by_payload) == 4, listed=by_payload)
        outcomes = await managed.change(
            Reschedule(job=by_payload[b"2"], due_ms=FAR_MS + 1),
            Remove(job=by_payload[b"1"]),
            RunNow(job=by_payload[b"3"]),
            Reschedule(job=by_payload[b"2"], due_ms=FAR_MS + 2),
            Remove(job=by_payload[b"1"]),
            RunNow(job=by_payload[b"3"]),
        )
        right = [MOVED, REMOVED, PROMOTED, MOVED, NOT_FOUND, NOT_FOUND]
        obliges("ManagementSupport", ITSELF, outcomes == right, outcomes=outcomes, expected=right)
        seen = {payload_of(j): j.due_ms for j in await managed.walk()}
        obliges("ManagementSupport", ITSELF, seen == {b"2": FAR_MS + 2, b"4": FAR_MS}, waiting=seen)
        arrived = [a.envelope.payload for a in await managed.arrivals()]
        obliges("ManagementSupport", ITSELF, arrived == [b"3"], arrived=arrived)
        outcomes = [*await managed.cancel("a"), *await managed.cancel("a"), *await managed.cancel("a")]
        rule = "Of several jobs with this id, one is removed"
        obliges("Backend.cancel", rule, outcomes == [REMOVED, REMOVED, NOT_FOUND], outcomes=outcomes)

    @pytest.mark.parametrize("went", ["cancelled", "replaced", "promoted", "run now"])
    async def test_a_stored_job_is_not_the_next_one_with_its_id(self, managed: Managed, went: str) -> None:
        fields: dict[str, Any] = {"unique": True, "keep_id_ms": 0, "due_ms": FAR_MS}
        await managed.schedule("a", payload=b"old", **fields)
        old = await managed.get("a")
        if went == "promoted":
            await managed.change(Reschedule(job=old, delay_ms=0))
            await managed.promote(await managed.lead())
        elif went == "replaced":
            await managed.change(Replace(request=job("a", payload=b"new", **fields)))
        else:
            await managed.change(RunNow(job="a") if went == "run now" else Remove(job="a"))
        await managed.schedule("a", payload=b"new", **fields)
        changes: tuple[JobChange, ...] = (Reschedule(job=old, delay_ms=0), RunNow(job=old), Remove(job=old))
        outcomes = await managed.change(*changes)
        obliges("ManagementSupport", ITSELF, set(outcomes) == {NOT_FOUND}, went=went, outcomes=outcomes)
        seen = [(payload_of(j), j.due_ms) for j in await managed.walk()]
        obliges("ManagementSupport", ITSELF, seen == [(b"new", FAR_MS)], went=went, waiting=seen)

    async def test_a_stored_job_of_another_process_is_as_good(self, two_managed: TwoManaged) -> None:
        mine, theirs = two_managed()
        await mine.schedule("a", "b", due_ms=FAR_MS, index=False)
        shown: list[StoredJob] = await theirs.walk()
        await mine.change(Reschedule(job="a", due_ms=FAR_MS + 1))
        outcomes = await mine.change(*(Remove(job=j) for j in shown))
        obliges("ManagementSupport", ITSELF, outcomes == [REMOVED, REMOVED], outcomes=outcomes)
        obliges("ManagementSupport", ITSELF, await mine.left() == (0, 0), left=await mine.left())

    async def test_ids_that_look_alike_are_changed_apart(self, managed: Managed) -> None:
        exactly = "Queue names, ids, names and holders are compared and returned exactly"
        await managed.schedule(*IDS, due_ms=FAR_MS, unique=True)
        moved, removed, ran = IDS[::3], IDS[1::3], IDS[2::3]
        changes: list[JobChange] = [*(Reschedule(job=id, due_ms=FAR_MS + 1) for id in moved)]
        outcomes = await managed.change(*changes, *(Remove(job=id) for id in removed), *(RunNow(job=id) for id in ran))
        right = [MOVED] * len(moved) + [REMOVED] * len(removed) + [PROMOTED] * len(ran)
        obliges("Backend", exactly, outcomes == right, outcomes=outcomes)
        left = {j.id: j.due_ms for j in await managed.walk()}
        obliges("Backend", exactly, left == dict.fromkeys(moved, FAR_MS + 1), moved=moved, waiting=left)
        arrived = await managed.arrived()
        obliges("Backend", exactly, arrived == ran, run_now=ran, arrived=arrived)
        events = [event["id"] for event in await managed.events()]
        obliges("Backend", exactly, events == ran, run_now=ran, events=events)

    async def test_nothing_in_the_store_is_named_after_a_job_that_was_changed(
        self, managed: Managed, stored_names: StoredNames
    ) -> None:
        ids = {how: f"job-{ULID()}" for how in ("removed", "run", "moved and run", "replaced and run", "by itself")}
        fields: dict[str, Any] = {"unique": True, "keep_id_ms": 0, "traceparent": TRACE, "due_ms": FAR_MS}
        await managed.schedule(*ids.values(), **fields)
        by_itself = await managed.get(ids["by itself"])
        anew = job(ids["replaced and run"], payload=b"new", **fields)
        changes: tuple[JobChange, ...] = (
            Reschedule(job=ids["moved and run"], due_ms=FAR_MS + 1),
            Replace(request=anew),
            Remove(job=ids["removed"]),
            Remove(job=by_itself),
            *(RunNow(job=id, events=False) for how, id in ids.items() if "run" in how),
        )
        outcomes = await managed.change(*changes)
        ok = outcomes == [MOVED, REPLACED, REMOVED, REMOVED, PROMOTED, PROMOTED, PROMOTED]
        obliges(CHANGE, IN_ORDER, ok, outcomes=outcomes)
        names = await stored_names()
        left = {how: [name for name in names if id in name] for how, id in ids.items()}
        obliges(CHANGE, "and the cleanup of the index.", not any(left.values()), left=left)

    @pytest.mark.parametrize(
        "what", ["earlier head", "head moved", "head removed", "head run", "head replaced", "new head"]
    )
    async def test_a_change_of_the_head_ends_a_wait_of_another_process(
        self, two_managed: TwoManaged, what: str
    ) -> None:
        mine, theirs = two_managed()
        needs_wake(mine)
        await mine.schedule("head", delay_ms=LONG_MS, unique=True)
        await mine.schedule("second", delay_ms=2 * LONG_MS)
        lease = await mine.lead()
        for _ in range(20):  # setting up may cause a wake or two
            await mine.promote(lease)
            if not await mine.backend.wait(mine.queue, ChangeKind.JOBS, 0.05):
                break
        changes: dict[str, JobChange] = {
            "earlier head": Reschedule(job="second", delay_ms=LONG_MS // 2),
            "head moved": Reschedule(job="head", delay_ms=5 * LONG_MS),
            "head removed": Remove(job="head"),
            "head run": RunNow(job="head"),
            "head replaced": Replace(request=job("head", payload=b"new", delay_ms=5 * LONG_MS)),
            "new head": Replace(request=job("new", delay_ms=LONG_MS // 2)),
        }
        await _wakes(mine, lambda: theirs.change(changes[what]), what)

    async def test_a_job_that_is_run_into_a_full_stream_is_a_head_that_ends_a_wait(
        self, two_managed: TwoManaged
    ) -> None:
        mine, theirs = two_managed()
        needs_wake(mine)
        await mine.schedule("head", delay_ms=LONG_MS)
        await mine.schedule("a", delay_ms=2 * LONG_MS)
        lease = await mine.lead()
        for _ in range(20):
            await mine.promote(lease)
            if not await mine.backend.wait(mine.queue, ChangeKind.JOBS, 0.05):
                break
        await _wakes(mine, lambda: theirs.change(RunNow(job="a", max_stream_len=0)), "a full stream")


async def _wakes(mine: Managed, change: Callable[[], Awaitable[Any]], what: str) -> None:
    began_s = mine.clock.monotonic()
    waiting = asyncio.ensure_future(mine.backend.wait(mine.queue, ChangeKind.JOBS, PATIENT_S))
    await mine.sleep_ms(20)
    outcomes = await change()
    woken = await waiting and mine.clock.monotonic() - began_s < PATIENT_S
    obliges(CHANGE, WAKES, bool(woken), change=what, outcomes=outcomes, the_wait_ended=woken)
