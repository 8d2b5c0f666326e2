"""`InPlaceContract`: the obligations of an in-place layout, tested with the framework's own producer and consumer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from promoter_core.spi import (
    BackendError,
    ChangeKind,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Overflow,
    PermanentError,
    StreamName,
    SystemClock,
    in_place,
    pack_envelope,
)
from promoter_core.testing.conformance.base import Guarded, missing, optional
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges

Produce = Callable[[Sequence[float]], Awaitable[Sequence[str]]]
Consume = Callable[[], Awaitable[Sequence[str]]]
Add = Callable[[bytes, float], Awaitable[None]]

HOLDS = "All obligations of `Backend` and the other protocols hold for every layout"
MANY = 1_000  # jobs beside the framework's own scheduler
PATIENCE_S = 60.0
LATER_S = 3_600.0
# Its producer takes time to start, and some producers send due jobs without using the set.
FIRST_AHEAD_S = 4.0
LEAST_AHEAD_S = 0.8
POISON = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"null",
    b"5",
    b"[]",
    b"{}",
    b'"text"',
    b'{"queue": 5}',
    b'{"queue": {}}',
    b'{"queue": null}',
    b"{" * 5_000,
    b'{"queue": "x"',
    bytes(range(256)) * 40,
)


@pytest.mark.asyncio
class InPlaceContract(Guarded):
    """A subclass provides these fixtures:

    - `backend`: an open backend that uses the layout
    - `queue`: the name of the queue to which `produce` adds jobs
    - `produce`: `async (due_s)`, makes the framework's producer add a job for each Unix time, and returns the ids
    - `consume`: `async ()`, makes the framework's consumer take all arrived jobs, and returns each id as often as it
      arrived. Raises if the arguments differ from those of `produce`
    - `add`: `async (member, score)`, adds bytes to the sorted set
    - `spoil`: `async ()`, gives the targets a type that no layout uses, such as a hash

    Optional fixtures:

    - `golden`: `async ()`, returns all keys of a store after a promotion, and all keys of another store after the
      framework's scheduler has moved the same jobs, without the times of the move
    - `beside`: an async context manager that runs the framework's scheduler
    - `theirs`: `async ()`, returns whether the framework's scheduler acquires its lock now; if so, it keeps the lock
    - `scores`: `async ()`, returns the members of the sorted set with their scores
    - `below`: a score of members that are in the set but not delayed
    - `restricted`: `async (words)`, returns a second backend of the same layout, of a user with these ACL rules
    - `written`: `async ()`, returns the names of all keys that Promoter's scripts have written since the last call
    """

    backend: Any = missing("backend", "give your contract class a fixture `backend` that yields an open backend")
    queue: Any = missing("queue", "give your contract class a fixture `queue`: the name of the producer's queue")
    produce: Any = missing("produce", "give your contract class a fixture `produce`: async (due_s), the jobs' ids")
    consume: Any = missing("consume", "give your contract class a fixture `consume`: async (), the ids that arrived")
    add: Any = missing("add", "give your contract class a fixture `add`: async (member, score)")
    spoil: Any = missing("spoil", "give your contract class a fixture `spoil`: async ()")
    golden: Any = optional("golden", "async (): all keys after our promotion, and after their own scheduler")
    beside: Any = optional("beside", "an async context manager in whose time their own scheduler runs")
    theirs: Any = optional("theirs", "async (): whether their scheduler gets its lock")
    scores: Any = optional("scores", "async (): the members of the set with their scores")
    below: Any = optional("below", "a score of members that are in the set and not delayed")
    restricted: Any = optional("restricted", "async (words): a backend of a user with only these permissions")
    written: Any = optional("written", "async (): the keys that have been written to")

    _ahead_s = FIRST_AHEAD_S

    @pytest.fixture
    def kit(self, backend: Any, queue: str) -> Kit:
        return Kit(backend, SystemClock(), queue)

    def _soon(self) -> float:
        """Return a Unix time that the producer can schedule for, based on the duration of its last run."""
        return time.time() + self._ahead_s

    async def _timed(self, produce: Produce, dues: Sequence[float]) -> Sequence[str]:
        began = time.monotonic()
        ids = await produce(dues)
        type(self)._ahead_s = max(LEAST_AHEAD_S, 3 * (time.monotonic() - began))
        return ids

    async def _due(self, kit: Kit, produce: Produce, count: int, *, more: int = 0) -> Sequence[str]:
        """Return ids of jobs that were made before they were due, and are due now with `more` other members."""
        start = self._soon()
        ids = await self._timed(produce, [start + i / 1_000 for i in range(count)])
        end = time.monotonic() + PATIENCE_S
        while (await kit.backend.stats(kit.queue)).due < count + more and time.monotonic() < end:
            await kit.sleep_ms(20)
        return ids

    async def _empty(self, kit: Kit) -> None:
        """Promote until nothing waits."""
        lease, end = await kit.lead(), time.monotonic() + PATIENCE_S
        while (await kit.promote(lease)).depth and time.monotonic() < end:
            await kit.sleep_ms(10)
        await kit.backend.unlock(lease)

    async def test_jobs_of_their_producer_reach_their_consumer_once(
        self, kit: Kit, produce: Produce, consume: Consume
    ) -> None:
        ids = await self._due(kit, produce, 20)
        await self._empty(kit)
        arrived = await consume()
        obliges("LayoutSupport", HOLDS, sorted(arrived) == sorted(ids), arrived=arrived, produced=ids)

    async def test_no_job_arrives_early_and_none_stays(self, kit: Kit, produce: Produce, consume: Consume) -> None:
        lease, start = await kit.lead(), self._soon()
        dues = [start, start + 0.45, start + 0.95, start + LATER_S]
        ids = await self._timed(produce, dues)
        at: list[float] = []  # when each was moved
        while len(at) < 3 and time.time() < start + PATIENCE_S:
            answer = await kit.promote(lease, want_jobs=True)
            at += [answer.now_ms / 1000] * answer.promoted
            await kit.sleep_ms(5)
        early = {id: moved - due for id, due, moved in zip(ids, dues, at, strict=False) if moved < due - 0.002}
        arrived = await consume()
        obliges("LayoutSupport", HOLDS, sorted(arrived) == sorted(ids[:3]), arrived=arrived, produced=ids)
        obliges("Backend.promote", "Due: a job whose due time is at or before", not early, early_s=early)

    async def test_a_lost_lease_moves_nothing_of_theirs(self, kit: Kit, produce: Produce, consume: Consume) -> None:
        await self._due(kit, produce, 1)
        lease = await kit.lead()
        await kit.backend.unlock(lease)
        await kit.lead("another")
        answer = await kit.try_promote(lease)
        arrived, stats = await consume(), await kit.backend.stats(kit.queue)
        obliges("LayoutSupport", HOLDS, isinstance(answer, LeaseLost) and not arrived, answer=answer, arrived=arrived)
        obliges("LayoutSupport", HOLDS, stats.depth == 1, stats=stats)

    async def test_a_target_of_another_type_takes_no_member(
        self, kit: Kit, produce: Produce, spoil: Callable[[], Awaitable[None]]
    ) -> None:
        await self._due(kit, produce, 3)
        await spoil()
        error = None
        try:
            await kit.try_promote(await kit.lead())
        except BackendError as exc:
            error = exc
        stats = await kit.backend.stats(kit.queue) if error is None else None
        obliges("LayoutSupport", HOLDS, isinstance(error, PermanentError), error=error, stats=stats)

    async def test_a_full_target_holds_jobs_back_and_none_is_dropped(
        self, kit: Kit, produce: Produce, consume: Consume
    ) -> None:
        ids = await self._due(kit, produce, 6)
        lease = await kit.lead()
        answer = await kit.promote(lease, max_stream_len=4)
        obliges("LayoutSupport", HOLDS, (answer.promoted, answer.held_back) == (4, 2), promotion=answer)
        with pytest.raises(PermanentError):
            await kit.try_promote(lease, overflow=Overflow.TRIM)
        arrived = list(await consume())
        await kit.promote(lease)
        arrived += await consume()
        obliges("LayoutSupport", HOLDS, sorted(arrived) == sorted(ids), arrived=arrived, produced=ids)

    async def test_their_producer_wakes_the_promoter(self, kit: Kit, produce: Produce) -> None:
        if kit.backend.capabilities.wake != "any-write":
            pytest.skip("needs the capability wake=any-write: another program does not announce its jobs")
        await kit.promote(await kit.lead())
        for _ in range(10):  # what came before may be reported late
            if not await kit.backend.wait(kit.queue, ChangeKind.JOBS, 0.3):
                break
        else:
            obliges("Backend.wait", "waits eventually last their full time", False, woken="again and again")
        waiting = asyncio.create_task(kit.backend.wait(kit.queue, ChangeKind.JOBS, 10.0))
        await asyncio.sleep(0.05)
        await produce([time.time() + LATER_S])
        woken = await waiting
        obliges("Backend.wait", "any other write can be one", woken is True, woken=woken)

    async def test_what_is_no_job_is_kept_and_stops_nothing(
        self, kit: Kit, produce: Produce, consume: Consume, add: Add
    ) -> None:
        layout = kit.backend.layout
        past = (time.time() - 100.0) * (1_000 if layout.score is in_place.Score.MS else 1)
        for i, member in enumerate(POISON):
            await add(member, past + i)
        ids = await self._due(kit, produce, 1, more=len(POISON))
        lease = await kit.lead()
        answer, stats = await kit.promote(lease), await kit.backend.stats(kit.queue)
        dead = [entry.fields["d"] for entry in await kit.entries(StreamName.DLQ)]
        moved, every = answer.promoted + answer.malformed, len(POISON) + 1
        if isinstance(layout.moves, in_place.Lua) and "gone" in layout.moves.body:  # a member without a job is skipped
            obliges("LayoutSupport", HOLDS, 0 < moved <= every and answer.depth == 0, promotion=answer)
        else:
            obliges("LayoutSupport", HOLDS, moved == every, promotion=answer)
        obliges("LayoutSupport", HOLDS, len(dead) == answer.malformed, dead=dead, promotion=answer)
        obliges("LayoutSupport", HOLDS, set(dead) <= set(POISON), dead=dead)
        if layout.target or (isinstance(layout.moves, in_place.Lua) and layout.moves.length != "0"):
            obliges("LayoutSupport", HOLDS, stats.stream_len == answer.promoted, promotion=answer, stats=stats)
        if answer.promoted == 1:
            arrived = await consume()
            obliges("LayoutSupport", HOLDS, list(arrived) == list(ids), arrived=arrived, produced=ids)

    async def test_members_below_the_floor_stay_as_they_are(
        self, kit: Kit, produce: Produce, consume: Consume, add: Add, scores: Any, below: float
    ) -> None:
        await add(b"below", below)
        before = dict(await scores())
        ids = await self._due(kit, produce, 1)
        answer = await kit.promote(await kit.lead())
        after = {member: score for member, score in dict(await scores()).items() if member in before}
        obliges("LayoutSupport", HOLDS, after == before, before=before, after=after)
        obliges("LayoutSupport", HOLDS, (answer.promoted, answer.depth) == (1, 0), promotion=answer)
        obliges("LayoutSupport", HOLDS, answer.next_due_ms is None, promotion=answer)
        obliges("LayoutSupport", HOLDS, list(await consume()) == list(ids), produced=ids)

    async def test_the_store_is_as_after_their_own_scheduler(self, golden: Any) -> None:
        ours, theirs = await golden()
        different = {key: (ours.get(key), theirs.get(key)) for key in ours | theirs if ours.get(key) != theirs.get(key)}
        obliges("LayoutSupport", HOLDS, not different, different=different)

    async def test_beside_their_own_scheduler_each_job_arrives_once(
        self, kit: Kit, produce: Produce, consume: Consume, beside: Any
    ) -> None:
        if kit.backend.layout.beside is in_place.Beside.NEVER:
            pytest.skip("needs a layout that lets their scheduler run beside")
        start = time.time() + 2.0
        ids = await produce([start + 4.0 * i / MANY for i in range(MANY)])
        arrived: list[str] = []
        async with beside():
            end = time.monotonic() + PATIENCE_S
            while len(arrived) < MANY and time.monotonic() < end:
                lease = await kit.backend.lock(kit.queue, "leader", LONG_MS)
                if isinstance(lease, Lease):
                    await kit.backend.promote(lease, replace(REQUEST, limit=100))
                arrived += await consume()
                await kit.sleep_ms(20)
            await kit.sleep_ms(200)
            arrived += await consume()
        obliges("LayoutSupport", HOLDS, sorted(arrived) == sorted(ids), count=len(arrived), different=len(set(arrived)))

    async def test_one_lock_excludes_their_scheduler_and_ours(self, kit: Kit, theirs: Any) -> None:
        if kit.backend.layout.beside is not in_place.Beside.SHARED_LOCK:
            pytest.skip("needs a layout that shares their lock")
        lease = await kit.lead()
        obliges("Backend.lock", "At most one holder at any time.", not await theirs(), holder="ours and theirs")
        await kit.backend.unlock(lease)
        obliges("Backend.unlock", "Release the lock", await theirs(), holder="none")
        answer = await kit.backend.lock(kit.queue, "leader", LONG_MS)
        obliges("Backend.lock", "At most one holder at any time.", isinstance(answer, LeaseHeld), answer=answer)

    async def test_what_only_their_producer_can_do_is_refused_in_one_line(self, kit: Kit) -> None:
        job = JobRequest("a", pack_envelope("a", b"", 0, 0), delay_ms=0)
        for call in (kit.backend.schedule(kit.queue, [job]), kit.backend.cancel(kit.queue, ["a"])):
            with pytest.raises(PermanentError, match=f"schedule with {kit.backend.layout.owner}$"):
                await call

    async def test_the_permissions_are_enough_and_no_other_key_is_written(
        self, kit: Kit, produce: Produce, consume: Consume, restricted: Any, written: Any
    ) -> None:
        layout = kit.backend.layout
        mine = Kit(await restricted(layout.acl(kit.queue)), kit.clock, kit.queue)
        ids = await self._due(kit, produce, 3)
        await written()
        await self._empty(mine)
        await mine.backend.stats(kit.queue)
        keys, patterns = await written(), [word[1:] for word in layout.acl(kit.queue) if word.startswith("~")]
        arrived = await consume()
        outside = [key for key in keys if not any(_matches(key, pattern) for pattern in patterns)]
        obliges("LayoutSupport", HOLDS, sorted(arrived) == sorted(ids), arrived=arrived, produced=ids)
        obliges("LayoutSupport", HOLDS, not outside, keys=outside, patterns=patterns)


def _matches(key: bytes, pattern: str) -> bool:
    """Return whether a key matches a glob of an ACL in which `*` is the only wildcard."""
    start, star, rest = pattern.replace("\\", "").partition("*")
    text = key.decode("utf-8", "surrogateescape")
    return (text.startswith(start) and text.endswith(rest)) if star else text == start
