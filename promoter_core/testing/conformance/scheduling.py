"""schedule, cancel, stats and read."""

from __future__ import annotations

import asyncio

from promoter_core.spi import MAX_DUE_MS, JobOutcome, Overflow, PermanentError, StreamName
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges

UNIQUE = "a repeat changes nothing and answers `created=False`"
MISSING = "NOT_FOUND: the job is not waiting, and nothing changed."


class SchedulingContract(ContractBase):
    async def test_a_delay_counts_from_the_stores_clock(self, kit: Kit) -> None:
        before = (await kit.backend.stats(kit.queue)).now_ms
        await kit.schedule("a", delay_ms=LONG_MS)
        stats = await kit.backend.stats(kit.queue)
        low, high = before + LONG_MS, stats.now_ms + LONG_MS
        ok = stats.next_due_ms is not None and low <= stats.next_due_ms <= high
        obliges("Backend.schedule", "A `delay_ms` counts from the store's clock.", ok, stats=stats, before=before)

    async def test_a_due_time_is_kept_to_the_millisecond(self, kit: Kit) -> None:
        due_ms = (await kit.backend.stats(kit.queue)).now_ms + LONG_MS + 7
        (answer,) = await kit.schedule("a", due_ms=due_ms)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", "Put jobs into the sorted set", stats.next_due_ms == due_ms, stats=stats)
        obliges(
            "Backend.schedule", "The answers are in the order of `jobs`.", (answer.id, answer.created) == ("a", True)
        )

    async def test_a_far_due_time_is_kept_too(self, kit: Kit) -> None:
        await kit.schedule("a", due_ms=MAX_DUE_MS, unique=True)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", "Put jobs into the sorted set", stats.next_due_ms == MAX_DUE_MS, stats=stats)

    async def test_a_job_due_at_once_goes_the_way_of_all_jobs(self, kit: Kit) -> None:
        rule = (
            "A job that is due now goes into the set like any other, and the next `promote` moves it by the same rules"
        )
        lease, before = await kit.lead(), (await kit.backend.stats(kit.queue)).now_ms
        context = f"00-{7:032x}-{7:016x}-01"
        await kit.schedule("zero", delay_ms=0, name="n", traceparent=context)
        await kit.sleep_ms(2)
        await kit.schedule("past", due_ms=before - 10_000)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", rule, (stats.depth, stats.due, stats.stream_len) == (2, 2, 0), stats=stats)
        p = await kit.promote(lease, max_stream_len=1, want_traces=True)
        obliges("Backend.schedule", rule, (p.promoted, p.held_back) == (1, 1), promotion=p)
        if kit.backend.capabilities.traces:
            obliges("Backend.schedule", rule, p.traces == (context,), promotion=p)
        p = await kit.promote(lease, max_stream_len=2)
        arrivals = [(a.id, a.name) for a in await kit.arrivals()]
        obliges("Backend.schedule", rule, arrivals == [("zero", "n"), ("past", None)], arrivals=arrivals)
        events = [e["id"] for e in await kit.events()]
        obliges("Backend.schedule", rule, events == ["zero", "past"], events=events)
        rule = "A due time in the past counts as now."
        now = [before <= job.due_ms <= stats.now_ms for job in p.jobs]
        obliges("Backend.schedule", rule, now == [True], before_ms=before, now_ms=stats.now_ms, jobs=p.jobs)

    async def test_a_due_time_after_the_year_9999_is_the_end_of_it(self, kit: Kit) -> None:
        await kit.schedule("a", due_ms=MAX_DUE_MS + 1)
        await kit.schedule("b", delay_ms=MAX_DUE_MS)
        stats = await kit.backend.stats(kit.queue)
        rule = "A due time after the year 9999 becomes the end of that year."
        seen = (stats.depth, stats.next_due_ms, stats.parked)
        obliges("Backend.schedule", rule, seen == (2, MAX_DUE_MS, 0), stats=stats)

    async def test_a_unique_id_is_scheduled_once(self, kit: Kit) -> None:
        first = await kit.schedule("a", unique=True)
        second = await kit.schedule("a", unique=True, payload=b"other", delay_ms=2 * LONG_MS)
        stats = await kit.backend.stats(kit.queue)
        seen = (first[0].created, second[0].created, second[0].id, stats.depth)
        obliges("Backend.schedule", UNIQUE, seen == (True, False, "a", 1), seen=seen)
        ok = stats.next_due_ms is not None and stats.next_due_ms <= stats.now_ms + LONG_MS
        obliges("Backend.schedule", UNIQUE, ok, stats=stats)

    async def test_a_unique_id_twice_in_one_call_is_scheduled_once(self, kit: Kit) -> None:
        answers = await kit.schedule("a", "b", "a", unique=True)
        created = [a.created for a in answers]
        rule = "A request that occurs twice in one call is also a repeat"
        obliges("Backend.schedule", rule, created == [True, True, False], created=created)

    async def test_a_unique_job_due_at_once_is_remembered(self, kit: Kit) -> None:
        await kit.schedule("a", unique=True, delay_ms=0)
        (waiting,) = await kit.schedule("a", unique=True, delay_ms=0)
        await kit.promote(await kit.lead())
        (promoted,) = await kit.schedule("a", unique=True, delay_ms=0)
        answers = (waiting.created, promoted.created)
        obliges("Backend.schedule", UNIQUE, answers == (False, False), answers=answers)
        obliges("Backend.schedule", UNIQUE, await kit.arrived() == ["a"])

    async def test_many_concurrent_requests_with_one_unique_id_schedule_one_job(self, kit: Kit) -> None:
        answers = await asyncio.gather(*(kit.schedule("a", unique=True, payload=b"%d" % i) for i in range(30)))
        created = [a.created for (a,) in answers]
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", "each atomically", created.count(True) == 1, created=created.count(True))
        obliges("Backend.schedule", "each atomically", stats.depth == 1, stats=stats)

    async def test_jobs_that_differ_by_id_only_are_all_kept(self, kit: Kit) -> None:
        await kit.schedule(*(f"j{i}" for i in range(10)))
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.schedule", "Put jobs into the sorted set", stats.depth == 10, stats=stats)

    async def test_many_jobs_in_one_call_are_answered_in_order(self, kit: Kit) -> None:
        await kit.schedule(*(f"j{i}" for i in range(0, 500, 7)), unique=True)
        answers = await kit.schedule(*(f"j{i}" for i in range(500)), unique=True)
        expected = [(f"j{i}", i % 7 != 0) for i in range(500)]
        seen = [(a.id, a.created) for a in answers]
        obliges("Backend.schedule", "The answers are in the order of `jobs`.", seen == expected)

    async def test_large_jobs_in_one_call_are_all_kept(self, kit: Kit) -> None:
        requests = [job(f"j{i}", payload=b"x" * 200_000, delay_ms=LONG_MS) for i in range(20)]
        answers = await kit.backend.schedule(kit.queue, requests)
        stats = await kit.backend.stats(kit.queue)
        ok = stats.depth == 20 and all(a.created for a in answers)
        obliges("Backend.schedule", "Put jobs into the sorted set", ok, stats=stats)

    async def test_jobs_with_one_id_that_are_not_unique_are_all_kept(self, kit: Kit) -> None:
        rule = "Without `unique`, a second job with the same id is another job: both wait, and both are promoted."
        await kit.due("a", payload=b"1")
        await kit.due("a", payload=b"2")
        p = await kit.promote(await kit.lead())
        payloads = [a.envelope.payload for a in await kit.arrivals()]
        obliges("Backend.schedule", rule, (p.promoted, payloads) == (2, [b"1", b"2"]), promotion=p, payloads=payloads)

    async def test_of_jobs_with_one_id_one_is_cancelled_at_a_time(self, kit: Kit) -> None:
        rule = "Of several jobs with this id, one is removed"
        for payload in (b"1", b"2"):
            await kit.schedule("a", payload=payload)
        for left in (1, 0):
            (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
            stats = await kit.backend.stats(kit.queue)
            obliges("Backend.cancel", rule, outcome is JobOutcome.REMOVED, outcome=outcome, left=left)
            obliges("Backend.cancel", rule, stats.depth == left, stats=stats)
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges("Backend.cancel", MISSING, outcome is JobOutcome.NOT_FOUND, outcome=outcome)

    async def test_a_schedule_that_is_cancelled_writes_what_it_was_given_or_nothing(self, kit: Kit) -> None:
        lease, size = await kit.lead(), 3_000
        for number in range(300):
            payload = bytes([number % 200]) * size
            under_way = asyncio.ensure_future(kit.schedule(f"j{number}", payload=payload, delay_ms=0))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
            del under_way
            _ = [b"\xee" * (size + more) for more in range(100)]  # takes the memory that the call has freed
        await kit.sleep_ms(SOON_MS * 5)  # a call that was given up may take effect yet
        await kit.empty(lease)
        arrivals, stats = await kit.arrivals(), await kit.backend.stats(kit.queue)
        wrong = [a.id for a in arrivals if a.envelope.payload != bytes([int(a.id[1:]) % 200]) * size]
        rule = "or is cancelled may or may not have taken effect (a reply can be lost), but never partially"
        obliges("Backend", rule, not wrong and stats.dlq_len == 0, wrong=wrong, stats=stats)
        ids = [a.id for a in arrivals]
        obliges("Backend", rule, len(ids) == len(set(ids)), arrived=ids)

    async def test_no_jobs_are_no_answers(self, kit: Kit) -> None:
        answers = await kit.backend.schedule(kit.queue, [])
        obliges("Backend.schedule", "The answers are in the order of `jobs`.", answers == (), answers=answers)
        outcomes = await kit.backend.cancel(kit.queue, [])
        obliges("Backend.cancel", "Remove jobs from the sorted set by id", outcomes == (), outcomes=outcomes)

    async def test_a_cancelled_job_is_never_promoted(self, kit: Kit) -> None:
        await kit.schedule("a", "b", delay_ms=SOON_MS * 5)
        (outcome,) = await kit.backend.cancel(kit.queue, ["a"])
        obliges("Backend.cancel", "REMOVED: the job was waiting", outcome is JobOutcome.REMOVED, outcome=outcome)
        await kit.sleep_ms(SOON_MS * 6)
        p = await kit.promote(await kit.lead())
        obliges("Backend.cancel", "will never be promoted", await kit.arrived() == ["b"], arrived=await kit.arrived())
        obliges("Backend.cancel", "will never be promoted", (p.promoted, p.depth) == (1, 0), promotion=p)

    async def test_cancelling_tells_what_it_found_in_the_order_asked(self, kit: Kit) -> None:
        await kit.schedule("a", "b", "c")
        await kit.schedule("plain", index=False)
        outcomes = await kit.backend.cancel(kit.queue, ["b", "never", "a", "b", "plain", "plain"])
        expected = [(o == "R" and JobOutcome.REMOVED) or JobOutcome.NOT_FOUND for o in "RNRNRN"]
        obliges("Backend.cancel", MISSING, list(outcomes) == expected, outcomes=outcomes)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.cancel", MISSING, stats.depth == 1, stats=stats)

    async def test_a_job_without_an_index_is_found_among_many(self, kit: Kit) -> None:
        for first in range(0, 2_400, 800):
            await kit.schedule(*(f"j{i:04}" for i in range(first, first + 800)))
        await kit.schedule("plain", index=False, delay_ms=LONG_MS + 5_000)
        outcomes = await kit.backend.cancel(kit.queue, ["never", "plain"])
        rule = "A job without an index is searched for"
        obliges("Backend.cancel", rule, outcomes == (JobOutcome.NOT_FOUND, JobOutcome.REMOVED), outcomes=outcomes)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.cancel", rule, stats.depth == 2_400, stats=stats)

    async def test_many_ids_are_cancelled_in_one_call(self, kit: Kit) -> None:
        ids = [f"j{i}" for i in range(1_200)]
        await kit.schedule(*ids[::2])
        await kit.schedule(*ids[1::4], index=False)
        outcomes = await kit.backend.cancel(kit.queue, ids)
        expected = [JobOutcome.NOT_FOUND if i % 4 == 3 else JobOutcome.REMOVED for i in range(len(ids))]
        obliges("Backend.cancel", "Remove jobs from the sorted set by id", list(outcomes) == expected)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.cancel", "Remove jobs from the sorted set by id", stats.depth == 0, stats=stats)

    async def test_a_cancelled_id_is_free_again(self, kit: Kit) -> None:
        await kit.schedule("a", unique=True)
        await kit.backend.cancel(kit.queue, ["a"])
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.cancel", "its id is free again", again.created is True, again=again)

    async def test_cancelling_the_head_moves_the_next_due_time(self, kit: Kit) -> None:
        await kit.schedule("a", delay_ms=LONG_MS)
        await kit.schedule("b", delay_ms=2 * LONG_MS)
        await kit.backend.cancel(kit.queue, ["a"])
        stats = await kit.backend.stats(kit.queue)
        ok = stats.next_due_ms is not None and stats.next_due_ms > stats.now_ms + LONG_MS
        obliges("Backend.cancel", "REMOVED: the job was waiting", ok and stats.depth == 1, stats=stats)

    async def test_cancel_or_promote_one_of_them_wins(self, kit: Kit) -> None:
        ids = [f"j{i:02}" for i in range(60)]
        lease = await kit.lead()
        await kit.due(*ids, delay_ms=SOON_MS)

        async def cancel(id: str) -> JobOutcome:
            (outcome,) = await kit.backend.cancel(kit.queue, [id])
            return outcome  # type: ignore[no-any-return]  # its type was checked

        _, *outcomes = await asyncio.gather(kit.drain(lease, limit=3), *(cancel(id) for id in reversed(ids)))
        await kit.drain(lease)
        cancelled = {id for id, o in zip(reversed(ids), outcomes, strict=True) if o is JobOutcome.REMOVED}
        arrived = await kit.arrived()
        rule = "each atomically, also against `promote`"
        obliges("Backend.cancel", rule, len(arrived) == len(set(arrived)), arrived=arrived)
        obliges("Backend.cancel", rule, set(arrived) == set(ids) - cancelled, arrived=arrived, cancelled=cancelled)

    async def test_queues_do_not_share_ids(self, kit: Kit) -> None:
        other = kit.other()
        await kit.schedule("a", unique=True)
        (theirs,) = await other.schedule("a", unique=True)
        obliges("Backend", "Queues never see one another.", theirs.created is True, theirs=theirs)
        await other.backend.cancel(other.queue, ["a"])
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend", "Queues never see one another.", stats.depth == 1, stats=stats)

    async def test_stats_of_a_new_queue_are_zeros(self, kit: Kit) -> None:
        s = await kit.backend.stats(kit.queue)
        seen = (s.depth, s.due, s.oldest_pending_lag_ms, s.next_due_ms, s.stream_len, s.events_len, s.dlq_len, s.holder)
        obliges(
            "Backend.stats",
            "Return a consistent snapshot of the queue",
            seen == (0, 0, 0, None, 0, 0, 0, None),
            stats=s,
        )

    async def test_stats_count_what_is_there(self, kit: Kit) -> None:
        await kit.schedule("far")
        await kit.due("a", "b")
        await kit.promote(await kit.lead(), limit=1)
        await kit.sleep_ms(5)
        s = await kit.backend.stats(kit.queue)
        seen = (s.depth, s.due, s.stream_len, s.events_len)
        obliges("Backend.stats", "Return a consistent snapshot of the queue", seen == (2, 1, 1, 1), stats=s)
        ok = s.next_due_ms is not None and s.oldest_pending_lag_ms == s.now_ms - s.next_due_ms > 0
        obliges("Backend.stats", "by the store's clock", ok, stats=s)

    async def test_stats_count_every_entry_that_the_stream_ever_had(self, kit: Kit) -> None:
        lease = await kit.lead()
        for ids in (("a", "b", "c"), ("d", "e")):
            await kit.schedule(*ids, delay_ms=0)
            # The first round has no events, so the numbers of events and entries differ.
            await kit.promote(lease, events="d" in ids, max_stream_len=1, overflow=Overflow.TRIM)
        s = await kit.backend.stats(kit.queue)
        rule = "`stream_added` counts every entry that was ever added to the stream of jobs"
        obliges("Backend.stats", rule, s.stream_added in (None, 5), promoted=5, stats=s)

    async def test_stats_change_nothing(self, kit: Kit) -> None:
        await kit.due("a")
        for _ in range(3):
            await kit.backend.stats(kit.queue)
        p = await kit.promote(await kit.lead())
        obliges("Backend.stats", "Changes nothing.", p.promoted == 1, promotion=p)

    async def test_a_stream_is_read_page_by_page(self, kit: Kit) -> None:
        for i in range(10):
            await kit.schedule(f"j{i}", delay_ms=0)
            await kit.sleep_ms(2)
        await kit.promote(await kit.lead())
        pages = [len(page) for page in await kit.pages(StreamName.JOBS, 4)]
        obliges("Backend.read", "oldest first", await kit.arrived() == [f"j{i}" for i in range(10)])
        obliges("Backend.read", "Return at most `limit` entries", pages == [4, 4, 2], pages=pages)

    async def test_reading_after_something_that_is_no_id_is_a_permanent_error(self, kit: Kit) -> None:
        await kit.due("a")
        await kit.promote(await kit.lead())
        reading = kit.backend.read(kit.queue, StreamName.JOBS, "no id", 10)
        outcome = (await asyncio.gather(reading, return_exceptions=True))[0]
        rule = "Raises PermanentError when `after` is not an id of this store."
        obliges("Backend.read", rule, isinstance(outcome, PermanentError), outcome=outcome)
