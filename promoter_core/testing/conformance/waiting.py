"""wait and its wakes, open and close, the shape of a backend, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from promoter_core.spi import ChangeKind, Clock, TransientError
from promoter_core.testing.conformance.base import ContractBase, needs_wake
from promoter_core.testing.conformance.harness import SOON_MS, Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend, shape_problems

WAKES = "True on a change or a possible one"
MISSED = "A change after the caller's last `promote` (for JOBS) or `lock` (for LOCK) began is never missed"
PATIENT_S = 5.0  # a wait that a wake is to end
PAUSES_MS = (30, 0, 1, 0, 2, 5, 0, 1, 0, 2, 5, 0)  # between a change and a wait: it can be noticed before, or during it


class WaitingContract(ContractBase):
    async def test_it_has_the_shape_of_a_backend(self, backend: Any) -> None:
        problems = shape_problems(backend)
        obliges("Backend", "A store of delayed jobs", not problems, backend=type(backend), problems=problems)
        _ = CheckedBackend(backend).capabilities  # checks their type

    async def test_a_wait_ends_when_the_time_is_up(self, kit: Kit, clock: Clock) -> None:
        lease = await kit.lead()
        await kit.promote(lease)
        for change in (ChangeKind.JOBS, ChangeKind.LOCK):
            if change is ChangeKind.LOCK:
                await kit.backend.lock(kit.queue, "other", 60_000)
            began_s = clock.monotonic()
            changed = await kit.backend.wait(kit.queue, change, 0.15)
            took_s = clock.monotonic() - began_s
            if not changed:  # waking without a reason is allowed
                obliges("Backend.wait", "False on timeout", took_s >= 0.149, took_s=took_s)

    async def test_a_wait_does_not_block_the_event_loop(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.promote(lease)
        waiting = asyncio.ensure_future(kit.backend.wait(kit.queue, ChangeKind.JOBS, 0.3))
        longest_s, last_s = 0.0, time.monotonic()
        while not waiting.done():
            await asyncio.sleep(0.005)
            longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
        await waiting
        # A wait that sleeps in the loop's thread is a single gap of its whole length.
        obliges("Backend", "it never blocks the event loop", longest_s < 0.25, longest_s=longest_s)

    async def test_a_new_head_ends_a_leaders_wait(self, kit: Kit) -> None:
        needs_wake(kit)
        lease = await kit.lead()
        await kit.schedule("far")
        await self._settle(kit, lease)
        waiting = asyncio.ensure_future(self._wait(kit, ChangeKind.JOBS))
        await kit.sleep_ms(30)
        await kit.schedule("near", delay_ms=30_000)
        obliges("Backend.wait", WAKES, await waiting)

    async def test_a_new_head_by_another_backend_ends_a_leaders_wait(self, kit: Kit, pair: Any, clock: Clock) -> None:
        mine, theirs = self._both(pair, clock)
        needs_wake(mine)
        lease = await mine.lead()
        await self._settle(mine, lease)
        waiting = asyncio.ensure_future(self._wait(mine, ChangeKind.JOBS))
        await mine.sleep_ms(30)
        await theirs.schedule("near", delay_ms=30_000)
        obliges("Backend.wait", WAKES, await waiting)

    async def test_a_change_between_promote_and_wait_is_not_missed(self, kit: Kit) -> None:
        needs_wake(kit)
        lease = await kit.lead()
        await self._settle(kit, lease)
        for number, pause_ms in enumerate(PAUSES_MS):
            await kit.promote(lease)
            await kit.schedule(f"near-{number}", delay_ms=30_000 - 500 * number)  # each before all others
            await kit.sleep_ms(pause_ms)
            obliges("Backend.wait", MISSED, await self._wait(kit, ChangeKind.JOBS), pause_ms=pause_ms, round=number)

    async def test_unlock_ends_a_followers_wait(self, kit: Kit, pair: Any, clock: Clock) -> None:
        mine, theirs = self._both(pair, clock)
        needs_wake(mine)
        lease = await theirs.lead("other")
        await mine.backend.lock(mine.queue, "me", 60_000)
        for _ in range(20):  # setting up may cause a wake or two
            if not await mine.backend.wait(mine.queue, ChangeKind.LOCK, 0.1):
                break
            await mine.backend.lock(mine.queue, "me", 60_000)
        else:
            obliges("Backend.wait", "while nothing changes, waits eventually last their full time", False, waits=20)
        waiting = asyncio.ensure_future(self._wait(mine, ChangeKind.LOCK))
        await mine.sleep_ms(30)
        await theirs.backend.unlock(lease)
        obliges("Backend.unlock", "This wakes a follower that waits on this queue.", await waiting)

    async def test_an_unlock_between_lock_and_wait_is_not_missed(self, kit: Kit, pair: Any, clock: Clock) -> None:
        mine, theirs = self._both(pair, clock)
        needs_wake(mine)
        for number, pause_ms in enumerate(PAUSES_MS):
            lease = await theirs.lead("other")
            await mine.backend.lock(mine.queue, "me", 60_000)
            await theirs.backend.unlock(lease)
            await mine.sleep_ms(pause_ms)
            obliges("Backend.wait", MISSED, await self._wait(mine, ChangeKind.LOCK), pause_ms=pause_ms, round=number)

    async def test_backends_on_one_store_see_the_same_queue(self, kit: Kit, pair: Any, clock: Clock) -> None:
        mine, theirs = self._both(pair, clock)
        await theirs.due("a")
        p = await mine.promote(await mine.lead())
        obliges("Backend", "A store of delayed jobs", p.promoted == 1 and await theirs.arrived() == ["a"], promotion=p)

    async def test_cancelling_a_wait_is_safe(self, kit: Kit) -> None:
        lease = await kit.lead()
        for _ in range(5):
            await self._settle(kit, lease)
            waiting = asyncio.ensure_future(kit.backend.wait(kit.queue, ChangeKind.JOBS, PATIENT_S))
            await kit.sleep_ms(5)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        await kit.due("a")
        p = await kit.promote(lease)
        obliges("Backend.wait", "Cancelling the wait is safe.", p.promoted == 1, promotion=p)

    async def test_closing_ends_a_wait(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.promote(lease)  # a wait without a previous look may end at once
        waiting = asyncio.ensure_future(kit.backend.wait(kit.queue, ChangeKind.JOBS, 60.0))
        await kit.sleep_ms(SOON_MS)
        began_s = kit.clock.monotonic()
        await kit.backend.close()
        done, _ = await asyncio.wait((waiting,), timeout=PATIENT_S)
        rule = "A pending `wait` returns or raises TransientError."
        obliges("Backend.close", rule, bool(done) and kit.clock.monotonic() - began_s < PATIENT_S)
        error = waiting.exception()
        obliges("Backend.close", rule, error is None or isinstance(error, TransientError), error=error)

    async def test_closing_twice_is_harmless_and_afterwards_nothing_works(self, kit: Kit) -> None:
        await kit.backend.close()
        again = (await asyncio.gather(kit.backend.close(), return_exceptions=True))[0]
        obliges("Backend.close", "Idempotent.", again is None, error=again)
        outcome = await asyncio.gather(kit.backend.stats(kit.queue), return_exceptions=True)
        rule = "Afterwards every method except `open` and `close` raises TransientError."
        obliges("Backend.close", rule, isinstance(outcome[0], TransientError), outcome=outcome[0])

    async def test_opening_twice_is_harmless(self, kit: Kit) -> None:
        await kit.schedule("a")
        await kit.backend.open()
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.open", "Opening twice is harmless.", stats.depth == 1, stats=stats)

    async def test_a_store_that_cannot_be_reached_is_a_transient_error(self, unreachable: Any) -> None:
        checked = CheckedBackend(unreachable)
        opened: Any = (await asyncio.gather(checked.open(), return_exceptions=True))[0]
        await checked.close()
        rule = "Raises TransientError when the store cannot be reached"
        obliges("Backend.open", rule, isinstance(opened, TransientError), outcome=opened)
        rule = "otherwise `CONNECTION`, `TIMEOUT`"
        obliges("BackendError", rule, opened.code in ("CONNECTION", "TIMEOUT"), code=opened.code, error=opened)
        obliges(
            "BackendError", "The store failed to carry out a request.", bool(str(opened).strip()), message=str(opened)
        )

    async def _settle(self, kit: Kit, lease: Any) -> None:
        """Promote and wait until nothing more is announced, because setup may cause a few wakes."""
        for _ in range(20):
            await kit.promote(lease)
            if not await kit.backend.wait(kit.queue, ChangeKind.JOBS, 0.05):
                return

    async def _wait(self, kit: Kit, change: ChangeKind) -> bool:
        """Return True if a wait of several seconds ended early."""
        began_s = kit.clock.monotonic()
        changed = await kit.backend.wait(kit.queue, change, PATIENT_S)
        return bool(changed) and kit.clock.monotonic() - began_s < PATIENT_S

    def _both(self, pair: Any, clock: Clock) -> tuple[Kit, Kit]:
        mine = Kit(CheckedBackend(pair[0]), clock)
        return mine, mine.other(CheckedBackend(pair[1]))
