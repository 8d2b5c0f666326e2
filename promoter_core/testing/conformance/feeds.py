"""ChangeFeed: several at once, some of them closed, and the changes that each reports. Skipped without FleetSupport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from promoter_core.spi import Changes, FleetSupport, cancel_and_wait
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend
from promoter_core.testing.conformance.wakes import HEADS

NEXT = "ChangeFeed.next"
WHATEVER = "Each feed does so independently of what other feeds report and whether they are closed."
CANCELLED = "A call that is cancelled takes no change with it: the next one reports it."
ALL = "Reports every change that would end `Backend.wait`."
PATIENT_S = 5.0  # a wait that a change is to end


class FeedsContract(ContractBase):
    async def test_every_feed_tells_of_everything(self, kit: Kit, pair: Any) -> None:
        """Feeds of one backend or of two, whichever writes, and in any order of reading."""
        self._needs(kit)
        others = [CheckedBackend(backend) for backend in pair]
        feeds = {
            "the first": await kit.backend.subscribe(),
            "the second of the same backend": await kit.backend.subscribe(),
            "that of another backend": await others[1].subscribe(),
        }
        await self._quiet(feeds)
        for number, backend in enumerate(others):
            k = Kit(backend, kit.clock)
            await backend.promote(await k.lead(), REQUEST)
            await k.schedule("near")
            for name, feed in feeds.items():
                heard = await _tells(feed, lambda c, queue=k.queue: c.everything or queue in c.jobs)  # type: ignore[misc]
                obliges(NEXT, WHATEVER, heard, silent_feed=name, written_by=f"backend {number + 1} of 2")
        self._close(feeds)

    async def test_a_feed_that_was_closed_takes_no_other_with_it(self, kit: Kit, pair: Any) -> None:
        self._needs(kit)
        feeds = {name: await kit.backend.subscribe() for name in ("before it", "the closed one", "after it")}
        await self._quiet(feeds)
        feeds.pop("the closed one").close()
        for made in ("in the meantime", "by one that came later"):
            k = Kit(CheckedBackend(pair[1]), kit.clock)
            await k.schedule("near")
            for name, feed in feeds.items():
                heard = await _tells(feed, lambda c, queue=k.queue: c.everything or queue in c.jobs)  # type: ignore[misc]
                obliges(NEXT, WHATEVER, heard, silent_feed=name, change=made)
            feeds["later"] = await kit.backend.subscribe()
        self._close(feeds)

    async def test_a_feed_after_all_were_closed_tells_again(self, kit: Kit, pair: Any) -> None:
        self._needs(kit)
        for _ in range(2):
            feed = await kit.backend.subscribe()
            await self._quiet({"": feed})
            k = Kit(CheckedBackend(pair[1]), kit.clock)
            await k.schedule("near")
            heard = await _tells(feed, lambda c, queue=k.queue: c.everything or queue in c.jobs)  # type: ignore[misc]
            obliges(NEXT, WHATEVER, heard, feeds_before_it="closed")
            feed.close()

    async def test_a_feed_tells_what_changed_while_nobody_read_it(self, kit: Kit, pair: Any) -> None:
        self._needs(kit)
        feed = await kit.backend.subscribe()
        await self._quiet({"": feed})
        writers = [Kit(CheckedBackend(pair[1]), kit.clock) for _ in range(5)]
        followed = Kit(CheckedBackend(pair[1]), kit.clock)
        lease = await followed.lead("other")
        await kit.backend.lock(followed.queue, "me", LONG_MS)
        for k in writers:
            await k.schedule("near")
        await followed.backend.unlock(lease)
        await kit.sleep_ms(50)
        jobs, locks = {k.queue for k in writers}, {followed.queue}

        def said(changes: Changes) -> bool:
            jobs.difference_update(jobs if changes.everything else changes.jobs)
            locks.difference_update(locks if changes.everything else changes.locks)
            return not jobs and not locks

        await _tells(feed, said)
        rule = "A change between two calls is reported by the second."
        obliges(NEXT, rule, not jobs and not locks, not_told_jobs=jobs, not_told_locks=locks)
        feed.close()

    async def test_a_feed_tells_of_every_kind_of_new_head(self, kit: Kit, pair: Any) -> None:
        self._needs(kit)
        feed = await kit.backend.subscribe()
        queues = {name: Kit(CheckedBackend(pair[1]), kit.clock) for name in HEADS}
        for k in queues.values():
            await k.schedule("taken", unique=True)
            await kit.backend.promote(await k.lead(), REQUEST)
        await self._quiet({"": feed})
        for name, k in queues.items():
            await k.backend.schedule(k.queue, HEADS[name])
        silent = dict(queues)

        def said(changes: Changes) -> bool:
            for name in [name for name, k in silent.items() if changes.everything or k.queue in changes.jobs]:
                del silent[name]
            return not silent

        await _tells(feed, said)
        obliges(NEXT, ALL, not silent, not_told_of_new_heads=list(silent))
        feed.close()

    async def test_a_cancelled_call_takes_no_change_with_it(self, kit: Kit, pair: Any) -> None:
        """Cancelled before the change, and just after it."""
        self._needs(kit)
        feed = await kit.backend.subscribe()
        await self._quiet({"": feed})
        for late in (False, True):
            k = Kit(CheckedBackend(pair[1]), kit.clock)
            call = asyncio.ensure_future(feed.next(PATIENT_S))
            await kit.sleep_ms(20)
            if not late:
                await cancel_and_wait(call)
            await k.schedule("near")
            await cancel_and_wait(call)
            heard = not call.cancelled() and _is_of(call.result(), k.queue)
            heard = heard or await _tells(feed, lambda c, queue=k.queue: _is_of(c, queue))  # type: ignore[misc]
            obliges(NEXT, CANCELLED, heard, cancelled="after the change" if late else "before the change")
        self._close({"": feed})

    async def test_a_feed_goes_on_telling(self, kit: Kit, pair: Any) -> None:
        """One new head after another in a queue, as a leader meets them."""
        self._needs(kit)
        feed = await kit.backend.subscribe()
        k = Kit(CheckedBackend(pair[1]), kit.clock)
        lease = await k.lead()
        for round in range(4):
            await kit.backend.promote(lease, REQUEST)
            await self._quiet({"": feed})
            await k.schedule(f"j{round}", delay_ms=LONG_MS - 1_000 * round)
            heard = await _tells(feed, lambda c: c.everything or k.queue in c.jobs)
            obliges(NEXT, ALL, heard, change=f"head number {round + 1} of one queue")
        feed.close()

    def _needs(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        needs_wake(kit)

    async def _quiet(self, feeds: dict[str, Any]) -> None:
        """Read the feeds until they report nothing more."""
        for feed in feeds.values():
            for _ in range(20):
                if await feed.next(0.05) == Changes():
                    break

    def _close(self, feeds: dict[str, Any]) -> None:
        for feed in feeds.values():
            feed.close()


def _is_of(changes: Changes, queue: str) -> bool:
    return changes.everything or queue in changes.jobs


async def _tells(feed: Any, said: Callable[[Changes], bool]) -> bool:
    """Return whether the feed reports it within the time."""
    for _ in range(int(PATIENT_S / 0.1)):
        if said(await feed.next(0.1)):
            return True
    return False
