"""FleetSupport: several queues in one call, changes, finding queues, membership. Skipped if it is not offered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import Changes, Clock, FleetSupport, Lease, LeaseHeld, LeaseLost, Promotion, Renewal
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges

SHORT_MS = 1_000  # of a membership that is to end
PATIENT_S = 5.0  # a wait that a change is to end
RENEW = "FleetSupport.renew_many"
JOIN = "FleetSupport.join_group"
ORDER = "Answers are in the order of the arguments."


class FleetContract(ContractBase):
    @pytest.fixture
    def fleet(self, kit: Kit) -> Any:
        needs_support(kit, FleetSupport)
        return kit.backend

    async def test_many_locks_are_answered_in_order(self, fleet: Any, kit: Kit) -> None:
        queues = [kit.other() for _ in range(5)]
        await fleet.lock(queues[1].queue, "other", LONG_MS)
        await fleet.lock(queues[3].queue, "me", LONG_MS)
        answers = await fleet.lock_many([k.queue for k in queues], "me", LONG_MS)
        kinds = [type(answer) for answer in answers]
        obliges("FleetSupport", ORDER, kinds == [Lease, LeaseHeld, Lease, Lease, Lease], answers=answers)
        leases = [Lease(k.queue, "me", LONG_MS) for i, k in enumerate(queues) if i != 1]
        obliges("FleetSupport", ORDER, [a for a in answers if isinstance(a, Lease)] == leases, answers=answers)

    async def test_many_promotions_are_each_for_their_queue(self, fleet: Any, kit: Kit) -> None:
        queues = [kit.other() for _ in range(4)]
        leases = [await k.lead() for k in queues]
        for n, k in enumerate(queues):
            await k.due(*(f"{n}-{i}" for i in range(n)))
        leases[2] = Lease(leases[2].queue, "somebody else", LONG_MS)
        answers = await fleet.promote_many([(lease, REQUEST) for lease in leases])
        promoted = [a.promoted if isinstance(a, Promotion) else a for a in answers]
        obliges("FleetSupport", ORDER, promoted == [0, 1, LeaseLost(), 3], answers=answers)
        found = [[a.id for a in await k.arrivals()] for k in queues]
        rule = "Call `promote` for each queue, each atomically"
        right = [[], ["1-0"], [], ["3-0", "3-1", "3-2"]]
        obliges("FleetSupport.promote_many", rule, found == right, found=found)

    async def test_many_leases_are_renewed_where_they_are_ours(self, fleet: Any, kit: Kit) -> None:
        queues = [kit.other() for _ in range(4)]
        for number, holder in ((0, "me"), (1, "other"), (3, "me")):
            await queues[number].lead(holder, LONG_MS // 3)
        answers = await fleet.renew_many([Lease(k.queue, "me", LONG_MS) for k in queues])
        ours = "Restart each lease whose holder still has the lock"
        kinds = [type(answer) for answer in answers]
        obliges(RENEW, ours, kinds == [Renewal, LeaseLost, LeaseLost, Renewal], answers=answers)
        left = [(await fleet.stats(k.queue)).lease_remaining_ms for k in queues]
        obliges(RENEW, ours, min(left[0] or 0, left[3] or 0) > LONG_MS // 2, left=left)
        lost = "`LeaseLost` if the lock is not the holder's; nothing changes there."
        obliges(RENEW, lost, 0 < (left[1] or 0) <= LONG_MS // 3 and left[2] is None, left=left)

    async def test_each_lease_is_renewed_for_its_own_holder_and_length(self, fleet: Any, kit: Kit) -> None:
        terms = [("a", LONG_MS), ("a", 5_000), ("b", 20_000), ("a", LONG_MS), ("b", 20_000)]
        leases = [await kit.other().lead(holder, 10_000) for holder, _ in terms]
        leases = [replace(lease, ttl_ms=ttl_ms) for lease, (_, ttl_ms) in zip(leases, terms, strict=True)]
        answers = await fleet.renew_many(leases)
        ours = "Restart each lease whose holder still has the lock"
        obliges(RENEW, ours, all(isinstance(answer, Renewal) for answer in answers), answers=answers)
        left = [(await fleet.stats(lease.queue)).lease_remaining_ms for lease in leases]
        right = [ttl_ms - 4_000 < (ms or 0) <= ttl_ms for (_, ttl_ms), ms in zip(terms, left, strict=True)]
        obliges(RENEW, "for its own `ttl_ms`", all(right), left=left, terms=terms)

    async def test_a_renewal_says_what_is_due_and_what_comes_next(self, fleet: Any, kit: Kit) -> None:
        empty, later, due, others = (kit.other() for _ in range(4))
        leases = [await k.lead() for k in (empty, later, due)]
        await later.schedule("late", delay_ms=LONG_MS)
        await later.schedule("early", delay_ms=LONG_MS // 2)
        await others.lead("somebody else")
        await others.schedule("a")
        await due.due("a", "b")
        answers = await fleet.renew_many([*leases, Lease(others.queue, "leader", LONG_MS)])
        stats = [await fleet.stats(k.queue) for k in (empty, later, due)]
        seen = [(a.due, a.next_due_ms) if isinstance(a, Renewal) else a for a in answers]
        right = [(False, None), (False, stats[1].next_due_ms), (True, stats[2].next_due_ms), LeaseLost()]
        says = "Each answer is a `Renewal` with what is due and what comes next, by the store's clock"
        obliges(RENEW, says, seen == right, answers=answers)
        obliges(RENEW, says, all(0 <= s.now_ms - a.now_ms < 10_000 for a, s in zip(answers, stats, strict=False)))
        obliges(RENEW, "and read the head of the queue.", await due.arrived() == [], arrived=await due.arrived())

    async def test_the_feed_tells_of_a_new_head_and_of_a_released_lock(self, fleet: Any, kit: Kit, pair: Any) -> None:
        needs_wake(kit)
        feed = await fleet.subscribe()
        busy, quiet, followed = kit.other(), kit.other(), kit.other()
        for k in (busy, quiet):
            await fleet.promote(await k.lead(), REQUEST)
        writer = busy.other(pair[1])
        other = followed.other(pair[1])
        lease = await other.lead("other")
        await fleet.lock(followed.queue, "me", LONG_MS)
        await self._until(feed, lambda c: False, 0.3)  # consume old changes
        await writer.schedule("soon", delay_ms=50)
        heard = await self._until(feed, lambda c: c.everything or busy.queue in c.jobs)
        obliges("ChangeFeed.next", "Reports every change that would end `Backend.wait`.", heard, queue=busy.queue)
        await fleet.promote(Lease(busy.queue, "leader", LONG_MS), REQUEST)
        await other.backend.unlock(lease)
        heard = await self._until(feed, lambda c: c.everything or followed.queue in c.locks)
        obliges("ChangeFeed.next", "Reports every change that would end `Backend.wait`.", heard, lock=True)
        feed.close()

    async def test_the_feed_sleeps_while_nothing_changes(self, fleet: Any, kit: Kit, clock: Clock) -> None:
        feed = await fleet.subscribe()
        await self._until(feed, lambda c: False, 0.2)
        began_s = clock.monotonic()
        changes = await feed.next(0.15)
        took_s = clock.monotonic() - began_s
        if changes == Changes():  # reporting too much is allowed
            obliges("ChangeFeed.next", "Sleep for up to `timeout_s` seconds", took_s >= 0.149, took_s=took_s)
        feed.close()
        feed.close()

    async def test_queues_with_delayed_jobs_or_a_leader_are_found_by_pattern(self, fleet: Any, kit: Kit) -> None:
        prefix = f"find-{ULID()}"
        names = [f"{prefix}-{i}" for i in range(30)]
        for name in [*names, f"other-{prefix}"]:
            await Kit(fleet, kit.clock, name).schedule("later")
        await Kit(fleet, kit.clock, f"{prefix}-led").lead()
        await fleet.stats(f"{prefix}-empty")
        names.append(f"{prefix}-led")
        found = [name for page in [p async for p in fleet.find_queues([f"{prefix}-*"])] for name in page]
        obliges(
            "DiscoverySupport.find_queues",
            "Yield the queues that have delayed jobs or a leader and match",
            set(found) == set(names),
            found=found,
        )

    async def test_queues_are_found_by_any_of_several_patterns(self, fleet: Any, kit: Kit) -> None:
        prefix = f"find-{ULID()}"
        for name in ("mail-1", "mail-2", "mail-30", "sms-a", "sms-b", "sms-^", "sms-!", "web"):
            await Kit(fleet, kit.clock, f"{prefix}-{name}").schedule("later")

        async def found(*patterns: str) -> set[str]:
            pages = [page async for page in fleet.find_queues([f"{prefix}-{pattern}" for pattern in patterns])]
            return {name.removeprefix(f"{prefix}-") for page in pages for name in page}

        for patterns, names in (
            (("mail-?", "web"), {"mail-1", "mail-2", "web"}),
            (("sms-[!a]", "mail-[3-4]*"), {"sms-b", "sms-^", "sms-!", "mail-30"}),
            (("sms-[^a]",), {"sms-a", "sms-^"}),
            (("nothing*", "none"), set()),
        ):
            answer = await found(*patterns)
            said = "and match one of the glob patterns"
            obliges("DiscoverySupport.find_queues", said, answer == names, patterns=patterns, found=answer)

    async def test_members_of_a_group_know_one_another(self, fleet: Any, kit: Kit) -> None:
        group = f"group-{ULID()}"
        everybody, first = "return its current members", "until the first other member expires."
        m = await fleet.join_group(group, "a", LONG_MS)
        obliges(JOIN, everybody, (m.names, m.next_expiry_ms) == ({"a"}, None), members=m)
        m = await fleet.join_group(group, "b", SHORT_MS)
        obliges(JOIN, everybody, m.names == {"a", "b"}, members=m)
        obliges(JOIN, first, 30_000 < (m.next_expiry_ms or 0) <= LONG_MS, members=m)
        m = await fleet.join_group(group, "a", LONG_MS)
        obliges(JOIN, first, 0 < (m.next_expiry_ms or 0) <= SHORT_MS, members=m)
        m = await fleet.join_group(f"{group}-other", "x", SHORT_MS)
        obliges(JOIN, everybody, m.names == {"x"}, members=m)
        await kit.sleep_ms(SHORT_MS + 50)
        m = await fleet.join_group(group, "a", LONG_MS)
        obliges(JOIN, "Join a group for `ttl_ms`", m.names == {"a"}, members=m)
        await fleet.join_group(group, "c", LONG_MS)
        await fleet.leave_group(group, "c")
        await fleet.leave_group(group, "c")
        m = await fleet.join_group(group, "a", LONG_MS)
        obliges("FleetSupport.leave_group", "Leave a group.", m.names == {"a"}, members=m)

    async def test_members_are_told_of_those_that_come_and_go(self, fleet: Any, kit: Kit, pair: Any) -> None:
        needs_wake(kit)
        group, feed = f"group-{ULID()}", await fleet.subscribe()
        await fleet.join_group(group, "a", LONG_MS)
        await self._until(feed, lambda c: False, 0.3)
        for step in (pair[1].join_group(group, "b", LONG_MS), pair[1].leave_group(group, "b")):
            await step
            heard = await self._until(feed, lambda c: c.everything or c.members)
            obliges(JOIN, "The feeds of other members report a new one", heard)
        feed.close()

    async def test_the_feed_tells_of_queues_that_are_announced(self, fleet: Any, kit: Kit, pair: Any) -> None:
        needs_wake(kit)
        feed, names = await fleet.subscribe(), {f"new-{i}-{ULID()}" for i in range(1_001)}
        await self._until(feed, lambda c: False, 0.3)
        await pair[1].announce([])
        await pair[1].announce(sorted(names))
        missing = set(names)

        def said(changes: Changes) -> bool:
            missing.difference_update(changes.jobs)
            return not missing

        heard = await self._until(feed, said)
        told = "Make the feeds of other processes report these queues."
        obliges("FleetSupport.announce", told, heard, missing=len(missing))
        feed.close()

    @staticmethod
    async def _until(feed: Any, said: Callable[[Changes], bool], timeout_s: float = PATIENT_S) -> bool:
        """Return whether the feed reports it within the time."""
        for _ in range(int(timeout_s / 0.1)):
            if said(await feed.next(0.1)):
                return True
        return False
