"""A call that is cancelled, or that loses its connection, has taken effect completely or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
from ulid import ULID

from promoter_core.spi import ChangeKind, DeadLetterSupport, FleetSupport, JobOutcome, Lease, LeaseHeld, StreamName
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit, job
from promoter_core.testing.conformance.interleaving import Cut, cancellations, failures
from promoter_core.testing.conformance.obligations import obliges

HALF = "or is cancelled may or may not have taken effect (a reply can be lost), but never partially."
MISSED = "A change after the caller's last `promote` (for JOBS) or `lock` (for LOCK) began is never missed"
SETTLE_MS = 5  # a call that was cut may take effect a moment later
PATIENT_S = 5.0
MEMBER_MS = 150

K = TypeVar("K", bound=Kit)
Cuts = Callable[[], Iterator[Cut]]
AddMalformed = Callable[[str, bytes], Awaitable[None]]


async def settle(*queues: Kit) -> None:
    """Wait until the cancelled calls have taken effect or can no longer do so; a busy store gets more time."""
    loop = asyncio.get_running_loop()
    before: list[tuple[int, int, int, str | None]] | None = None
    while True:
        began = loop.time()
        stats = [await k.backend.stats(k.queue) for k in queues]
        now = [(s.depth, s.stream_len, s.dlq_len, s.holder) for s in stats]
        await queues[0].sleep_ms(max(SETTLE_MS, round(5_000 * (loop.time() - began) / len(queues))))
        if now == before:
            return
        before = now


async def cut_off(
    kit: K,
    cuts: Cuts,
    call: Callable[[K], Coroutine[Any, Any, Any]],
    before: Callable[[K], Awaitable[Any]] | None = None,
) -> list[K]:
    """Return new queues, in each of which `call` was cancelled at a different point, after `before`."""
    queues: list[K] = []
    for cut in cuts():
        queues.append(k := cast("K", kit.other()))
        if before is not None:
            await before(k)
        if not await cut(call(k)):
            break
    await settle(*queues)
    return queues


class CancellationContract(ContractBase):
    """Each call below is repeated, each time on a new queue, and cancelled at a different point.

    All calls are cancelled before any queue is checked, so that one wait is enough. Calls that affect a wake are
    checked one by one: a lost connection ends all waits.
    """

    @pytest.fixture(params=[cancellations, failures], ids=["cancelled", "failed"])
    def cuts(self, request: pytest.FixtureRequest) -> Cuts:
        cuts: Cuts = request.param
        return cuts

    async def test_a_schedule_that_is_cut_is_done_or_not(self, kit: Kit, cuts: Cuts) -> None:
        queues = await cut_off(kit, cuts, lambda k: k.schedule("a", unique=True))
        for n, k in enumerate(queues):
            before = await k.backend.stats(k.queue)
            (again,) = await k.schedule("a", unique=True)
            after = await k.backend.stats(k.queue)
            seen = {"after_the_cut": before, "repeat": again, "stats": after, "cut": n}
            obliges("Backend", HALF, after.depth == 1, **seen)
            (outcome,) = await k.cancel("a")
            after = await k.backend.stats(k.queue)
            ok = outcome is JobOutcome.REMOVED and after.depth == 0
            obliges("Backend", HALF, ok, cancel=outcome, depth=after.depth, **seen)

    async def test_a_repeat_that_is_cut_leaves_the_job_alone(self, kit: Kit, cuts: Cuts) -> None:
        rule = "a repeat changes nothing and answers `created=False`"
        queues = await cut_off(
            kit,
            cuts,
            lambda k: k.schedule("a", unique=True, delay_ms=2 * LONG_MS),
            before=lambda k: k.schedule("a", unique=True),
        )
        for n, k in enumerate(queues):
            stats = await k.backend.stats(k.queue)
            ok = stats.depth == 1 and stats.next_due_ms is not None and stats.next_due_ms <= stats.now_ms + LONG_MS
            obliges("Backend.schedule", rule, ok, stats=stats, cut=n)
            (again,) = await k.schedule("a", unique=True)
            obliges("Backend.schedule", rule, again.created is False, repeat=again, cut=n)

    async def test_of_many_jobs_each_is_scheduled_or_not(self, kit: Kit, cuts: Cuts) -> None:
        ids = [f"j{i}" for i in range(5)]
        queues = await cut_off(kit, cuts, lambda k: k.schedule(*ids, unique=True))
        for n, k in enumerate(queues):
            answers = await k.schedule(*ids, unique=True)
            stats = await k.backend.stats(k.queue)
            obliges("Backend", HALF, stats.depth == 5, stats=stats, repeat=answers, cut=n)
            outcomes = await k.cancel(*ids)
            obliges("Backend", HALF, set(outcomes) == {JobOutcome.REMOVED}, cancel=outcomes, cut=n)

    @pytest.mark.parametrize("by", ["promote", "promote_many"])
    async def test_a_promotion_that_is_cut_is_done_or_not(self, kit: Kit, cuts: Cuts, by: str) -> None:
        ids = ["a", "b", "c"]
        if by == "promote_many":
            needs_support(kit, FleetSupport)

        def longer(k: Kit) -> Lease:
            return Lease(k.queue, "leader", 10 * LONG_MS)

        async def lead(k: Kit) -> None:
            await k.lead("leader")
            await k.schedule(*ids, unique=True, delay_ms=0)

        def promote(k: Kit) -> Any:
            if by == "promote":
                return k.backend.promote(longer(k), REQUEST)
            return k.backend.promote_many([(longer(k), REQUEST)])

        for n, k in enumerate(await cut_off(kit, cuts, promote, lead)):
            stats = await k.backend.stats(k.queue)
            renewed = (stats.lease_remaining_ms or 0) > 5 * LONG_MS
            ok = stats.depth + stats.stream_len == 3 and renewed is (stats.stream_len > 0)
            obliges("Backend", HALF, ok, stats=stats, cut=n)
            repeats = await k.schedule(*ids, unique=True)
            obliges("Backend", HALF, not any(again.created for again in repeats), stats=stats, repeats=repeats, cut=n)
            await k.promote(longer(k))
            arrived = await k.arrived()
            obliges("Backend", HALF, sorted(arrived) == ids, stats=stats, arrived=arrived, cut=n)

    async def test_a_cancellation_that_is_cut_is_done_or_not(self, kit: Kit, cuts: Cuts) -> None:
        queues = await cut_off(kit, cuts, lambda k: k.cancel("a"), before=lambda k: k.schedule("a", unique=True))
        for n, k in enumerate(queues):
            (outcome,) = await k.cancel("a")
            left = await k.backend.stats(k.queue)
            (again,) = await k.schedule("a", unique=True)
            (last,) = await k.cancel("a")
            ok = (left.depth, again.created, last) == (0, True, JobOutcome.REMOVED)
            seen = {"cancelled_again": outcome, "stats": left, "scheduled": again, "and_cancelled": last, "cut": n}
            obliges("Backend", HALF, ok, **seen)

    @pytest.mark.parametrize("by", ["lock", "lock_many"])
    async def test_a_lock_that_is_cut_is_taken_or_not(self, kit: Kit, cuts: Cuts, by: str) -> None:
        if by == "lock_many":
            needs_support(kit, FleetSupport)
        queues = await cut_off(
            kit, cuts, lambda k: k.lock("a") if by == "lock" else k.backend.lock_many([k.queue], "a", LONG_MS)
        )
        for n, k in enumerate(queues):
            stats, answer = await k.backend.stats(k.queue), await k.lock("b")
            taken = stats.holder == "a" and 0 < (stats.lease_remaining_ms or 0) <= LONG_MS
            if taken:
                ok = isinstance(answer, LeaseHeld) and 0 < (answer.remaining_ms or 0) <= LONG_MS
            else:
                ok = (stats.holder, stats.lease_remaining_ms) == (None, None) and isinstance(answer, Lease)
            obliges("Backend", HALF, ok, stats=stats, lock_of_another=answer, cut=n)

    @pytest.mark.parametrize("by", ["lock", "renew_many"])
    async def test_a_renewal_that_is_cut_keeps_the_lock(self, kit: Kit, cuts: Cuts, by: str) -> None:
        if by == "renew_many":
            needs_support(kit, FleetSupport)
        queues = await cut_off(
            kit,
            cuts,
            lambda k: (
                k.lock("a", 2 * LONG_MS) if by == "lock" else k.backend.renew_many([Lease(k.queue, "a", LONG_MS)])
            ),
            before=lambda k: k.lead("a"),
        )
        for n, k in enumerate(queues):
            stats, answer = await k.backend.stats(k.queue), await k.lock("b")
            left_ms = answer.remaining_ms if isinstance(answer, LeaseHeld) else None
            ok = stats.holder == "a" and stats.lease_remaining_ms is not None and left_ms is not None
            obliges("Backend", HALF, ok, stats=stats, lock_of_another=answer, cut=n)

    async def test_an_unlock_that_is_cut_is_done_or_not(self, kit: Kit, cuts: Cuts) -> None:
        queues = await cut_off(
            kit, cuts, lambda k: k.backend.unlock(Lease(k.queue, "a", LONG_MS)), before=lambda k: k.lead("a")
        )
        for n, k in enumerate(queues):
            stats, answer = await k.backend.stats(k.queue), await k.lock("b")
            free = (stats.holder, stats.lease_remaining_ms) == (None, None)
            held = stats.holder == "a" and 0 < (stats.lease_remaining_ms or 0) <= LONG_MS
            ok = (free and isinstance(answer, Lease)) or (held and isinstance(answer, LeaseHeld))
            obliges("Backend", HALF, ok, stats=stats, lock_of_another=answer, cut=n)

    async def test_an_unlock_that_is_cut_wakes_when_it_is_done(self, kit: Kit, cuts: Cuts) -> None:
        needs_wake(kit)
        for n, cut in enumerate(cuts()):
            k = kit.other()
            lease = await k.lead("a")
            await k.lock("b")
            more = await cut(k.backend.unlock(lease))
            await settle(k)
            if (await k.backend.stats(k.queue)).holder is None:
                woken = await self._woken(k, ChangeKind.LOCK)
                obliges("Backend.wait", MISSED, woken, woken=woken, cut=n)
            if not more:
                break

    async def test_a_schedule_that_is_cut_wakes_when_it_is_done(self, kit: Kit, cuts: Cuts) -> None:
        needs_wake(kit)
        for n, cut in enumerate(cuts()):
            k = kit.other()
            await k.promote(await k.lead())
            more = await cut(k.schedule("a"))
            await settle(k)
            if (await k.backend.stats(k.queue)).depth:
                woken = await self._woken(k, ChangeKind.JOBS)
                obliges("Backend.wait", MISSED, woken, woken=woken, cut=n)
            if not more:
                break

    async def test_a_process_that_is_cut_as_it_joins_is_a_member_for_a_while_or_not(self, kit: Kit, cuts: Cuts) -> None:
        needs_support(kit, FleetSupport)
        groups = []
        for cut in cuts():
            groups.append(f"group-{ULID()}")
            if not await cut(kit.backend.join_group(groups[-1], "a", MEMBER_MS)):
                break
        await kit.sleep_ms(MEMBER_MS + SETTLE_MS)
        for n, group in enumerate(groups):
            members = await kit.backend.join_group(group, "b", LONG_MS)
            left_ms = members.next_expiry_ms
            if left_ms is not None and left_ms <= MEMBER_MS:  # the cancelled call took effect late
                await kit.sleep_ms(left_ms + SETTLE_MS)
                members = await kit.backend.join_group(group, "b", LONG_MS)
            ok = (members.names, members.next_expiry_ms) == ({"b"}, None)
            obliges("FleetSupport.join_group", "Join a group for `ttl_ms`", ok, members=members, cut=n)

    async def test_a_dead_letter_is_in_one_place_when_its_move_is_cut(
        self, kit: Kit, cuts: Cuts, add_malformed: AddMalformed
    ) -> None:
        needs_support(kit, DeadLetterSupport)
        said = "Move a DLQ entry to the stream, atomically, with this envelope and name."
        where = "DeadLetterSupport.requeue_dead_letter"
        entry_ids: dict[str, str] = {}

        async def fail(k: Kit) -> None:
            await add_malformed(k.queue, b"\0")
            await k.promote(await k.lead())
            entries = await k.entries(StreamName.DLQ)
            obliges(where, said, len(entries) == 1, dead_letters=entries)
            entry_ids[k.queue] = entries[0].id

        def requeue(k: Kit) -> Any:
            return k.backend.requeue_dead_letter(k.queue, entry_ids[k.queue], job("a").envelope, "")

        for n, k in enumerate(await cut_off(kit, cuts, requeue, fail)):
            stats = await k.backend.stats(k.queue)
            obliges(where, said, stats.dlq_len + stats.stream_len == 1, stats=stats, cut=n)

    @staticmethod
    async def _woken(kit: Kit, change: ChangeKind) -> bool:
        began_s = kit.clock.monotonic()
        changed = await kit.backend.wait(kit.queue, change, PATIENT_S)
        return bool(changed) and kit.clock.monotonic() - began_s < PATIENT_S
