"""Wrong with many queues at once."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import Changes, LeaseLost, Members, Renewal
from promoter_memory.backend import MemoryBackend


class AnswersLocksBackwards(MemoryBackend):
    killed_by = "test_many_locks_are_answered_in_order"

    async def lock_many(self, queues, holder, ttl_ms):
        return list(reversed(await super().lock_many(queues, holder, ttl_ms)))


class PromotesTheFirstOnly(MemoryBackend):
    killed_by = "test_many_promotions_are_each_for_their_queue"

    async def promote_many(self, requests):
        return [await self.promote(*requests[0])] * len(requests)


class RenewsWhateverItIsAsked(MemoryBackend):
    killed_by = "test_many_leases_are_renewed_where_they_are_ours"

    async def renew_many(self, leases):
        for lease in leases:
            self._store[lease.queue].lock = (lease.holder, self._now_ms() + lease.ttl_ms)
        return await super().renew_many(leases)


class SaysThatItRenews(MemoryBackend):
    killed_by = "test_many_leases_are_renewed_where_they_are_ours"

    async def renew_many(self, leases):
        now_ms = self._now_ms()
        ours = [self._store[x.queue].holder(now_ms) == x.holder for x in leases]
        return [Renewal(now_ms, False, None) if our else LeaseLost() for our in ours]


class RenewsAllForAsLongAsTheFirst(MemoryBackend):
    killed_by = "test_each_lease_is_renewed_for_its_own_holder_and_length"

    async def renew_many(self, leases):
        return await super().renew_many([replace(lease, ttl_ms=leases[0].ttl_ms) for lease in leases])


class RenewsForTheFirstHolder(MemoryBackend):
    killed_by = "test_each_lease_is_renewed_for_its_own_holder_and_length"

    async def renew_many(self, leases):
        return await super().renew_many([replace(lease, holder=leases[0].holder) for lease in leases])


class RenewsWithoutALook(MemoryBackend):
    killed_by = "test_a_renewal_says_what_is_due_and_what_comes_next"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        return [Renewal(x.now_ms, False, None) if isinstance(x, Renewal) else x for x in answers]


class SaysThatAllIsDue(MemoryBackend):
    killed_by = "test_a_renewal_says_what_is_due_and_what_comes_next"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        return [replace(x, due=x.next_due_ms is not None) if isinstance(x, Renewal) else x for x in answers]


class AnswersAsBefore(MemoryBackend):
    killed_by = "test_many_leases_are_renewed_where_they_are_ours"

    async def renew_many(self, leases):
        return [isinstance(answer, Renewal) for answer in await super().renew_many(leases)]


class FindsEverything(MemoryBackend):
    killed_by = "test_queues_with_delayed_jobs_or_a_leader_are_found_by_pattern"

    async def find_queues(self, patterns):
        yield [name for name, _ in self._store.queues()]


class FindsTheFirstPage(MemoryBackend):
    killed_by = "test_queues_with_delayed_jobs_or_a_leader_are_found_by_pattern"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield page[:20]
            return


class FindsByTheFirstPattern(MemoryBackend):
    killed_by = "test_queues_are_found_by_any_of_several_patterns"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns[:1]):
            yield page


class AnnouncesTheFirstOnly(MemoryBackend):
    killed_by = "test_the_feed_tells_of_queues_that_are_announced"

    async def announce(self, queues):
        await super().announce(queues[:1])


class RemembersTheDead(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join_group(self, group, member, ttl_ms):
        return await super().join_group(group, member, 10**9)


class HasOneGroup(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join_group(self, group, member, ttl_ms):
        return await super().join_group("group", member, ttl_ms)


class KeepsExpiriesToItself(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join_group(self, group, member, ttl_ms):
        return Members((await super().join_group(group, member, ttl_ms)).names, None)


class TellsNobodyOfMembers(MemoryBackend):
    killed_by = "test_members_are_told_of_those_that_come_and_go"

    async def subscribe(self):
        return _Without(await super().subscribe(), members=False)


class TellsNobodyOfSets(MemoryBackend):
    killed_by = "test_the_feed_tells_of_queues_that_are_announced"

    async def subscribe(self):
        return _Without(await super().subscribe(), jobs=frozenset())


class TellsNobodyOfLocks(MemoryBackend):
    killed_by = "test_the_feed_tells_of_a_new_head_and_of_a_released_lock"

    async def subscribe(self):
        return _Without(await super().subscribe(), locks=frozenset())


class NeverSleeps(MemoryBackend):
    killed_by = "test_the_feed_sleeps_while_nothing_changes"

    async def subscribe(self):
        return _Without(await super().subscribe(), timeout_s=0.0)


class _Without:
    def __init__(self, feed, timeout_s=None, **fields):
        self.feed, self.timeout_s, self.fields = feed, timeout_s, fields
        self.close = feed.close

    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s if self.timeout_s is None else self.timeout_s)
        return Changes(**{name: getattr(changes, name) for name in Changes.__slots__} | self.fields)
