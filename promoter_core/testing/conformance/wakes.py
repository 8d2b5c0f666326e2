"""Which changes end which waits: of any job of a call, of each queue and kind separately, for any number of waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from promoter_core.spi import ChangeKind, Clock, FleetSupport, JobRequest, Lease, Promotion
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit, job
from promoter_core.testing.conformance.interleaving import HOLD_S, MOST_STEPS, HeldCall
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend
from promoter_core.testing.conformance.waiting import MISSED, PATIENT_S

JOBS, LOCK = ChangeKind.JOBS, ChangeKind.LOCK
ANY = "For JOBS, a job that comes before all others is a change, whichever job of a call it is"
EVERY = "It ends every wait for it: all that are pending, and all that start before the next such call."
HIDES = "One change never hides another"
NEAR_MS, FAR_MS = LONG_MS // 2, 2 * LONG_MS

HEADS: dict[str, tuple[JobRequest, ...]] = {  # calls whose new head is earlier than the waiting job, due in LONG_MS
    "the first": (job("near", delay_ms=NEAR_MS), job("far", delay_ms=FAR_MS)),
    "the last": (job("far", delay_ms=FAR_MS), job("further", delay_ms=FAR_MS + 1), job("near", delay_ms=NEAR_MS)),
    "one in the middle": (
        *(job(f"far-{i}", delay_ms=FAR_MS + i) for i in range(3)),
        job("near", delay_ms=NEAR_MS),
        *(job(f"further-{i}", delay_ms=FAR_MS + i) for i in range(3)),
    ),
    "the last of 250": (*(job(f"j{i}", delay_ms=FAR_MS) for i in range(249)), job("near", delay_ms=NEAR_MS)),
    "one due at once": (job("now", delay_ms=0),),
    "one due long ago": (job("past", due_ms=1),),
    "a unique one": (job("near", delay_ms=NEAR_MS, unique=True),),
    "one without an index": (job("near", delay_ms=NEAR_MS, index=False),),
    "one after a repeat": (job("taken", delay_ms=NEAR_MS, unique=True), job("near", delay_ms=NEAR_MS, unique=True)),
}


class WakesContract(ContractBase):
    async def test_any_job_of_a_call_may_be_the_new_head(self, kit: Kit) -> None:
        needs_wake(kit)
        queues = [kit.other() for _ in HEADS]
        for k in queues:
            await k.schedule("taken", unique=True)
        await _settle(kit, queues, JOBS)
        waits = [asyncio.ensure_future(_ends(k, JOBS)) for k in queues]
        await kit.sleep_ms(30)
        for k, jobs in zip(queues, HEADS.values(), strict=True):
            await k.backend.schedule(k.queue, jobs)
        woken = dict(zip(HEADS, await asyncio.gather(*waits), strict=True))
        obliges("Backend.wait", ANY, all(woken.values()), new_head_and_whether_the_wait_ended=woken)

    async def test_what_has_gone_is_no_head_any_more(self, kit: Kit) -> None:
        """A store that caches the earliest due time must forget it with the job."""
        needs_wake(kit)
        promoted, cancelled, only = queues = [kit.other() for _ in range(3)]
        await promoted.schedule("now", delay_ms=0)
        await promoted.schedule("far", delay_ms=FAR_MS)
        for k in (cancelled, only):
            await k.schedule("near", delay_ms=NEAR_MS)
        await cancelled.schedule("far", delay_ms=FAR_MS)
        for k in (cancelled, only):
            await k.backend.cancel(k.queue, ["near"])
        await _settle(kit, queues, JOBS)
        waits = [asyncio.ensure_future(_ends(k, JOBS)) for k in queues]
        await kit.sleep_ms(30)
        for k in queues:
            await k.schedule("next")
        woken = dict(zip(("promoted", "cancelled", "the only one"), await asyncio.gather(*waits), strict=True))
        rule = "For JOBS, a job that comes before all others is a change"
        obliges("Backend.wait", rule, all(woken.values()), the_head_before_and_whether_the_wait_ended=woken)

    @pytest.mark.parametrize("change", [JOBS, LOCK], ids=["jobs", "lock"])
    async def test_a_change_ends_every_wait_for_it(self, kit: Kit, change: ChangeKind) -> None:
        needs_wake(kit)
        queues = [kit.other() for _ in range(3)]
        await _settle(kit, queues, change)
        waits = {k: [asyncio.ensure_future(_ends(k, change)) for _ in range(3)] for k in queues}
        await kit.sleep_ms(30)
        for number in (1, 2, 0):  # not in the order in which they wait
            await _change(queues[number], change)
            woken = await asyncio.gather(*waits[queues[number]])
            obliges("Backend.wait", EVERY, all(woken), queue=f"{number + 1} of 3", its_three_waits_ended=woken)
        woken = [await _ends(k, change) for k in queues]
        obliges("Backend.wait", EVERY, all(woken), waits_after_the_change_before_a_look=woken)

    @pytest.mark.parametrize("change", [JOBS, LOCK], ids=["jobs", "lock"])
    async def test_a_change_after_a_wait_whose_time_was_up_is_not_missed(self, kit: Kit, change: ChangeKind) -> None:
        needs_wake(kit)
        await _settle(kit, [kit], change)
        waiting = asyncio.ensure_future(kit.backend.wait(kit.queue, change, PATIENT_S))
        await kit.sleep_ms(5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await kit.backend.wait(kit.queue, change, 0.02)
        await _change(kit, change)
        await kit.sleep_ms(30)
        obliges(
            "Backend.wait", MISSED, await _ends(kit, change), waits_before_the_change="one timed out, one cancelled"
        )

    @pytest.mark.parametrize("look", ["promote", "promote_many", "lock", "lock_many"])
    async def test_a_change_while_a_look_is_under_way_is_not_missed(self, kit: Kit, look: str) -> None:
        """The look is held after each of its steps, such as the answer of the store, until the change has been made."""
        needs_wake(kit)
        if look.endswith("_many"):
            needs_support(kit, FleetSupport)
        change = JOBS if look.startswith("promote") else LOCK
        queues = [kit.other() for _ in range(MOST_STEPS)]
        await _settle(kit, queues, change)
        for step, k in enumerate(queues, 1):
            call = HeldCall(_look(k, look), step)
            held = await call.held()
            changing = asyncio.ensure_future(_change(k, change))
            if held:
                await asyncio.wait((changing,), timeout=HOLD_S)
                await asyncio.sleep(0.01)  # it has been noticed; real time, because the call can hold a virtual clock
            call.release()
            answer, _ = await asyncio.gather(call.task, changing)
            seen = isinstance(answer, Lease) or (isinstance(answer, Promotion) and answer.depth > 0)
            woken = seen or await _ends(k, change)  # a call that starts slowly can see the change itself
            obliges("Backend.wait", MISSED, woken, look=look, answer=answer, changed_after_its_step=step)
            if not held:
                break

    async def test_looks_at_other_things_do_not_hide_a_change(self, kit: Kit) -> None:
        """Only `promote` of this queue reads its set, and only `lock` of this queue reads its lock."""
        needs_wake(kit)
        other = kit.other()
        await _settle(kit, [other], JOBS)
        lease = Lease(kit.queue, "leader", LONG_MS)
        await _settle(kit, [kit], JOBS)
        await kit.schedule("near", delay_ms=NEAR_MS)
        await kit.sleep_ms(30)  # it has been noticed
        await kit.backend.lock(kit.queue, lease.holder, LONG_MS)
        await kit.backend.stats(kit.queue)
        await kit.schedule("far", delay_ms=FAR_MS)
        await kit.backend.cancel(kit.queue, ["never"])
        await other.promote(Lease(other.queue, "leader", LONG_MS))
        await other.backend.wait(other.queue, JOBS, 0.02)
        await kit.backend.wait(kit.queue, LOCK, 0.02)
        obliges("Backend.wait", HIDES, await _ends(kit, JOBS), change="a new head", then="lock, stats and others")

    async def test_a_new_head_does_not_hide_the_release_of_the_lock(self, kit: Kit, pair: Any, clock: Clock) -> None:
        mine = Kit(CheckedBackend(pair[0]), clock)
        theirs = mine.other(CheckedBackend(pair[1]))
        needs_wake(mine)
        lease = await theirs.lead("other")
        await mine.backend.lock(mine.queue, "me", LONG_MS)
        await theirs.backend.unlock(lease)
        await mine.sleep_ms(30)
        await mine.schedule("near", delay_ms=NEAR_MS)
        await mine.try_promote(Lease(mine.queue, "me", LONG_MS))
        await mine.backend.wait(mine.queue, JOBS, 0.02)
        await mine.backend.stats(mine.queue)
        obliges("Backend.wait", HIDES, await _ends(mine, LOCK), change="unlock", then="promote, schedule and others")

    async def test_a_wait_without_time_answers_at_once(self, kit: Kit) -> None:
        await kit.promote(await kit.lead())
        await kit.backend.lock(kit.queue, "other", LONG_MS)
        for change in (JOBS, LOCK):
            began_s = kit.clock.monotonic()
            waiting = asyncio.ensure_future(kit.backend.wait(kit.queue, change, 0.0))
            done, _ = await asyncio.wait((waiting,), timeout=PATIENT_S)
            waiting.cancel()
            ended = bool(done) and kit.clock.monotonic() - began_s < PATIENT_S
            obliges("Backend.wait", "Wait up to `timeout_s` seconds", ended, timeout_s=0.0, change=change)
            await asyncio.gather(waiting)


async def _ends(kit: Kit, change: ChangeKind) -> bool:
    """Return True if a wait of several seconds ended early."""
    began_s = kit.clock.monotonic()
    changed = await kit.backend.wait(kit.queue, change, PATIENT_S)
    return bool(changed) and kit.clock.monotonic() - began_s < PATIENT_S


async def _look(kit: Kit, look: str) -> Any:
    """Promote as "leader", or try to take the lock as "follower", by this method."""
    lease = Lease(kit.queue, "leader", LONG_MS)
    match look:
        case "promote":
            return await kit.backend.promote(lease, REQUEST)
        case "promote_many":
            return (await kit.backend.promote_many([(lease, REQUEST)]))[0]
        case "lock":
            return await kit.backend.lock(kit.queue, "follower", LONG_MS)
        case _:
            return (await kit.backend.lock_many([kit.queue], "follower", LONG_MS))[0]


async def _change(kit: Kit, change: ChangeKind) -> None:
    """Cause a new head, or have the holder that `_settle` set up release the lock."""
    if change is JOBS:
        await kit.schedule("near", delay_ms=NEAR_MS)
    else:
        await kit.backend.unlock(Lease(kit.queue, "leader", LONG_MS))


async def _settle(kit: Kit, queues: Sequence[Kit], change: ChangeKind) -> None:
    """Read each until nothing more is announced, because setup may cause a few wakes. "leader" holds the locks."""
    leases = {k: await k.lead() for k in queues}
    left = list(queues)
    for _ in range(20):
        for k in left:
            if change is JOBS:
                await k.promote(leases[k])
            else:
                await k.backend.lock(k.queue, "follower", LONG_MS)
        ended = await asyncio.gather(*(kit.backend.wait(k.queue, change, 0.05) for k in left))
        left = [k for k, early in zip(left, ended, strict=True) if early]
        if not left:
            return
