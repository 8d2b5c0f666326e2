"""`LayoutContract`: the obligations of a layout that delivers due jobs to other consumers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from promoter_core.spi import (
    BackendError,
    ChangeKind,
    JobOutcome,
    JobRequest,
    LeaseLost,
    Overflow,
    PermanentError,
    RunNow,
    StreamEntry,
    StreamName,
    SystemClock,
    ToStream,
    pack_envelope,
)
from promoter_core.testing.conformance.base import Guarded, missing, optional
from promoter_core.testing.conformance.harness import REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges

Take = Callable[[str], Awaitable[Sequence[bytes]]]
Spoil = Callable[[bytes], Awaitable[None]]

PAYLOADS = (
    b"",
    b"\x00",
    b"[]",
    b"{}",
    b'{"n": 9007199254740993, "s": "\xc3\xa9"}',
    bytes(range(256)),
    b"\r\n$3\r\n",
    b"x" * 70_000,
    b"y" * 1_100_000,
)
HOLDS = "All obligations of `Backend` and the other protocols hold for every layout"
LONG_MS = 60_000


def request(id: str, payload: bytes, **fields: Any) -> JobRequest:
    """Return a request for a job that is due now unless `fields` change that."""
    when = {} if "due_ms" in fields else {"delay_ms": 0}
    return JobRequest(id, pack_envelope(id, payload, 0, 0, index=fields.get("index", True)), **(when | fields))


@pytest.mark.asyncio
class LayoutContract(Guarded):
    """A subclass provides these fixtures:

    - `backend`: an open backend that uses the layout
    - `take`: `async (queue)`, removes and returns all payloads at the target, in the consumer's order
    - `spoil`: `async (key)`, gives the key a type that no layout uses, such as a hash
    - `add_malformed`: `async (queue, member)`, adds bytes that are not a job to the queue's sorted set, due now

    Optional fixtures:

    - `restricted`: `async (words)`, returns a second backend of the same layout, of a user with these ACL rules
    - `written`: `async ()`, returns the names of all keys that were written since the last call
    """

    backend: Any = missing("backend", "give your contract class a fixture `backend` that yields an open backend")
    take: Any = missing("take", "give your contract class a fixture `take`: async (queue), the payloads that arrived")
    spoil: Any = missing("spoil", "give your contract class a fixture `spoil`: async (key)")
    add_malformed: Any = missing("add_malformed", "give a fixture `add_malformed`: async (queue, member)")
    restricted: Any = optional("restricted", "async (words): a backend of a user with only these permissions")
    written: Any = optional("written", "async (): the keys that have been written to")

    @pytest.fixture
    def kit(self, backend: Any) -> Kit:
        return Kit(backend, SystemClock())

    async def _arrive(self, kit: Kit, take: Take, **changes: Any) -> list[bytes]:
        await kit.drain(await kit.lead(), **changes)
        return list(await take(kit.queue))

    async def _dead(self, kit: Kit) -> StreamEntry:
        """Return the only dead letter."""
        dead = await kit.entries(StreamName.DLQ)
        obliges("LayoutSupport", HOLDS, len(dead) == 1, dead=dead, expected="one dead letter")
        return dead[0]

    @pytest.mark.parametrize("index", [True, False])
    @pytest.mark.parametrize("name", ["", "send-email", "n" * 256])
    async def test_payloads_arrive_byte_for_byte_in_order(self, kit: Kit, take: Take, name: str, index: bool) -> None:
        base_ms = (await kit.backend.stats(kit.queue)).now_ms + 500
        jobs = [
            request(f"{i}" * (1 + i * 60), payload, name=name, index=index, due_ms=base_ms + i)
            for i, payload in enumerate(PAYLOADS)
        ]
        await kit.backend.schedule(kit.queue, jobs)
        while (await kit.backend.stats(kit.queue)).due < len(jobs):
            await kit.sleep_ms(20)
        arrived = await self._arrive(kit, take)
        sizes = [(len(payload), payload[:20]) for payload in arrived]
        obliges("LayoutSupport", HOLDS, arrived == list(PAYLOADS), arrived=sizes)

    async def test_nothing_arrives_early_and_what_is_due_arrives_once(self, kit: Kit, take: Take) -> None:
        await kit.backend.schedule(kit.queue, [request("later", b"later", delay_ms=LONG_MS), request("now", b"now")])
        lease = await kit.lead()
        first, again = await kit.promote(lease), await kit.promote(lease)
        arrived = await take(kit.queue)
        obliges("LayoutSupport", HOLDS, list(arrived) == [b"now"], arrived=arrived)
        obliges("LayoutSupport", HOLDS, (first.promoted, first.depth, again.promoted) == (1, 1, 0), first=first)

    async def test_a_lost_lease_writes_nothing(self, kit: Kit, take: Take) -> None:
        await kit.backend.schedule(kit.queue, [request("a", b"a")])
        lease = await kit.lead()
        await kit.backend.unlock(lease)
        await kit.lead("another")
        answer = await kit.try_promote(lease)
        arrived, stats = await take(kit.queue), await kit.backend.stats(kit.queue)
        obliges("LayoutSupport", HOLDS, isinstance(answer, LeaseLost) and not arrived, answer=answer, arrived=arrived)
        obliges("LayoutSupport", HOLDS, stats.depth == 1, stats=stats)

    async def test_a_target_of_another_type_leaves_the_set_as_it_was(self, kit: Kit, spoil: Spoil) -> None:
        jobs = [request(id, id.encode(), unique=True) for id in "abc"]
        await kit.backend.schedule(kit.queue, jobs)
        await spoil(kit.backend.layout.keys_of(kit.queue).stream)
        lease = await kit.lead()
        for overflow in Overflow:
            error = None
            try:
                await kit.try_promote(lease, overflow=overflow)
            except BackendError as exc:
                error = exc
            obliges("LayoutSupport", HOLDS, isinstance(error, PermanentError), error=error, expected="PermanentError")
        with contextlib.suppress(PermanentError):
            await kit.backend.change_jobs(kit.queue, [RunNow(job="a")])
        left = await kit.backend.get_jobs(kit.queue, ["a", "b", "c"])
        obliges("LayoutSupport", HOLDS, [job and job.envelope for job in left] == [j.envelope for j in jobs], left=left)

    async def test_a_full_target_holds_jobs_back_and_goes_on(self, kit: Kit, take: Take) -> None:
        await kit.backend.schedule(kit.queue, [request(f"{i}", b"%d" % i, due_ms=i) for i in range(10)])
        lease = await kit.lead()
        answer = await kit.promote(lease, max_stream_len=4)
        stats = await kit.backend.stats(kit.queue)
        seen = answer.promoted, answer.held_back, stats.stream_len, stats.depth
        obliges("LayoutSupport", HOLDS, seen == (4, 6, 4, 6), promotion=answer, stats=stats)
        full = await kit.promote(lease, max_stream_len=4)
        obliges("LayoutSupport", HOLDS, (full.promoted, full.held_back) == (0, 6), promotion=full)
        arrived = list(await take(kit.queue))
        rest = await kit.promote(lease, max_stream_len=6)
        arrived += await take(kit.queue)
        obliges("LayoutSupport", HOLDS, len(arrived) == 10 == len(set(arrived)), arrived=arrived, rest=rest)

    async def test_trimming_drops_the_oldest(self, kit: Kit, take: Take) -> None:
        for i in range(3):  # a stream is trimmed in steps of some hundred entries
            jobs = [request(f"{i}-{j}", b"%d" % i, index=False) for j in range(400)]
            await kit.backend.schedule(kit.queue, jobs)
            await kit.drain(await kit.lead(), max_stream_len=400, overflow=Overflow.TRIM)
        arrived = list(await take(kit.queue))
        seen = {payload: arrived.count(payload) for payload in (b"0", b"1", b"2")}
        obliges("LayoutSupport", HOLDS, seen[b"2"] == 400 and len(arrived) < 1_000, seen=seen)

    async def test_lateness_is_counted_and_told(self, kit: Kit, take: Take) -> None:
        await kit.backend.schedule(kit.queue, [request(id, b"", name="n", delay_ms=1) for id in "abc"])
        await kit.sleep_ms(30)
        answer = await kit.promote(await kit.lead(), want_jobs=True)
        late = answer.lateness_counts[:3]
        obliges("LayoutSupport", HOLDS, late == (3, 3, 3), lateness_counts=answer.lateness_counts)
        told = [(job.id, job.name) for job in answer.jobs]
        obliges("LayoutSupport", HOLDS, sorted(told) == [(id, "n") for id in "abc"], jobs=told)
        stream = isinstance(kit.backend.layout.move, ToStream)
        rule = "`PromotedJob.stream_id` is empty"
        obliges("LayoutSupport", rule, all(bool(job.stream_id) is stream for job in answer.jobs), jobs=answer.jobs)

    async def test_a_new_head_wakes(self, kit: Kit) -> None:
        await kit.promote(await kit.lead())
        waiting = asyncio.create_task(kit.backend.wait(kit.queue, ChangeKind.JOBS, 10.0))
        await asyncio.sleep(0.05)
        await kit.backend.schedule(kit.queue, [request("a", b"a")])
        if kit.backend.capabilities.wake == "poll":
            waiting.cancel()
            pytest.skip("needs the capability wake=any-write or wake=announced; this backend has wake=poll")
        woken = await waiting
        obliges("LayoutSupport", HOLDS, woken is True, woken=woken)

    async def test_what_cannot_be_delivered_is_parked_byte_for_byte_and_stops_nothing(
        self, kit: Kit, take: Take, add_malformed: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        no_payload = b"\0\0\0\0\x94\xa1a\xc0\x00\x00"  # nil in place of the payload
        bad = (b"", b"\1\2", b"\xff\xff\xff\xff" + bytes(range(256)), no_payload, b"\0\0\0\0\x94\xa1a\xc4\x05ab")
        for member in bad:
            await add_malformed(kit.queue, member)
        await kit.backend.schedule(kit.queue, [request("good", b"good")])
        arrived = await self._arrive(kit, take)
        obliges("LayoutSupport", HOLDS, arrived == [b"good"], arrived=arrived)
        dead = await kit.entries(StreamName.DLQ)
        obliges("LayoutSupport", HOLDS, sorted(e.fields["d"] for e in dead) == sorted(bad), dead=dead)

    async def test_a_dead_letter_goes_to_the_target(
        self, kit: Kit, take: Take, add_malformed: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        await add_malformed(kit.queue, b"\1")
        await kit.drain(await kit.lead())
        dead = await self._dead(kit)
        envelope = pack_envelope("again", PAYLOADS[5], 0, 0)
        moved = await kit.backend.requeue_dead_letter(kit.queue, dead.id, envelope, "n")
        gone = await kit.backend.requeue_dead_letter(kit.queue, dead.id, envelope, "n")
        arrived = await take(kit.queue)
        obliges("LayoutSupport", HOLDS, (moved, gone) == (True, False), moved=moved, again=gone)
        obliges("LayoutSupport", HOLDS, list(arrived) == [PAYLOADS[5]], arrived=arrived)

    async def test_a_job_that_runs_now_goes_to_the_target(self, kit: Kit, take: Take) -> None:
        jobs = [request(f"{i}", payload, delay_ms=LONG_MS, name="n" * (i % 2)) for i, payload in enumerate(PAYLOADS)]
        await kit.backend.schedule(kit.queue, jobs)
        outcomes = await kit.backend.change_jobs(kit.queue, [RunNow(job=job.id) for job in jobs])
        obliges("LayoutSupport", HOLDS, set(outcomes) == {JobOutcome.PROMOTED}, outcomes=outcomes)
        arrived = await take(kit.queue)
        obliges("LayoutSupport", HOLDS, list(arrived) == list(PAYLOADS), arrived=[len(payload) for payload in arrived])

    async def test_a_full_target_gets_no_job_that_runs_now(self, kit: Kit, take: Take) -> None:
        await kit.backend.schedule(kit.queue, [request("a", b"a"), request("b", b"b", delay_ms=LONG_MS)])
        await kit.drain(await kit.lead())
        outcomes = await kit.backend.change_jobs(kit.queue, [RunNow(job="b", max_stream_len=1)])
        obliges("LayoutSupport", HOLDS, list(outcomes) == [JobOutcome.MOVED], outcomes=outcomes)
        arrived = await take(kit.queue)
        obliges("LayoutSupport", HOLDS, list(arrived) == [b"a"], arrived=arrived)

    async def test_ids_are_taken_and_jobs_cancelled(self, kit: Kit, take: Take) -> None:
        jobs = [request(id, b"same", delay_ms=50, unique=True) for id in "abc"]
        await kit.backend.schedule(kit.queue, jobs)
        again = await kit.backend.schedule(kit.queue, jobs[:1])
        cancelled = await kit.backend.cancel(kit.queue, ["b"])
        await kit.sleep_ms(80)
        arrived = await self._arrive(kit, take)
        late = await kit.backend.schedule(kit.queue, jobs[:1])
        outcomes = again[0].outcome, cancelled[0], late[0].outcome
        expected = JobOutcome.KEPT, JobOutcome.REMOVED, JobOutcome.ALREADY_PROMOTED
        obliges("LayoutSupport", HOLDS, outcomes == expected, outcomes=outcomes)
        obliges("LayoutSupport", HOLDS, arrived == [b"same", b"same"], arrived=arrived)

    async def test_several_queues_are_found_and_promoted_in_one_call(self, kit: Kit, take: Take) -> None:
        kits = [kit, kit.other(), kit.other()]
        for one in kits:
            await one.backend.schedule(one.queue, [request("a", one.queue.encode())])
        leases = [await one.lead() for one in kits]
        found = {queue async for page in kit.backend.find_queues(["kit-*"]) for queue in page}
        obliges("LayoutSupport", HOLDS, {one.queue for one in kits} <= found, found=found)
        requests = [(lease, REQUEST) for lease in leases]
        answers = await kit.backend.promote_many(requests)
        obliges("LayoutSupport", HOLDS, [a.promoted for a in answers] == [1, 1, 1], answers=answers)
        if kit.backend.layout.target.count("{queue}"):
            arrived = [list(await take(one.queue)) for one in kits]
            obliges("LayoutSupport", HOLDS, arrived == [[one.queue.encode()] for one in kits], arrived=arrived)

    async def test_a_diagnosis_reaches_no_consumer(self, kit: Kit, written: Any) -> None:
        await written()
        findings = await kit.backend.diagnose()
        target = kit.backend.layout.target
        keys = await written()
        mine = [key for key in keys if not key.startswith(kit.backend.layout.start)]
        obliges("LayoutSupport", HOLDS, not mine and bool(findings), keys=keys, target=target)

    async def test_the_permissions_of_the_layout_are_enough_and_nothing_else_is_written(
        self, kit: Kit, take: Take, restricted: Any, written: Any, add_malformed: Any
    ) -> None:
        mine = kit.other(await restricted(kit.backend.layout.acl(kit.queue)))
        await written()
        lease = await mine.lead()
        await mine.backend.schedule(mine.queue, [request(id, id.encode(), unique=True, delay_ms=5) for id in "abc"])
        await add_malformed(mine.queue, b"\1")
        await mine.sleep_ms(20)
        for overflow in Overflow:
            await mine.promote(lease, overflow=overflow, want_traces=True, max_stream_len=3, limit=3)
        await mine.backend.schedule(mine.queue, [request("d", b"d", delay_ms=LONG_MS)])
        await mine.backend.change_jobs(mine.queue, [RunNow(job="d")])
        dead = await self._dead(mine)
        await mine.backend.requeue_dead_letter(mine.queue, dead.id, pack_envelope("e", b"e", 0, 0), "")
        await mine.backend.stats(mine.queue)
        await mine.backend.unlock(lease)
        k, keys = kit.backend.layout.keys_of(kit.queue), await written()
        arrived = sorted(await take(kit.queue))
        others = [key for key in keys if key != k.stream and not key.startswith(k.prefix)]
        obliges("LayoutSupport", HOLDS, not others and k.stream in keys, written=keys)
        obliges("LayoutSupport", HOLDS, set(arrived) >= {b"d", b"e"}, arrived=arrived)
