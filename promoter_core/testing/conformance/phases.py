"""Cleanup and emit, done by `promote` if they are fused, otherwise by a method of the backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import (
    JobOutcome,
    Lease,
    LeaseLost,
    Overflow,
    Phase,
    PromotedJob,
    SeparateCleanup,
    SeparateEmit,
    later_than,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.delivery import ODD_TEXT
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, SOON_MS, Kit
from promoter_core.testing.conformance.obligations import obliges

DROPPED = "Drop the cancel index of promoted jobs."
FUSED = "Phases in `capabilities.fused` are done as well"
ONE_EACH = "Append one `waiting` event for each job with an id to the queue's events stream, in order."

StoredNames = Callable[[], Awaitable[Collection[str]]]


class PhasesContract(ContractBase):
    @pytest.fixture
    def cleaning(self, kit: Kit) -> Any:
        needs_support(kit, SeparateCleanup)
        return kit.backend

    @pytest.fixture
    def emitting(self, kit: Kit) -> Any:
        needs_support(kit, SeparateEmit)
        return kit.backend

    async def test_one_waiting_event_a_job_in_order(self, kit: Kit) -> None:
        await kit.due("a", "b", "c", name="n")
        p = await kit.promote(await kit.lead())
        events = await kit.events()
        expected = [{"e": "waiting", "id": id, "ts": str(p.now_ms), "n": "n"} for id in "abc"]
        obliges("SeparateEmit.emit", ONE_EACH, events == expected, events=events)

    async def test_an_event_of_a_job_without_name_has_no_n(self, kit: Kit) -> None:
        await kit.due("a")
        await kit.promote(await kit.lead())
        events = await kit.events()
        ok = len(events) == 1 and sorted(events[0]) == ["e", "id", "ts"]
        obliges("SeparateEmit.emit", "and `n` (absent when empty)", ok, events=events)

    async def test_no_event_when_they_are_disabled(self, kit: Kit) -> None:
        await kit.due("a")
        await kit.promote(await kit.lead(), events=False)
        obliges("Backend.promote", "EMIT like `SeparateEmit.emit`, if `request.events`", await kit.events() == [])

    async def test_no_event_for_what_was_not_promoted(self, kit: Kit) -> None:
        await kit.schedule("far")
        await kit.promote(await kit.lead())
        obliges("SeparateEmit.emit", ONE_EACH, await kit.events() == [])

    async def test_the_events_stream_is_trimmed(self, kit: Kit) -> None:
        lease = await kit.lead()
        ids = [f"j{i}" for i in range(1000)]
        await kit.due(*ids, delay_ms=SOON_MS)
        await kit.drain(lease, limit=250, events_max_stream_len=20)
        length = len(await kit.events())
        obliges("SeparateEmit.emit", "The stream is trimmed to about", 20 <= length <= 400, length=length)

    async def test_the_cancel_index_is_dropped_and_the_dedup_marker_stays(self, kit: Kit) -> None:
        await kit.due("a", unique=True)
        await kit.promote(await kit.lead())
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges(
            "Backend.cancel",
            "ALREADY_PROMOTED: the job is not waiting, and its promotion still keeps its id taken.",
            outcome is JobOutcome.ALREADY_PROMOTED,
            outcome=outcome,
        )
        (again,) = await kit.schedule("a", unique=True)
        rule = "Their dedup markers stay, so that a late repeat by the producer is a no-op."
        obliges("SeparateCleanup.cleanup", rule, again.created is False, again=again)
        stats = await kit.backend.stats(kit.queue)
        obliges("SeparateCleanup.cleanup", rule, (stats.depth, stats.stream_len) == (0, 1), stats=stats)

    async def test_cleanup_forgets_no_other_job(self, kit: Kit) -> None:
        await kit.schedule("b")
        await kit.due("a")
        await kit.promote(await kit.lead())
        (outcome,) = await kit.backend.cancel(kit.queue, ["b"])
        obliges("SeparateCleanup.cleanup", DROPPED, outcome is JobOutcome.REMOVED)

    async def test_events_keep_every_id_and_name_as_it_is(self, kit: Kit) -> None:
        for i, text in enumerate(ODD_TEXT):
            await kit.schedule(text, delay_ms=SOON_MS + 10 * i, name=f"{i} {text}")
        await kit.sleep_ms(SOON_MS + 10 * len(ODD_TEXT))
        await kit.promote(await kit.lead())
        seen = {e["id"]: e.get("n") for e in await kit.events()}
        expected = {text: f"{i} {text}" for i, text in enumerate(ODD_TEXT)}
        obliges("SeparateEmit.emit", ONE_EACH, seen == expected, events=seen)

    async def test_nothing_in_the_store_is_named_after_a_promoted_job(
        self, kit: Kit, stored_names: StoredNames
    ) -> None:
        id = f"job-{ULID()}"
        await kit.due(id)
        await kit.promote(await kit.lead())
        left = [name for name in await stored_names() if id in name]
        obliges("SeparateCleanup.cleanup", DROPPED, not left, left=left)

    async def test_cleanup_passes_over_jobs_without_an_id_or_an_index(self, cleaning: Any, kit: Kit) -> None:
        await kit.schedule("a")
        for jobs in ([], [promoted(None), promoted("never"), promoted("never")]):
            await cleaning.cleanup(kit.queue, jobs)
        (outcome,) = await cleaning.cancel(kit.queue, ["a"])
        rule = "Skips jobs without an id or an index"
        obliges("SeparateCleanup.cleanup", rule, outcome is JobOutcome.REMOVED, outcome=outcome)

    async def test_cleanup_leaves_a_job_alone_that_was_scheduled_since(self, cleaning: Any, kit: Kit) -> None:
        await kit.due("a")
        promotion = await cleaning.promote(await kit.lead(), REQUEST)
        await kit.schedule("a")
        await cleaning.cleanup(kit.queue, promotion.jobs)
        (outcome,) = await cleaning.cancel(kit.queue, ["a"])
        rule = "and the index of a job that was scheduled meanwhile under the same id."
        obliges("SeparateCleanup.cleanup", rule, outcome is JobOutcome.REMOVED, outcome=outcome)

    async def test_emit_passes_over_jobs_without_an_id(self, emitting: Any, kit: Kit) -> None:
        await emitting.emit(kit.queue, [], 100)
        await emitting.emit(kit.queue, [promoted("a"), promoted(None), replace(promoted("b"), name="n")], 100)
        events = await kit.events()
        expected = [{"e": "waiting", "id": "a", "ts": "1001"}, {"e": "waiting", "id": "b", "ts": "1001", "n": "n"}]
        obliges("SeparateEmit.emit", ONE_EACH, events == expected, events=events)

    async def test_a_fused_cleanup_is_done_for_jobs_that_nobody_wants(
        self, kit: Kit, stored_names: StoredNames
    ) -> None:
        needs_fused(kit, Phase.CLEANUP)
        id, lease = f"job-{ULID()}", await kit.lead()
        await kit.schedule(id, delay_ms=0)
        p = await kit.backend.promote(lease, replace(REQUEST, want_jobs=False, events=False))
        left = [name for name in await stored_names() if id in name]
        obliges("Backend.promote", FUSED, p.promoted == 1 and not left, promotion=p, left=left)

    async def test_fused_events_are_written_for_jobs_that_nobody_wants(self, kit: Kit) -> None:
        needs_fused(kit, Phase.EMIT)
        lease = await kit.lead()
        await kit.due("a", "b", "c", name="n")
        p = await kit.backend.promote(lease, replace(REQUEST, want_jobs=False))
        events = await kit.events()
        expected = [{"e": "waiting", "id": id, "ts": str(p.now_ms), "n": "n"} for id in "abc"]
        obliges("Backend.promote", FUSED, events == expected, promotion=p, events=events)
        ids = [f"j{i}" for i in range(1000)]
        await kit.schedule(*ids, delay_ms=0)
        await kit.drain(lease, want_jobs=False, events_max_stream_len=20, limit=250)
        length = len(await kit.events())
        obliges("SeparateEmit.emit", "The stream is trimmed to about", 20 <= length <= 400, length=length)

    @pytest.mark.parametrize("want_jobs", [True, False], ids=["jobs", "no jobs"])
    async def test_a_promotion_says_the_same_whether_its_jobs_are_wanted(self, kit: Kit, want_jobs: bool) -> None:
        lease, now_ms = await kit.lead(), (await kit.backend.stats(kit.queue)).now_ms
        due_ms = [now_ms + ahead_ms for ahead_ms in (1, 20, 21, 22)]
        traces = [f"00-{n:032x}-{n:016x}-01" for n in range(1, 5)]
        for i, (at_ms, trace) in enumerate(zip(due_ms, traces, strict=True)):
            await kit.schedule(f"j{i}", due_ms=at_ms, unique=True, traceparent=trace)
        await kit.sleep_ms(60)
        p = await kit.backend.promote(
            lease, replace(REQUEST, want_jobs=want_jobs, want_traces=True, max_stream_len=3, limit=10)
        )
        obliges("Backend.promote", "`held_back` counts all due jobs that stay", p.held_back == 1, promotion=p)
        if not kit.backend.capabilities.traces:
            traces = []
        rule = "`traces` has the trace contexts of the promoted jobs in promotion order"
        obliges("Backend.promote", rule, p.traces == tuple(traces[:3]), promotion=p, expected=traces[:3])
        left = (p.depth, p.promoted, p.oldest_pending_lag_ms)
        rule = "describe the set *after* the move"
        obliges("Backend.promote", rule, left == (1, 3, p.now_ms - (p.next_due_ms or 0)), promotion=p)
        repeats = await kit.schedule(*(f"j{i}" for i in range(4)), unique=True)
        rule = "The same holds for `keep_id_ms` after the due time"
        obliges("Backend.schedule", rule, not any(again.created for again in repeats), repeats=repeats)

    @pytest.mark.parametrize("want_jobs", [True, False], ids=["jobs", "no jobs"])
    async def test_the_late_are_counted_whether_their_jobs_are_wanted(self, kit: Kit, want_jobs: bool) -> None:
        lease, now_ms = await kit.lead(), (await kit.backend.stats(kit.queue)).now_ms
        due_ms = [now_ms + ahead_ms for ahead_ms in (20, 60, 100)]
        for i, at_ms in enumerate(due_ms):
            await kit.schedule(f"j{i}", due_ms=at_ms)
        await kit.sleep_ms(160)
        p = await kit.backend.promote(lease, replace(REQUEST, want_jobs=want_jobs))
        if p.promoted == 3 and all(at_ms < p.now_ms for at_ms in due_ms):
            at_least = later_than(now_ms + 100, [now_ms + 20, now_ms + 60])
            rule = "`lateness_counts` counts, for each bound of `promoter_core.spi.LATENESS_MS`, the promoted jobs"
            counts = p.lateness_counts
            ok = len(counts) >= len(at_least) and all(a >= b for a, b in zip(counts, at_least, strict=False))
            obliges("Backend.promote", rule, ok, promotion=p, at_least=at_least)

    async def test_a_lost_lease_does_no_phase(self, kit: Kit) -> None:
        await kit.due("a", "b")
        await kit.lead("other")
        p = await kit.backend.promote(Lease(kit.queue, "me", LONG_MS), REQUEST)
        rule = "nothing changes and the answer is `LeaseLost`"
        obliges("Backend.promote", rule, isinstance(p, LeaseLost), answer=p)
        obliges("Backend.promote", rule, await kit.events() == [], events=await kit.events())
        outcomes = await kit.cancel("a", "b")
        obliges("Backend.promote", rule, set(outcomes) == {JobOutcome.REMOVED}, cancel=outcomes)

    async def test_phases_are_for_the_jobs_that_moved(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a", "b", "c", "d", "e", "f")
        for fields in ({"limit": 2}, {"max_stream_len": 3}, {"max_stream_len": 3}):
            await kit.promote(lease, **fields)
        arrived, events = await kit.arrived(), [e["id"] for e in await kit.events()]
        obliges("SeparateEmit.emit", ONE_EACH, events == arrived == list("abc"), events=events, arrived=arrived)
        outcomes = await kit.cancel(*"abcdef")
        expected = (JobOutcome.NOT_FOUND,) * 3 + (JobOutcome.REMOVED,) * 3
        obliges("SeparateCleanup.cleanup", DROPPED, outcomes == expected, cancel=outcomes)

    async def test_events_are_of_all_that_was_promoted_though_the_stream_is_trimmed(self, kit: Kit) -> None:
        ids = [f"j{i:03}" for i in range(300)]
        await kit.schedule(*ids, delay_ms=0)
        lease = await kit.lead()
        await kit.drain(lease, overflow=Overflow.TRIM, max_stream_len=2, limit=1000)
        events = [e["id"] for e in await kit.events()]
        obliges("SeparateEmit.emit", ONE_EACH, sorted(events) == ids, events=events)

    async def test_a_job_that_waits_keeps_its_index_when_another_with_its_id_is_promoted(self, kit: Kit) -> None:
        await kit.due("a", payload=b"1")
        await kit.schedule("a", payload=b"2")
        p = await kit.promote(await kit.lead())
        (outcome,) = await kit.cancel("a")
        stats = await kit.backend.stats(kit.queue)
        ok = p.promoted == 1 and outcome is JobOutcome.REMOVED and stats.depth == 0
        rule = "and the index of a job that was scheduled meanwhile under the same id."
        obliges("SeparateCleanup.cleanup", rule, ok, promotion=p, cancel=outcome, stats=stats)


def needs_fused(kit: Kit, phase: Phase) -> None:
    if phase not in kit.backend.capabilities.fused:
        pytest.skip(f"needs the capability fused={{{phase.name}}}: this backend has a method for it")


def promoted(id: str | None) -> PromotedJob:
    return PromotedJob(id, "", due_ms=1_000, promoted_ms=1_001, stream_id="1001-0")
