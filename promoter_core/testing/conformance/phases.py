"""Cleanup and emit, done by `promote` where they are fused and by a method of the backend where they are not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import CancelOutcome, PromotedJob, SeparateCleanup, SeparateEmit
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.delivery import ODD_TEXT
from promoter_core.testing.conformance.harness import REQUEST, SOON_MS, Kit
from promoter_core.testing.conformance.obligations import obliges

DROPPED = "Drop the cancel index of promoted jobs."
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
        obliges("Backend.promote", "EMIT as `SeparateEmit.emit` does, when `request.events`", await kit.events() == [])

    async def test_no_event_for_what_was_not_promoted(self, kit: Kit) -> None:
        await kit.schedule("far")
        await kit.promote(await kit.lead())
        obliges("SeparateEmit.emit", ONE_EACH, await kit.events() == [])

    async def test_the_events_stream_is_trimmed(self, kit: Kit) -> None:
        lease = await kit.lead()
        ids = [f"j{i}" for i in range(1000)]
        await kit.due(*ids, delay_ms=SOON_MS)
        while (await kit.promote(lease, limit=250, events_max_stream_len=20)).promoted:
            pass
        length = len(await kit.events())
        obliges("SeparateEmit.emit", "The stream is trimmed to about", 20 <= length <= 400, length=length)

    async def test_the_cancel_index_is_dropped_and_the_dedup_marker_stays(self, kit: Kit) -> None:
        await kit.due("a", unique=True)
        await kit.promote(await kit.lead())
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges(
            "Backend.cancel",
            "NOT_FOUND: it is not there, and nothing changed.",
            outcome is CancelOutcome.NOT_FOUND,
            outcome=outcome,
        )
        (again,) = await kit.schedule("a", unique=True)
        rule = "Their dedup markers stay for an hour, so that a late repeat of the producer is a no-op."
        obliges("SeparateCleanup.cleanup", rule, again.created is False, again=again)
        stats = await kit.backend.stats(kit.queue)
        obliges("SeparateCleanup.cleanup", rule, (stats.depth, stats.stream_len) == (0, 1), stats=stats)

    async def test_cleanup_forgets_no_other_job(self, kit: Kit) -> None:
        await kit.schedule("b")
        await kit.due("a")
        await kit.promote(await kit.lead())
        (outcome,) = await kit.backend.cancel(kit.queue, ["b"])
        obliges("SeparateCleanup.cleanup", DROPPED, outcome is CancelOutcome.REMOVED)

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
        rule = "Jobs without an id or an index are passed over."
        obliges("SeparateCleanup.cleanup", rule, outcome is CancelOutcome.REMOVED, outcome=outcome)

    async def test_cleanup_leaves_a_job_alone_that_was_scheduled_since(self, cleaning: Any, kit: Kit) -> None:
        await kit.due("a")
        promotion = await cleaning.promote(await kit.lead(), REQUEST)
        await kit.schedule("a")
        await cleaning.cleanup(kit.queue, promotion.jobs)
        (outcome,) = await cleaning.cancel(kit.queue, ["a"])
        rule = "So is the index of a job that was scheduled since under the same id."
        obliges("SeparateCleanup.cleanup", rule, outcome is CancelOutcome.REMOVED, outcome=outcome)

    async def test_emit_passes_over_jobs_without_an_id(self, emitting: Any, kit: Kit) -> None:
        await emitting.emit(kit.queue, [], 100)
        await emitting.emit(kit.queue, [promoted("a"), promoted(None), replace(promoted("b"), name="n")], 100)
        events = await kit.events()
        expected = [{"e": "waiting", "id": "a", "ts": "1001"}, {"e": "waiting", "id": "b", "ts": "1001", "n": "n"}]
        obliges("SeparateEmit.emit", ONE_EACH, events == expected, events=events)


def promoted(id: str | None) -> PromotedJob:
    return PromotedJob(id, "", due_ms=1_000, promoted_ms=1_001, stream_id="1001-0")
