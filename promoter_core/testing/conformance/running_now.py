"""`RunNow`: a job is promoted immediately, like any promotion, without a leader and within the stream's limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from promoter_core.spi import JobChange, JobOutcome, Reschedule, RunNow, StreamName
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.delivery import ODD_TEXT
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, context_of
from promoter_core.testing.conformance.managed import FAR_MS, Managed, ManagedFixtures
from promoter_core.testing.conformance.obligations import obliges

CHANGE = "ManagementSupport.change_jobs"
WRITES = "`RunNow` writes what a promotion writes: the stream entry, a `waiting` event, and the cleanup of the index."
STAYS_TAKEN = "The id stays taken as after a promotion."
BOUND = "The stream does not grow beyond `max_stream_len`."
AT_ONCE = "Promote a job at once, regardless of whether or where a leader runs."
FULL = "MOVED when the stream is full or the job is malformed, so that it is now due"
CREATED, MOVED, PROMOTED = JobOutcome.CREATED, JobOutcome.MOVED, JobOutcome.PROMOTED
ALREADY, NOT_FOUND = JobOutcome.ALREADY_PROMOTED, JobOutcome.NOT_FOUND

SetTime = Callable[[int], Awaitable[None]]


class RunningNowContract(ManagedFixtures, ContractBase):
    @pytest.mark.parametrize("led", ["by nobody", "by another"])
    @pytest.mark.parametrize("index", [True, False], ids=["indexed", "plain"])
    @pytest.mark.parametrize("by", ["id", "handle"])
    async def test_a_job_is_run_now(self, managed: Managed, by: str, index: bool, led: str) -> None:
        if led == "by another":
            await managed.lead("another")
        await managed.schedule("a", due_ms=FAR_MS, index=index, name="n", payload=b"\0raw", attempt=2)
        await managed.schedule("b", due_ms=FAR_MS + 1, index=index)
        await managed.due("overdue", index=index)
        held = await managed.backend.stats(managed.queue)
        which = await managed.get("a") if by == "handle" else "a"
        outcomes = await managed.change(RunNow(job=which), RunNow(job=which))
        obliges("RunNow", AT_ONCE, outcomes == [PROMOTED, NOT_FOUND], outcomes=outcomes)
        arrived = [(a.id, a.name, a.envelope.payload, a.envelope.attempt) for a in await managed.arrivals()]
        obliges(CHANGE, WRITES, arrived == [("a", "n", b"\0raw", 2)], arrived=arrived)
        stats = await managed.backend.stats(managed.queue)
        ok = (stats.depth, stats.stream_len, stats.due, stats.holder) == (2, 1, 1, held.holder)
        obliges("RunNow", AT_ONCE, ok, before=held, after=stats)
        listed = await managed.listed()
        obliges("RunNow", AT_ONCE, listed == ["overdue", "b"], waiting=listed)
        (outcome,) = await managed.cancel("a")
        obliges(CHANGE, "the cleanup of the index", outcome is NOT_FOUND, cancelled=outcome)

    async def test_its_event_is_that_of_a_promotion(self, managed: Managed) -> None:
        await managed.schedule("a", due_ms=FAR_MS, name="n")
        await managed.schedule("b", "silent", due_ms=FAR_MS)
        before_ms = (await managed.backend.stats(managed.queue)).now_ms
        await managed.change(RunNow(job="b"), RunNow(job="silent", events=False), RunNow(job="a"))
        after_ms = (await managed.backend.stats(managed.queue)).now_ms
        events = await managed.events()
        seen = [{k: v for k, v in event.items() if k != "ts"} for event in events]
        right = [{"e": "waiting", "id": "b"}, {"e": "waiting", "id": "a", "n": "n"}]
        obliges(CHANGE, WRITES, seen == right, events=events, expected=right)
        in_time = all(e["ts"].isdecimal() and before_ms <= int(e["ts"]) <= after_ms for e in events)
        obliges(CHANGE, WRITES, in_time, events=events, store_ms=(before_ms, after_ms))
        arrived = await managed.arrived()
        obliges(CHANGE, WRITES, arrived == ["b", "silent", "a"], arrived=arrived)

    async def test_every_id_and_name_goes_as_it_is(self, managed: Managed) -> None:
        for i, text in enumerate(ODD_TEXT):
            await managed.schedule(text, due_ms=FAR_MS + i, name=f"{i} {text}", unique=True)
        await managed.change(*(RunNow(job=text) for text in ODD_TEXT))
        right = [(text, f"{i} {text}") for i, text in enumerate(ODD_TEXT)]
        for where, seen in (
            ("stream", [(a.id, a.name) for a in await managed.arrivals()]),
            ("events", [(e["id"], e.get("n")) for e in await managed.events()]),
        ):
            obliges(CHANGE, WRITES, seen == right, in_the=where, seen=seen)

    async def test_entries_of_both_ways_are_in_one_order(self, managed: Managed) -> None:
        """A reader that continues after the last entry it has seen finds all."""
        lease, read = await managed.lead(), list[str]()
        after = ""
        for n in range(6):
            id = f"j{n}"
            await managed.schedule(id, delay_ms=0 if n % 2 else LONG_MS)
            if n % 2:
                await managed.promote(lease)
            else:
                await managed.change(RunNow(job=id))
            for arrival in [a for a in await managed.arrivals() if a.id not in read]:
                read.append(arrival.id)
            entries = await managed.backend.read(managed.queue, StreamName.JOBS, after, 10)
            ok = len(entries) == 1
            obliges("Backend.read", 'a stream with ids after `after` ("" for the start)', ok, after=after, read=entries)
            after = entries[-1].id
        obliges("Backend.read", "oldest first", read == [f"j{n}" for n in range(6)], read=read)

    @pytest.mark.parametrize("max_stream_len", [0, 2, 3])
    async def test_a_job_that_finds_no_room_is_due_now(self, managed: Managed, max_stream_len: int) -> None:
        await managed.schedule("one", "two", "three", due_ms=FAR_MS)
        await managed.change(*(RunNow(job=id) for id in ("one", "two", "three")))
        await managed.schedule("a", due_ms=FAR_MS, unique=True, name="n")
        await managed.schedule("b", due_ms=FAR_MS)
        events = len(await managed.events())
        outcomes = await managed.change(RunNow(job="a", max_stream_len=max_stream_len))
        obliges("RunNow", FULL, outcomes == [MOVED], stream=3, max_stream_len=max_stream_len, outcomes=outcomes)
        stats = await managed.backend.stats(managed.queue)
        seen = (stats.stream_len, stats.depth, stats.due)
        obliges(CHANGE, BOUND, seen == (3, 2, 1), stats=stats, max_stream_len=max_stream_len)
        obliges("RunNow", FULL, len(await managed.events()) == events, events=await managed.events())
        due_ms = (await managed.get("a")).due_ms
        obliges("RunNow", FULL, due_ms is not None and due_ms <= stats.now_ms, due_ms=due_ms, now_ms=stats.now_ms)
        (again,) = await managed.schedule("a", unique=True)
        obliges("Backend.schedule", "KEPT while the job waits", again.outcome is JobOutcome.KEPT, repeat=again)
        p = await managed.promote(await managed.lead())
        obliges("RunNow", FULL, [(j.id, j.name) for j in p.jobs] == [("a", "n")], promotion=p)

    async def test_the_stream_is_filled_to_its_bound_and_not_beyond(self, managed: Managed) -> None:
        ids = [f"j{i}" for i in range(5)]
        await managed.schedule(*ids, due_ms=FAR_MS)
        outcomes = await managed.change(*(RunNow(job=id, max_stream_len=3) for id in ids))
        left = await managed.left()
        ok = outcomes == [PROMOTED] * 3 + [MOVED] * 2 and left == (2, 3)
        obliges(CHANGE, BOUND, ok, max_stream_len=3, outcomes=outcomes, depth_and_stream=left)
        outcomes = await managed.change(RunNow(job="j4", max_stream_len=4), RunNow(job="j3", max_stream_len=4))
        ok = outcomes == [PROMOTED, MOVED] and await managed.left() == (1, 4)
        obliges(CHANGE, BOUND, ok, max_stream_len=4, outcomes=outcomes, depth_and_stream=await managed.left())

    async def test_an_overdue_job_that_finds_no_room_stays_due(self, managed: Managed) -> None:
        await managed.due("a", "b")
        before = await managed.get("a")
        await managed.sleep_ms(SOON_MS)
        outcomes = await managed.change(RunNow(job="a", max_stream_len=0))
        after = await managed.get("a")
        rule = "A MOVED job that was already due keeps its due time."
        obliges("RunNow", rule, after.due_ms == before.due_ms, before=before, after=after)
        stats = await managed.backend.stats(managed.queue)
        ok = outcomes == [MOVED] and (stats.depth, stats.due, stats.stream_len) == (2, 2, 0)
        obliges("RunNow", FULL, ok, outcomes=outcomes, stats=stats)
        await managed.promote(await managed.lead())
        arrived = await managed.arrived()
        obliges("RunNow", FULL, arrived == ["a", "b"], arrived=arrived)

    async def test_its_events_are_trimmed(self, managed: Managed) -> None:
        ids = [f"j{i}" for i in range(400)]
        await managed.schedule(*ids, due_ms=FAR_MS)
        await managed.change(*(RunNow(job=id, events_max_stream_len=10) for id in ids))
        length = len(await managed.events())
        rule = "The stream is trimmed to about `max_stream_len`."
        obliges("SeparateEmit.emit", rule, 10 <= length <= 250, jobs=400, events_max_stream_len=10, events=length)
        obliges(CHANGE, WRITES, await managed.left() == (0, 400), depth_and_stream=await managed.left())

    async def test_its_id_stays_taken(self, managed: Managed) -> None:
        await managed.schedule("a", due_ms=FAR_MS, unique=True)
        await managed.schedule("free", due_ms=FAR_MS, unique=True, keep_id_ms=0)
        await managed.schedule("plain", due_ms=FAR_MS)
        await managed.change(*(RunNow(job=id) for id in ("a", "free", "plain")))
        again = [a.outcome for a in await managed.schedule("a", "free", "plain", unique=True, due_ms=FAR_MS)]
        obliges(CHANGE, STAYS_TAKEN, again == [ALREADY, CREATED, CREATED], repeats=again)
        outcomes = await managed.change(RunNow(job="a"), RunNow(job="free"))
        obliges("RunNow", AT_ONCE, outcomes == [ALREADY, PROMOTED], outcomes=outcomes)
        outcomes = list(await managed.cancel("a", "free", "plain"))
        right = [ALREADY, ALREADY, JobOutcome.REMOVED]  # the second job of `free` keeps its id
        obliges("Backend.cancel", "ALREADY_PROMOTED: the job is not waiting", outcomes == right, cancelled=outcomes)
        arrived = await managed.arrived()
        obliges(CHANGE, WRITES, arrived == ["a", "free", "plain", "free"], arrived=arrived)

    async def test_its_id_is_taken_from_now_and_not_from_its_due_time(
        self, managed: Managed, kit: Kit, set_time: SetTime
    ) -> None:
        now_ms = (await managed.backend.stats(managed.queue)).now_ms + 1
        await set_time(now_ms)
        await managed.schedule("a", "b", due_ms=now_ms + 24 * 3_600_000, unique=True, keep_id_ms=600_000)
        await managed.change(RunNow(job="a"), RunNow(job="b"))
        await set_time(now_ms + 500_000)
        again = [a.outcome for a in await managed.schedule("a", unique=True)]
        obliges(CHANGE, STAYS_TAKEN, again == [ALREADY], keep_id_ms=600_000, after_ms=500_000, repeat=again)
        await set_time(now_ms + 670_000)
        again = [a.outcome for a in await managed.schedule("b", unique=True)]
        obliges(CHANGE, STAYS_TAKEN, again == [CREATED], keep_id_ms=600_000, after_ms=670_000, scheduled=again)

    async def test_a_trace_context_goes_with_its_job(self, managed: Managed) -> None:
        if not managed.backend.capabilities.traces:
            pytest.skip("needs the capability traces; this backend has traces=False")
        given: dict[str, Any] = {"traceparent": f"00-{9:032x}-{9:016x}-01", "tracestate": "vendor=1"}
        await managed.schedule("a", due_ms=FAR_MS, **given)
        await managed.change(RunNow(job="a"))
        written = [context_of(a.entry.fields) for a in await managed.arrivals()]
        written += [context_of(event) for event in await managed.events()]
        obliges(CHANGE, WRITES, written == [given, given], stream_and_event=written, expected=given)
        await managed.schedule("a", payload=b"next", delay_ms=0)
        p = await managed.promote(await managed.lead(), want_traces=True)
        rule = "A job never has the context of an earlier job with its id."
        obliges("Backend.promote", rule, (p.promoted, p.traces) == (1, ()), promotion=p)

    async def test_of_jobs_with_one_id_one_is_run_at_a_time(self, managed: Managed) -> None:
        for payload in (b"1", b"2", b"3"):
            await managed.schedule("a", payload=payload, due_ms=FAR_MS)
        outcomes = [(await managed.change(RunNow(job="a")))[0] for _ in range(4)]
        right = [PROMOTED, PROMOTED, PROMOTED, NOT_FOUND]
        obliges("RunNow", AT_ONCE, outcomes == right, jobs=3, outcomes=outcomes)
        payloads = sorted(a.envelope.payload for a in await managed.arrivals())
        obliges("RunNow", AT_ONCE, payloads == [b"1", b"2", b"3"], payloads=payloads)

    async def test_a_job_that_has_just_moved_is_run(self, managed: Managed) -> None:
        await managed.schedule("a", "b", due_ms=FAR_MS, unique=True)
        shown: Any = await managed.get("a")
        changes: list[JobChange] = [Reschedule(job="a", due_ms=2 * FAR_MS), RunNow(job=shown)]
        outcomes = await managed.change(*changes)
        obliges("RunNow", AT_ONCE, outcomes == [MOVED, PROMOTED], outcomes=outcomes)
        await managed.sleep_ms(SOON_MS)
        p = await managed.promote(await managed.lead())
        ok = (p.promoted, p.depth) == (0, 1) and await managed.arrived() == ["a"]
        obliges("RunNow", AT_ONCE, ok, promotion=p, arrived=await managed.arrived())
