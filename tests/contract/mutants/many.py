"""Wrong with many queues at once."""

from __future__ import annotations

from promoter_core.model import Changes, Members
from promoter_memory.backend import MemoryBackend


class AnswersLocksBackwards(MemoryBackend):
    killed_by = "test_many_locks_are_answered_in_order"

    async def lock_many(self, queues, holder, ttl_ms):
        return list(reversed(await super().lock_many(queues, holder, ttl_ms)))


class PromotesTheFirstOnly(MemoryBackend):
    killed_by = "test_many_promotions_are_each_for_their_queue"

    async def promote_many(self, asked):
        return [await self.promote(*asked[0])] * len(asked)


class RenewsWhateverItIsAsked(MemoryBackend):
    killed_by = "test_many_leases_are_renewed_where_they_are_ours"

    async def renew_many(self, leases):
        for lease in leases:
            self._store[lease.queue].lock = (lease.holder, self._now_ms() + lease.ttl_ms)
        return [True] * len(leases)


class SaysThatItRenews(MemoryBackend):
    killed_by = "test_many_leases_are_renewed_where_they_are_ours"

    async def renew_many(self, leases):
        return [self._store[x.queue].holder(self._now_ms()) == x.holder for x in leases]


class FindsEverything(MemoryBackend):
    killed_by = "test_queues_with_delayed_jobs_or_a_leader_are_found_by_pattern"

    async def find(self, patterns):
        yield [name for name, _ in self._store.queues()]


class FindsTheFirstPage(MemoryBackend):
    killed_by = "test_queues_with_delayed_jobs_or_a_leader_are_found_by_pattern"

    async def find(self, patterns):
        async for page in super().find(patterns):
            yield page[:20]
            return


class FindsByTheFirstPattern(MemoryBackend):
    killed_by = "test_queues_are_found_by_any_of_several_patterns"

    async def find(self, patterns):
        async for page in super().find(patterns[:1]):
            yield page


class AnnouncesTheFirstOnly(MemoryBackend):
    killed_by = "test_the_feed_tells_of_queues_that_are_announced"

    async def announce(self, queues):
        await super().announce(queues[:1])


class RemembersTheDead(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join(self, group, member, ttl_ms):
        return await super().join(group, member, 10**9)


class HasOneGroup(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join(self, group, member, ttl_ms):
        return await super().join("group", member, ttl_ms)


class KeepsExpiriesToItself(MemoryBackend):
    killed_by = "test_members_of_a_group_know_one_another"

    async def join(self, group, member, ttl_ms):
        return Members((await super().join(group, member, ttl_ms)).names, None)


class TellsNobodyOfMembers(MemoryBackend):
    killed_by = "test_members_are_told_of_those_that_come_and_go"

    async def feed(self):
        return _Without(await super().feed(), members=False)


class TellsNobodyOfSets(MemoryBackend):
    killed_by = "test_the_feed_tells_of_queues_that_are_announced"

    async def feed(self):
        return _Without(await super().feed(), sets=frozenset())


class TellsNobodyOfLocks(MemoryBackend):
    killed_by = "test_the_feed_tells_of_a_new_head_and_of_a_released_lock"

    async def feed(self):
        return _Without(await super().feed(), locks=frozenset())


class NeverSleeps(MemoryBackend):
    killed_by = "test_the_feed_sleeps_while_nothing_changes"

    async def feed(self):
        return _Without(await super().feed(), timeout_s=0.0)


class _Without:
    def __init__(self, feed, timeout_s=None, **fields):
        self.feed, self.timeout_s, self.fields = feed, timeout_s, fields
        self.close = feed.close

    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s if self.timeout_s is None else self.timeout_s)
        return Changes(**{name: getattr(changes, name) for name in Changes.__slots__} | self.fields)
