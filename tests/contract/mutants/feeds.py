"""Wrong with feeds, or with the members of a group."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core.spi import Changes, Members
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.wakes import AnnouncesHeads


class TheSecondFeedIsDeaf(MemoryBackend):
    killed_by = "test_every_feed_tells_of_everything"
    _has = False

    async def subscribe(self):
        feed = await super().subscribe()
        if self._has:
            self._store.flags._feeds.remove(feed)
        self._has = True
        return feed


class FeedsShareTheirChanges(MemoryBackend):
    """The first to read takes them from the others."""

    killed_by = "test_every_feed_tells_of_everything"
    _feed = None

    async def subscribe(self):
        self._feed = self._feed or await super().subscribe()
        return self._feed


class TheLastFeedTakesAll(MemoryBackend):
    killed_by = "test_every_feed_tells_of_everything"

    async def subscribe(self):
        self._store.flags._feeds.clear()
        return await super().subscribe()


class FeedsDoNotTellOfItsOwnWrites(MemoryBackend):
    killed_by = "test_every_feed_tells_of_everything"

    async def subscribe(self):
        feed = await super().subscribe()
        self._store.groups.setdefault("feeds", {})[feed] = self
        return feed

    async def schedule(self, queue, jobs):
        feeds, owners = self._store.flags._feeds, self._store.groups.get("feeds", {})
        own = [feed for feed in feeds if owners.get(feed) is self]
        self._store.flags._feeds = [feed for feed in feeds if feed not in own]
        try:
            return await super().schedule(queue, jobs)
        finally:
            self._store.flags._feeds = feeds


class FeedsTellOfItsOwnWritesOnly(FeedsDoNotTellOfItsOwnWrites):
    killed_by = "test_every_feed_tells_of_everything"

    async def schedule(self, queue, jobs):
        feeds, owners = self._store.flags._feeds, self._store.groups.get("feeds", {})
        self._store.flags._feeds = [feed for feed in feeds if owners.get(feed) is self]
        try:
            return await MemoryBackend.schedule(self, queue, jobs)
        finally:
            self._store.flags._feeds = feeds


class _Feed:
    """A feed around a feed."""

    def __init__(self, feed, flags):
        self.feed, self.flags = feed, flags

    async def next(self, timeout_s):
        return await self.feed.next(timeout_s)

    def close(self):
        self.feed.close()


class WrapsFeeds(MemoryBackend):
    async def subscribe(self):
        return self.wrap(await super().subscribe(), self._store.flags)


class _ClosesAll(_Feed):
    def close(self):
        self.flags._feeds.clear()


class ClosingAFeedClosesAll(WrapsFeeds):
    killed_by = "test_a_feed_that_was_closed_takes_no_other_with_it"
    wrap = _ClosesAll


class _ClosesAnother(_Feed):
    def close(self):
        if self.feed in self.flags._feeds:
            self.flags._feeds.pop()


class ClosingAFeedClosesTheNewest(WrapsFeeds):
    killed_by = "test_a_feed_that_was_closed_takes_no_other_with_it"
    wrap = _ClosesAnother


class _EndsTheListener(_Feed):
    def close(self):
        self.feed.close()
        self.flags.set = lambda kind, queue: None


class ClosingAFeedEndsTheListener(WrapsFeeds):
    killed_by = "test_a_feed_that_was_closed_takes_no_other_with_it"
    wrap = _EndsTheListener


class _EndsTheListenerAsTheLast(_Feed):
    def close(self):
        self.feed.close()
        if not self.flags._feeds:
            self.flags.set = lambda kind, queue: None


class TheListenerEndsWithTheLastFeed(WrapsFeeds):
    """It is begun once, and nobody begins it again."""

    killed_by = "test_a_feed_after_all_were_closed_tells_again"

    wrap = _EndsTheListenerAsTheLast


class _ListensWhileRead(_Feed):
    async def next(self, timeout_s):
        self.feed._changes.clear()
        self.feed._event.clear()
        return await self.feed.next(timeout_s)


class FeedsListenOnlyWhileTheyAreRead(WrapsFeeds):
    killed_by = "test_a_feed_tells_what_changed_while_nobody_read_it"
    wrap = _ListensWhileRead


class _TellsOne(_Feed):
    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s)
        return replace(changes, jobs=frozenset(sorted(changes.jobs)[:1]))


class FeedsTellOfOneQueueACall(WrapsFeeds):
    killed_by = "test_a_feed_tells_what_changed_while_nobody_read_it"
    wrap = _TellsOne


class _TellsOneKind(_Feed):
    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s)
        return replace(changes, locks=frozenset()) if changes.jobs else changes


class FeedsTellOfOneKindACall(WrapsFeeds):
    killed_by = "test_a_feed_tells_what_changed_while_nobody_read_it"
    wrap = _TellsOneKind


class FeedsTellOfTheFirstJobOfACall(AnnouncesHeads):
    killed_by = "test_a_feed_tells_of_every_kind_of_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return head.id == jobs[0].id


class FeedsDoNotTellOfJobsDueAtOnce(AnnouncesHeads):
    killed_by = "test_a_feed_tells_of_every_kind_of_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return head.due_ms > self._now_ms()


class _TellsOnce(_Feed):
    told: frozenset[str] = frozenset()

    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s)
        new = changes.jobs - self.told
        self.told |= new
        return replace(changes, jobs=new)


class FeedsTellOfAQueueOnce(WrapsFeeds):
    """Known queues are no news."""

    killed_by = "test_a_feed_goes_on_telling"
    wrap = _TellsOnce


class _TellsTwice(_Feed):
    left = 2

    async def next(self, timeout_s):
        changes = await self.feed.next(timeout_s)
        self.left -= bool(changes.jobs)
        return changes if self.left >= 0 else Changes()


class FeedsEndAfterSomeChanges(WrapsFeeds):
    killed_by = "test_a_feed_goes_on_telling"
    wrap = _TellsTwice


class NeverRenewsMembers(MemoryBackend):
    """INSERT … ON CONFLICT DO NOTHING."""

    killed_by = "test_joining_again_lengthens_a_membership"

    async def join_group(self, group, member, ttl_ms):
        now_ms = self._now_ms()
        expiry_ms = self._store.groups.get(group, {}).get(member, 0)
        return await super().join_group(group, member, expiry_ms - now_ms if expiry_ms > now_ms else ttl_ms)


class NeverShortensAMembership(MemoryBackend):
    killed_by = "test_joining_again_shortens_a_membership"

    async def join_group(self, group, member, ttl_ms):
        left_ms = self._store.groups.get(group, {}).get(member, 0) - self._now_ms()
        return await super().join_group(group, member, max(ttl_ms, left_ms))


class MembersExpireWithTheLastToJoin(MemoryBackend):
    """One expiry for the key of the whole group."""

    killed_by = "test_each_member_expires_by_itself"

    async def join_group(self, group, member, ttl_ms):
        ends, now_ms = self._store.groups.setdefault("ends", {}), self._now_ms()
        if ends.get(group, now_ms + 1) <= now_ms:
            self._store.groups.pop(group, None)
        ends[group] = now_ms + 2 * ttl_ms
        return await super().join_group(group, member, ttl_ms)


class JoiningRenewsEverybody(MemoryBackend):
    killed_by = "test_each_member_expires_by_itself"

    async def join_group(self, group, member, ttl_ms):
        now_ms = self._now_ms()
        for name, expiry_ms in self._store.groups.get(group, {}).items():
            self._store.groups[group][name] = max(expiry_ms, now_ms + 1)
        return await super().join_group(group, member, ttl_ms)


class CountsOneselfAmongTheOthers(MemoryBackend):
    killed_by = "test_the_next_expiry_is_that_of_the_first_of_the_others"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        return Members(members.names, min(self._store.groups[group].values()) - self._now_ms())


class TellsTheLastExpiry(MemoryBackend):
    killed_by = "test_the_next_expiry_is_that_of_the_first_of_the_others"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        others = [ms for name, ms in self._store.groups[group].items() if name != member]
        return Members(members.names, max(others) - self._now_ms() if others else None)


class TellsWhenAndNotHowSoon(MemoryBackend):
    killed_by = "test_the_next_expiry_is_that_of_the_first_of_the_others"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        soon_ms = members.next_expiry_ms
        return Members(members.names, soon_ms if soon_ms is None else self._now_ms() + soon_ms)


class TellsTheExpiryOfTheFirstByName(MemoryBackend):
    killed_by = "test_the_next_expiry_is_that_of_the_first_of_the_others"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        others = sorted(name for name in members.names if name != member)
        return Members(members.names, self._store.groups[group][others[0]] - self._now_ms() if others else None)


class LeavingLeavesAllGroups(MemoryBackend):
    killed_by = "test_who_has_left_is_not_waited_for"

    async def leave_group(self, group, member):
        for name in list(self._store.groups):
            await super().leave_group(name, member)


class WaitsForThoseWhoHaveLeft(MemoryBackend):
    """Left members stay as rows, and count for the next expiry."""

    killed_by = "test_who_has_left_is_not_waited_for"

    async def leave_group(self, group, member):
        left = self._store.groups.setdefault(f"{group} left", {})
        left[member] = self._store.groups.get(group, {}).get(member, 2**60)
        await super().leave_group(group, member)

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        expiries = [ms for name, ms in self._store.groups[group].items() if name != member]
        expiries += self._store.groups.get(f"{group} left", {}).values()
        return Members(members.names, min(expiries) - self._now_ms() if expiries else None)


class NobodyComesBack(MemoryBackend):
    killed_by = "test_who_has_left_is_not_waited_for"

    async def leave_group(self, group, member):
        self._store.groups.setdefault(f"{group} left", {})[member] = 1
        await super().leave_group(group, member)

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        return replace(members, names=members.names.difference(self._store.groups.get(f"{group} left", {})))


class JoinsHalf(MemoryBackend):
    """Reads the members, adds itself, writes them all: two that join at once lose one."""

    killed_by = "test_many_join_at_once_and_know_one_another"

    async def join_group(self, group, member, ttl_ms):
        members = dict(self._store.groups.get(group, {}))
        await asyncio.sleep(0)
        self._store.groups[group] = members
        return await super().join_group(group, member, ttl_ms)


class JoinsWithinItsProcess(JoinsHalf):
    """The same behind a mutex, which another process does not see."""

    killed_by = "test_many_join_at_once_and_know_one_another"

    def __init__(self, store):
        super().__init__(store)
        self._mutex = asyncio.Lock()

    async def join_group(self, group, member, ttl_ms):
        async with self._mutex:
            return await super().join_group(group, member, ttl_ms)


class ACancelledCallGoesOnAndTakesTheChange(MemoryBackend):
    killed_by = "test_a_cancelled_call_takes_no_change_with_it"

    async def subscribe(self):
        feed = await super().subscribe()
        wait = feed.next

        async def wait_on(timeout_s):
            return await asyncio.shield(wait(timeout_s))

        feed.next = wait_on
        return feed
