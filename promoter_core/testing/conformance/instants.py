"""The exact limits of leases, due times, lateness and markers, to the millisecond.

Needs the fixture `set_time`, which stops the store's clock at a given time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from ulid import ULID

from promoter_core.spi import LATENESS_MS, Clock, FleetSupport, Lease, LeaseHeld, Promotion, Renewal, later_than
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.interleaving import STEPS, meet
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend

TTL_MS = 1_500
MINUTE_MS = 60_000
ENDS = "a lease belongs to its holder in every millisecond before its end, and to nobody a millisecond after it."
ANEW = "A lease that restarts ends `ttl_ms` from now, whether that is later or earlier than before."
DUE = "Due: a job whose due time is at or before the store's clock."
COUNTS = "`lateness_counts` counts, for each bound of `promoter_core.spi.LATENESS_MS`, the promoted jobs"
REMEMBERED = "The same holds for `keep_id_ms` after the due time, and after a late promotion. It may end a minute early"
FREED = "At the latest, the id is free a minute after that time."

SetTime = Callable[[int], Awaitable[None]]


class InstantsContract(ContractBase):
    @pytest_asyncio.fixture
    async def now_ms(self, kit: Kit, set_time: SetTime) -> int:
        """Stop the store's clock, and return its time."""
        now_ms: int = (await kit.backend.stats(kit.queue)).now_ms + 1
        await set_time(now_ms)
        return now_ms

    async def test_the_clock_is_the_one_that_was_set(self, kit: Kit, now_ms: int, set_time: SetTime) -> None:
        for ahead_ms in (0, 1, 61_000):
            await set_time(now_ms + ahead_ms)
            stats = await kit.backend.stats(kit.queue)
            seen = {"set": now_ms + ahead_ms, "stats": stats}
            obliges("Backend.stats", "by the store's clock", stats.now_ms == now_ms + ahead_ms, **seen)

    @pytest.mark.parametrize("after_ms", [-1, 0, 1], ids=["before", "at", "after"])
    async def test_a_lease_ends_at_one_moment_for_all_methods(
        self, kit: Kit, now_ms: int, set_time: SetTime, after_ms: int
    ) -> None:
        queues = {name: kit.other() for name in ("lock", "stats", "promote", "unlock")}
        if isinstance(kit.backend, FleetSupport):
            queues |= {name: kit.other() for name in ("renew_many", "lock_many", "promote_many")}
        for k in queues.values():
            await k.lead("a", TTL_MS)
        await set_time(now_ms + TTL_MS + after_ms)
        answers = {name: await asked(k, name) for name, k in queues.items()}
        held = {name: answer in (True, "a") or isinstance(answer, LIVING) for name, answer in answers.items()}
        seen = {"milliseconds_after_the_end": after_ms, "it_was_held_according_to": held, "answers": answers}
        ok = len(set(held.values())) == 1 and held["lock"] in {-1: (True,), 0: (True, False), 1: (False,)}[after_ms]
        obliges("Backend.lock", ENDS, ok, **seen)
        if after_ms == -1:
            left = answers["lock"].remaining_ms
            obliges("Backend.lock", "the remaining time of the other lease", left == 1, remaining_ms=left)

    @pytest.mark.parametrize("ttl_ms", [2_500, 300], ids=["longer", "shorter"])
    @pytest.mark.parametrize("by", ["lock", "promote", "renew_many"])
    async def test_a_lease_that_starts_anew_ends_in_time(
        self, kit: Kit, now_ms: int, set_time: SetTime, by: str, ttl_ms: int
    ) -> None:
        if by == "renew_many":
            needs_support(kit, FleetSupport)
        await kit.lead("a", TTL_MS)
        await set_time(now_ms + TTL_MS - 1)
        lease = Lease(kit.queue, "a", ttl_ms)
        match by:
            case "lock":
                await kit.lock("a", ttl_ms)
            case "promote":
                await kit.backend.promote(lease, REQUEST)
            case _:
                await kit.backend.renew_many([lease])
        for after_ms, held in ((-ttl_ms, True), (-1, True), (1, False)):
            await set_time(now_ms + TTL_MS - 1 + ttl_ms + after_ms)
            stats = await kit.backend.stats(kit.queue)
            left_ms = -after_ms if held else None
            ok = (stats.holder is not None, stats.lease_remaining_ms) == (held, left_ms)
            obliges("Backend.lock", ANEW, ok, milliseconds_after_the_end=after_ms, stats=stats)

    async def test_nothing_is_promoted_once_the_lease_ended_and_another_leads(
        self, pair: Any, clock: Clock, kit: Kit, now_ms: int, set_time: SetTime
    ) -> None:
        for step in STEPS:
            mine = Kit(CheckedBackend(pair[0]), clock)
            theirs = mine.other(CheckedBackend(pair[1]))
            now_ms = (await kit.backend.stats(kit.queue)).now_ms
            lease = await mine.lead("a", TTL_MS)
            await mine.schedule("x", "y", delay_ms=0)

            async def take_over(theirs: Kit = theirs, ends_ms: int = now_ms + TTL_MS) -> Any:
                await set_time(ends_ms + 1)
                await theirs.lock("b")
                return await theirs.backend.stats(theirs.queue)

            answer, seen, held = await meet(mine.backend.promote(lease, REQUEST), step, take_over())
            after = await mine.backend.stats(mine.queue)
            said = {"promote": answer, "when_another_led": seen, "later": after, "held_at_step": step}
            ok = (seen.holder, after.holder, after.depth) == ("b", "b", seen.depth)
            # A promotion just before has restarted the lease, so nobody else leads yet.
            ok = ok or (seen.holder, seen.depth) == ("a", 0)
            rule = "unless `lease.holder` holds the lock and it has not expired, nothing changes"
            obliges("Backend.promote", rule, ok, **said)
            if not held:
                break

    async def test_a_job_is_due_from_its_own_millisecond_on(self, kit: Kit, now_ms: int, set_time: SetTime) -> None:
        lease, due_ms = await kit.lead(), now_ms + 1_000
        await kit.schedule("a", due_ms=due_ms)
        await kit.schedule("b", delay_ms=1_000)
        for late_ms in (-1, 0, 1):
            await set_time(due_ms + late_ms)
            due, lag_ms = late_ms >= 0, max(late_ms, 0)
            stats = await kit.backend.stats(kit.queue)
            ok = (stats.due, stats.oldest_pending_lag_ms, stats.next_due_ms) == (2 * due, lag_ms, due_ms)
            obliges("Backend.stats", "by the store's clock", ok, stats=stats, late_ms=late_ms)
            answer = await kit.lock("b")
            ok = isinstance(answer, LeaseHeld) and answer.oldest_pending_lag_ms == lag_ms
            obliges("Backend.lock", "how late the oldest pending job is.", ok, answer=answer, late_ms=late_ms)
            if isinstance(kit.backend, FleetSupport):
                (renewal,) = await kit.backend.renew_many([lease])
                ok = renewal == Renewal(due_ms + late_ms, due, due_ms)
                rule = "with what is due and what comes next, by the store's clock"
                obliges("FleetSupport.renew_many", rule, ok, renewal=renewal, late_ms=late_ms)
            if late_ms == 0:
                continue  # its promotion follows below
            p = await kit.promote(lease, limit=1)
            ok = (p.promoted, p.oldest_pending_lag_ms, p.next_due_ms) == (due, lag_ms, due_ms)
            obliges("Backend.promote", DUE, ok, promotion=p, late_ms=late_ms)

    async def test_a_job_is_promoted_in_its_own_millisecond(self, kit: Kit, now_ms: int, set_time: SetTime) -> None:
        lease, due_ms = await kit.lead(), now_ms + 1_000
        await kit.schedule("a", due_ms=due_ms)
        await kit.schedule("b", due_ms=due_ms + 1)
        await set_time(due_ms)
        p = await kit.promote(lease)
        ok = (p.promoted, p.next_due_ms, p.oldest_pending_lag_ms, p.now_ms) == (1, due_ms + 1, 0, due_ms)
        obliges("Backend.promote", DUE, ok and await kit.arrived() == ["a"], promotion=p)
        obliges("Backend.promote", COUNTS, p.lateness_counts == (), promotion=p)
        times = [(j.due_ms, j.promoted_ms) for j in p.jobs]
        obliges("Backend.promote", "`now_ms` is the store's clock", times == [(due_ms, due_ms)], promotion=p)
        events = [e["ts"] for e in await kit.events()]
        obliges("SeparateEmit.emit", "`ts` (`promoted_ms`)", events == [str(due_ms)], events=events)

    @pytest.mark.parametrize("want_jobs", [True, False], ids=["jobs", "no jobs"])
    async def test_lateness_is_counted_to_the_millisecond(
        self, kit: Kit, now_ms: int, set_time: SetTime, want_jobs: bool
    ) -> None:
        late_ms = sorted({ms + more for ms in (0, *LATENESS_MS) for more in (0, 1)})
        then_ms = now_ms + max(late_ms)
        for ms in late_ms:
            await kit.schedule(f"late-{ms}", due_ms=then_ms - ms)
        lease = await kit.lead(ttl_ms=10 * LONG_MS)
        await set_time(then_ms)
        for limit in (5, 20, 100):  # the latest jobs come first
            p = await kit.backend.promote(lease, replace(REQUEST, limit=limit, want_jobs=want_jobs))
            moved = [late_ms.pop() for _ in range(p.promoted)] if isinstance(p, Promotion) else []
            expected = later_than(then_ms, [then_ms - ms for ms in moved])
            obliges("Backend.promote", COUNTS, bool(moved) and p.lateness_counts == expected, promotion=p, late=moved)

    @pytest.mark.parametrize("late_ms", [0, 30 * MINUTE_MS], ids=["on time", "late"])
    async def test_an_id_is_remembered_for_an_hour_and_no_longer(
        self, kit: Kit, now_ms: int, set_time: SetTime, late_ms: int
    ) -> None:
        ids = ["a", "b"]
        due_ms = now_ms + 120 * MINUTE_MS
        await kit.schedule(*ids, unique=True, due_ms=due_ms)
        then_ms = due_ms + late_ms
        await set_time(then_ms)
        p = await kit.promote(await kit.lead())
        obliges("Backend.promote", DUE, p.promoted == 2, promotion=p)
        await set_time(then_ms + 59 * MINUTE_MS)
        (again,) = await kit.schedule("a", unique=True)
        obliges("Backend.schedule", REMEMBERED, again.created is False, again=again)
        await set_time(then_ms + 61 * MINUTE_MS)
        (again,) = await kit.schedule("b", unique=True)
        obliges("Backend.schedule", FREED, again.created is True, again=again)

    async def test_a_member_is_one_in_every_millisecond_of_its_term(
        self, kit: Kit, now_ms: int, set_time: SetTime
    ) -> None:
        needs_support(kit, FleetSupport)
        for after_ms, names, left_ms in ((-1, {"a", "b"}, 1), (1, {"b"}, None)):
            group, start_ms = f"group-{ULID()}", (await kit.backend.stats(kit.queue)).now_ms
            await kit.backend.join_group(group, "a", TTL_MS)
            await set_time(start_ms + TTL_MS + after_ms)
            members = await kit.backend.join_group(group, "b", TTL_MS)
            ok = (members.names, members.next_expiry_ms) == (names, left_ms)
            rule = "Join a group for `ttl_ms` milliseconds of the store's clock"
            obliges("FleetSupport.join_group", rule, ok, members=members, milliseconds_after_the_end=after_ms)


LIVING = (LeaseHeld, Promotion, Renewal)  # valid replies while the lease of "a" is held


async def asked(kit: Kit, method: str) -> Any:
    """Return the answer of a method while "a" holds the lock, or after it has expired."""
    lease = Lease(kit.queue, "a", TTL_MS)
    match method:
        case "lock":
            return await kit.lock("b")
        case "stats":
            return (await kit.backend.stats(kit.queue)).holder
        case "promote":
            return await kit.backend.promote(lease, REQUEST)
        case "unlock":
            return await kit.backend.unlock(lease)
        case "lock_many":
            return (await kit.backend.lock_many([kit.queue], "b", TTL_MS))[0]
        case "promote_many":
            return (await kit.backend.promote_many([(lease, REQUEST)]))[0]
        case _:
            return (await kit.backend.renew_many([lease]))[0]
