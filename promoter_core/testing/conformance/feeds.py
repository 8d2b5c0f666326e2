"""FleetSupport: several feeds at once, and the members of a group. Skipped where it is not offered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import Changes, FleetSupport
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend
from promoter_core.testing.conformance.wakes import HEADS

JOIN = "FleetSupport.join_group"
NEXT = "ChangeFeed.next"
WHATEVER = "Tells of everything for which `Backend.wait` would end, whatever other feeds have told"
OTHERS = "Joining again starts the membership anew, for longer or shorter; that of the others stays as it is."
FIRST = "`Members.next_expiry_ms` is the interval, by the store's clock, until the first of the others expires."
SHORT_MS = 100
PATIENT_S = 5.0  # a wait that a change is to end


class FeedsContract(ContractBase):
    async def test_every_feed_tells_of_everything(self, kit: Kit, pair: Any) -> None:
        """Of one backend or of another, whichever of them writes, and whichever is read first."""
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
        rule = "whatever other feeds have told and whether they have been closed"
        feeds = {name: await kit.backend.subscribe() for name in ("before it", "the closed one", "after it")}
        await self._quiet(feeds)
        feeds.pop("the closed one").close()
        for made in ("in the meantime", "by one that came later"):
            k = Kit(CheckedBackend(pair[1]), kit.clock)
            await k.schedule("near")
            for name, feed in feeds.items():
                heard = await _tells(feed, lambda c, queue=k.queue: c.everything or queue in c.jobs)  # type: ignore[misc]
                obliges(NEXT, rule, heard, silent_feed=name, change=made)
            feeds["later"] = await kit.backend.subscribe()
        self._close(feeds)

    async def test_a_feed_after_all_were_closed_tells_again(self, kit: Kit, pair: Any) -> None:
        self._needs(kit)
        rule = "whatever other feeds have told and whether they have been closed"
        for _ in range(2):
            feed = await kit.backend.subscribe()
            await self._quiet({"": feed})
            k = Kit(CheckedBackend(pair[1]), kit.clock)
            await k.schedule("near")
            heard = await _tells(feed, lambda c, queue=k.queue: c.everything or queue in c.jobs)  # type: ignore[misc]
            obliges(NEXT, rule, heard, feeds_before_it="closed")
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
        rule = "What changes between two calls is told by the second."
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
        obliges(NEXT, WHATEVER, not silent, not_told_of_new_heads=list(silent))
        feed.close()

    async def test_a_feed_goes_on_telling(self, kit: Kit, pair: Any) -> None:
        """One head after another in one queue, as a leader meets them."""
        self._needs(kit)
        feed = await kit.backend.subscribe()
        k = Kit(CheckedBackend(pair[1]), kit.clock)
        lease = await k.lead()
        for round in range(4):
            await kit.backend.promote(lease, REQUEST)
            await self._quiet({"": feed})
            await k.schedule(f"j{round}", delay_ms=LONG_MS - 1_000 * round)
            heard = await _tells(feed, lambda c: c.everything or k.queue in c.jobs)
            obliges(NEXT, WHATEVER, heard, change=f"head number {round + 1} of one queue")
        feed.close()

    def _needs(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        needs_wake(kit)

    async def _quiet(self, feeds: dict[str, Any]) -> None:
        """Read them until nothing more comes."""
        for feed in feeds.values():
            for _ in range(20):
                if await feed.next(0.05) == Changes():
                    break

    def _close(self, feeds: dict[str, Any]) -> None:
        for feed in feeds.values():
            feed.close()


class MembersContract(ContractBase):
    @pytest.fixture
    def join(self, kit: Kit) -> Callable[[str, int], Awaitable[Any]]:
        needs_support(kit, FleetSupport)
        group = f"group-{ULID()}"
        return lambda member, ttl_ms: kit.backend.join_group(group, member, ttl_ms)

    async def test_joining_again_lengthens_a_membership(self, kit: Kit, join: Any) -> None:
        for _ in range(3):
            await join("a", SHORT_MS)
        await join("a", LONG_MS)
        await kit.sleep_ms(SHORT_MS + 50)
        members = await join("b", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "b"}, members=members)
        least_ms = LONG_MS // 2
        obliges(JOIN, FIRST, least_ms < (members.next_expiry_ms or 0) <= LONG_MS, members=members)

    async def test_joining_again_shortens_a_membership(self, kit: Kit, join: Any) -> None:
        await join("a", LONG_MS)
        await join("a", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 50)
        members = await join("b", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"b"}, members=members)
        obliges(JOIN, FIRST, members.next_expiry_ms is None, members=members)

    async def test_each_member_expires_by_itself(self, kit: Kit, join: Any) -> None:
        """Those that stay short do not take the others with them, and those that stay long do not keep them."""
        for member, ttl_ms in (("a", LONG_MS), ("b", SHORT_MS), ("c", LONG_MS), ("d", SHORT_MS)):
            await join(member, ttl_ms)
        await kit.sleep_ms(3 * SHORT_MS)
        members = await join("e", SHORT_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "c", "e"}, members=members)
        await kit.sleep_ms(3 * SHORT_MS)
        members = await join("f", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "c", "f"}, members=members)

    async def test_the_next_expiry_is_that_of_the_first_of_the_others(self, kit: Kit, join: Any) -> None:
        terms = {"a": LONG_MS, "b": 10 * LONG_MS, "c": 5 * LONG_MS, "d": 2 * LONG_MS}
        for member, ttl_ms in terms.items():
            await join(member, ttl_ms)
        for member, ttl_ms in terms.items():
            first_ms = min(ms for name, ms in terms.items() if name != member)
            members = await join(member, ttl_ms)
            told_ms = members.next_expiry_ms or 0
            right = first_ms - LONG_MS // 2 < told_ms <= first_ms
            obliges(JOIN, FIRST, right, asked_by=member, terms=terms, members=members)

    async def test_who_has_left_is_not_waited_for(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        group, other = f"group-{ULID()}", f"group-{ULID()}"
        for g in (group, other):
            await kit.backend.join_group(g, "a", LONG_MS)
            await kit.backend.join_group(g, "b", 3 * LONG_MS)
        await kit.backend.leave_group(group, "a")
        await kit.backend.leave_group(group, "never")
        rule = "Be a member no longer."
        for g, names, first_ms in ((group, {"b", "c"}, 3 * LONG_MS), (other, {"a", "b", "c"}, LONG_MS)):
            members = await kit.backend.join_group(g, "c", LONG_MS)
            left = f"a left {'this group' if g == group else 'another group'}"
            obliges("FleetSupport.leave_group", rule, members.names == names, who=left, members=members)
            right = first_ms - LONG_MS // 2 < (members.next_expiry_ms or 0) <= first_ms
            obliges(JOIN, FIRST, right, who=left, members=members)
        members = await kit.backend.join_group(group, "a", LONG_MS)
        obliges(JOIN, "all members of now", members.names == {"a", "b", "c"}, who="a came back", members=members)

    async def test_many_join_at_once_and_know_one_another(self, kit: Kit, pair: Any) -> None:
        needs_support(kit, FleetSupport)
        group, names = f"group-{ULID()}", [f"m{i}" for i in range(20)]
        backends = [CheckedBackend(backend) for backend in pair]
        answers = await asyncio.gather(
            *(backends[i % 2].join_group(group, name, LONG_MS) for i, name in enumerate(names))
        )
        most = max(len(members.names) for members in answers)
        obliges(JOIN, "all members of now, atomically", most == len(names), joined=len(names), most_seen=most)


async def _tells(feed: Any, said: Callable[[Changes], bool]) -> bool:
    """Whether the feed says it within the time."""
    for _ in range(int(PATIENT_S / 0.1)):
        if said(await feed.next(0.1)):
            return True
    return False
