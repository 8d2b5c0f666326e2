"""Faults that show only occasionally: three jobs with one id, limits that are not reached, counts that differ."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from ulid import ULID

from promoter_core.spi import ChangeKind, JobOutcome, Overflow, StreamName, TransientError
from promoter_core.testing.conformance.base import ContractBase, needs_wake
from promoter_core.testing.conformance.harness import SOON_MS, Kit, arrival_of
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.overdue import HOUR_MS, MINUTE_MS, Leap
from promoter_core.testing.conformance.phases import StoredNames

TRIM = "the oldest entries are dropped to keep the length, approximately"
HOLD = "due jobs that find no room stay in the set"


class ParticularsContract(ContractBase):
    async def test_each_of_three_jobs_with_one_id_can_be_cancelled(self, kit: Kit) -> None:
        rule = "Of several jobs with this id, one is removed"
        for payload in (b"1", b"2", b"3"):
            await kit.schedule("a", payload=payload)
        outcomes = [(await kit.cancel("a"))[0] for _ in range(4)]
        expected = [JobOutcome.REMOVED] * 3 + [JobOutcome.NOT_FOUND]
        obliges("Backend.cancel", rule, outcomes == expected, jobs=3, outcomes=outcomes)

    async def test_a_job_that_is_not_unique_is_another_job_than_a_unique_one_with_its_id(self, kit: Kit) -> None:
        rule = "Without `unique`, a second job with the same id is another job: both wait, and both are promoted."
        await kit.schedule("a", unique=True, payload=b"1", delay_ms=SOON_MS)
        (second,) = await kit.schedule("a", payload=b"2", delay_ms=SOON_MS)
        obliges("Backend.schedule", rule, second.created is True, second=second)
        await kit.sleep_ms(SOON_MS + 5)
        await kit.empty(await kit.lead())
        payloads = sorted(arrival.envelope.payload for arrival in await kit.arrivals())
        obliges("Backend.schedule", rule, payloads == [b"1", b"2"], payloads=payloads)

    @pytest.mark.parametrize("count", [3, 4])
    async def test_nothing_is_trimmed_before_the_length_is_reached(self, kit: Kit, count: int) -> None:
        ids = [f"j{i}" for i in range(count)]
        await kit.due(*ids)
        await kit.promote(await kit.lead(), max_stream_len=4, events_max_stream_len=4, overflow=Overflow.TRIM)
        arrived, events = await kit.arrived(), [event["id"] for event in await kit.events()]
        obliges("Backend.promote", TRIM, arrived == ids, max_stream_len=4, scheduled=ids, arrived=arrived)
        rule = "The stream is trimmed to about `max_stream_len`."
        obliges("SeparateEmit.emit", rule, events == ids, max_stream_len=4, scheduled=ids, events=events)

    async def test_a_bound_that_is_lowered_drops_nothing_from_the_stream(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a", "b", "c")
        await kit.promote(lease)
        await kit.due("d")
        p = await kit.promote(lease, max_stream_len=2, overflow=Overflow.HOLD)
        arrived, seen = await kit.arrived(), (p.promoted, p.depth, p.held_back)
        obliges("Backend.promote", HOLD, seen == (0, 1, 1), max_stream_len=2, promotion=p)
        obliges("Backend.promote", HOLD, arrived == ["a", "b", "c"], max_stream_len=2, arrived=arrived)

    async def test_stats_count_each_stream_for_itself(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a", "b")
        await kit.promote(lease, events=False)
        await kit.due("c")
        await kit.promote(lease)
        stats = await kit.backend.stats(kit.queue)
        seen = (stats.stream_len, stats.events_len, stats.dlq_len)
        obliges("Backend.stats", "Return a consistent snapshot of the queue", seen == (3, 1, 0), stats=stats)

    async def test_cancelled_jobs_are_not_counted_as_due(self, kit: Kit) -> None:
        await kit.due("a", "b", "c")
        await kit.cancel("b")
        stats = await kit.backend.stats(kit.queue)
        obliges(
            "Backend.stats",
            "Return a consistent snapshot of the queue",
            (stats.depth, stats.due) == (2, 2),
            stats=stats,
        )

    async def test_the_few_that_are_left_of_many_keep_their_order(self, kit: Kit) -> None:
        places = [i * 67 % 200 for i in range(200)]  # each once
        await kit.ahead({f"j{place:03}": place // 4 for place in places})
        await kit.cancel(*(f"j{place:03}" for place in places if place % 5))
        p = await kit.promote(await kit.lead())
        left = [f"j{place:03}" for place in range(0, 200, 5)]
        rule = "Order: by due time"
        ids = [job.id for job in p.jobs]
        obliges("Backend.promote", rule, ids == left, scheduled=200, cancelled=160, expected=left, promoted=ids)

    async def test_a_unique_job_beside_one_that_is_not_is_scheduled_once_at_most(self, kit: Kit) -> None:
        await kit.schedule("a", payload=b"plain")
        rule = "It is unspecified whether a job with this id that is not unique makes a request a repeat."
        (first,) = await kit.schedule("a", unique=True, payload=b"1")
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", rule, stats.depth == 1 + first.created, first=first, stats=stats)
        (second,) = await kit.schedule("a", unique=True, payload=b"2")
        rule = "a repeat changes nothing and answers `created=False`"
        obliges("Backend.schedule", rule, second.created is False, first=first, second=second)

    async def test_each_id_is_free_again_in_its_own_time(self, kit: Kit, leap: Leap) -> None:
        lease = await kit.lead(ttl_ms=24 * HOUR_MS)
        for id in ("a", "b"):
            await kit.schedule(id, unique=True, delay_ms=SOON_MS)
            await leap(kit.queue, 40 * MINUTE_MS)
            await kit.promote(lease)
        await leap(kit.queue, 25 * MINUTE_MS)
        created = [answer.created for answer in await kit.schedule("a", "b", unique=True)]
        rule = "At the latest, the id is free a minute after that time."
        obliges("Backend.schedule", rule, created == [True, False], minutes_since=(65, 25), created=created)

    async def test_pages_go_on_behind_entries_of_one_moment(self, kit: Kit) -> None:
        lease, ids = await kit.lead(), []
        for tick in range(3):
            added = [f"{tick}-{i}" for i in range(5)]
            await kit.due(*added)
            await kit.promote(lease)
            ids += added
        pages = await kit.pages(StreamName.JOBS, 4)
        read = [arrival_of(entry).id for page in pages for entry in page]
        rule = 'a stream with ids after `after` ("" for the start), oldest first'
        obliges("Backend.read", rule, read == ids, expected=ids, read=read)

    async def test_nothing_in_the_store_is_named_after_a_cancelled_job(
        self, kit: Kit, stored_names: StoredNames
    ) -> None:
        id = f"job-{ULID()}"
        await kit.schedule(id, unique=True)
        await kit.cancel(id)
        left = [name for name in await stored_names() if id in name]
        obliges("Backend.cancel", "its index and its dedup marker are gone", not left, left=left)

    async def test_waits_end_by_themselves_while_nothing_changes(self, kit: Kit) -> None:
        needs_wake(kit)
        lease = await kit.lead()
        await kit.schedule("far")
        looks: dict[ChangeKind, Callable[[], Awaitable[object]]] = {
            ChangeKind.JOBS: lambda: kit.promote(lease),
            ChangeKind.LOCK: lambda: kit.lock("another"),
        }
        for change, look in looks.items():
            for _ in range(20):  # setting up may cause a wake or two
                await look()
                if not (changed := await kit.backend.wait(kit.queue, change, 0.05)):
                    break
            rule = "while nothing changes, waits eventually last their full time"
            obliges("Backend.wait", rule, not changed, change=change, waits=20, changed=changed)

    async def test_a_closed_backend_says_so_by_a_code(self, kit: Kit) -> None:
        await kit.backend.close()
        error = (await asyncio.gather(kit.backend.stats(kit.queue), return_exceptions=True))[0]
        closed = isinstance(error, TransientError) and error.code == "CLOSED"
        obliges("Backend.close", "Its code is `CLOSED`.", closed, error=error, code=getattr(error, "code", None))
