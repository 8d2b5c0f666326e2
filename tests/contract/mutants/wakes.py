"""Wrong with which change ends which wait, or with what is left after close."""

from __future__ import annotations

import asyncio
import contextlib

from promoter_core.spi import ChangeFlags, ChangeKind, TransientError
from promoter_memory.backend import MemoryBackend

JOBS, LOCK = ChangeKind.JOBS, ChangeKind.LOCK


class AnnouncesHeads(MemoryBackend):
    """Decides itself, after a call, whether there is a new head to tell of."""

    async def schedule(self, queue, jobs):
        q, _ = self._queue(queue)
        before, flags = q.head(), self._store.flags
        self._store.flags = ChangeFlags(self._clock)
        try:
            answers = await super().schedule(queue, jobs)
        finally:
            self._store.flags = flags
        head = q.head()
        if head is not before and self.is_new_head(before, head, jobs, answers):
            flags.set(JOBS, queue)
        return answers


class OnlyTheFirstJobOfACallIsAHead(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return head.id == jobs[0].id


class OnlyTheLastJobOfACallIsAHead(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return head.id == jobs[-1].id


class OnlyTheFirstHundredAreHeads(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return any(head.id == job.id for job in jobs[:100])


class JobsDueAtOnceAreNoHeads(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return head.due_ms > self._now_ms()


class UniqueJobsAreNoHeads(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return not head.unique


class OnlyIndexedJobsAreHeads(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return any(job.index for job in jobs if job.id == head.id)


class ARepeatSilencesACall(AnnouncesHeads):
    killed_by = "test_any_job_of_a_call_may_be_the_new_head"

    def is_new_head(self, before, head, jobs, answers):
        return all(answer.created for answer in answers)


class RemembersTheEarliestForGood(AnnouncesHeads):
    """What `cancel` and `promote` take away is still the earliest that it has ever seen."""

    killed_by = "test_what_has_gone_is_no_head_any_more"

    async def schedule(self, queue, jobs):
        self._seen = self._store.groups.setdefault(queue, {})
        return await super().schedule(queue, jobs)

    def is_new_head(self, before, head, jobs, answers):
        earlier = head.due_ms < self._seen.get("earliest", 2**60)
        self._seen["earliest"] = min(head.due_ms, self._seen.get("earliest", 2**60))
        return earlier


class TheFirstJobOfAnEmptySetIsNoHead(AnnouncesHeads):
    killed_by = "test_what_has_gone_is_no_head_any_more"

    def is_new_head(self, before, head, jobs, answers):
        return before is not None


class WakesOneOfThoseThatWait(MemoryBackend):
    """The first to wake takes the change with it."""

    killed_by = "test_a_change_ends_every_wait_for_it"

    async def wait(self, queue, change, timeout_s):
        changed = await super().wait(queue, change, timeout_s)
        self._store.flags.clear(change, queue)
        return changed


class WakesOnceOnly(MemoryBackend):
    """All that wait are woken; the next wait is not, although nobody has looked."""

    killed_by = "test_a_change_ends_every_wait_for_it"

    async def wait(self, queue, change, timeout_s):
        changed = await super().wait(queue, change, timeout_s)
        await asyncio.sleep(0)
        self._store.flags.clear(change, queue)
        return changed


class WakesTheQueueThatWaitedFirst(MemoryBackend):
    killed_by = "test_a_change_ends_every_wait_for_it"

    async def wait(self, queue, change, timeout_s):
        first = self._store.groups.setdefault("first", {}).setdefault(change, queue)
        return await super().wait(first, change, timeout_s)


class ListensOnlyWhileItWaits(MemoryBackend):
    """What is registered for a wait goes when the time is up, and the change finds nobody."""

    killed_by = "test_a_change_after_a_wait_whose_time_was_up_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        deaf = self._store.groups.setdefault("deaf", {})
        if deaf.pop((queue, change), None):
            self._store.flags.expect(change, queue)
        changed = await super().wait(queue, change, timeout_s)
        if not changed:
            deaf[queue, change] = 1
        return changed


class ACancelledWaitIsDeaf(MemoryBackend):
    killed_by = "test_a_change_after_a_wait_whose_time_was_up_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        deaf = self._store.groups.setdefault("deaf", {})
        if (queue, change) in deaf:
            self._store.flags.expect(change, queue)
        try:
            return await super().wait(queue, change, timeout_s)
        except asyncio.CancelledError:
            deaf[queue, change] = 1
            raise


class _OneFlag(ChangeFlags):
    """A flag for all queues, or for both kinds of change."""

    def __init__(self, clock, key):
        super().__init__(clock)
        self._key = key

    def set(self, kind, queue):
        super().set(*self._key(kind, queue))

    def clear(self, kind, queue):
        super().clear(*self._key(kind, queue))

    def expect(self, kind, queue):
        super().expect(*self._key(kind, queue))

    async def wait(self, kind, queue, timeout_s):
        return await super().wait(*self._key(kind, queue), timeout_s)


class HasOneFlagForAllQueues(MemoryBackend):
    killed_by = "test_looks_at_other_things_do_not_hide_a_change"

    def __init__(self, store):
        super().__init__(store)
        if not isinstance(store.flags, _OneFlag):
            store.flags = _OneFlag(store.clock, self.key)

    @staticmethod
    def key(kind, queue):
        return kind, ""


class HasOneFlagForBothKinds(HasOneFlagForAllQueues):
    killed_by = "test_looks_at_other_things_do_not_hide_a_change"

    @staticmethod
    def key(kind, queue):
        return JOBS, queue


class PromoteHidesAnUnlock(HasOneFlagForAllQueues):
    killed_by = "test_a_new_head_does_not_hide_the_release_of_the_lock"

    @staticmethod
    def key(kind, queue):
        return LOCK, queue


class StatsAreALook(MemoryBackend):
    killed_by = "test_looks_at_other_things_do_not_hide_a_change"

    async def stats(self, queue):
        self._store.flags.clear(JOBS, queue)
        return await super().stats(queue)


class AScheduleOfItsOwnIsALook(MemoryBackend):
    """It knows what it has written itself, and clears what it has heard of before."""

    killed_by = "test_looks_at_other_things_do_not_hide_a_change"

    async def schedule(self, queue, jobs):
        self._store.flags.clear(JOBS, queue)
        return await super().schedule(queue, jobs)


class StatsHideAnUnlock(MemoryBackend):
    killed_by = "test_a_new_head_does_not_hide_the_release_of_the_lock"

    async def stats(self, queue):
        self._store.flags.clear(LOCK, queue)
        return await super().stats(queue)


class TakesNoTimeForAnyTime(MemoryBackend):
    """A time-out of 0 blocks for good, as some servers' commands do."""

    killed_by = "test_a_wait_without_time_answers_at_once"

    async def wait(self, queue, change, timeout_s):
        return await super().wait(queue, change, timeout_s or 3_600.0)


class OpenWhenClosed(MemoryBackend):
    """One method does not ask whether the backend is open."""

    async def anyway(self, call):
        was, self._open = self._open, True
        try:
            return await call
        finally:
            self._open = was


class ReadsAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def read(self, queue, stream, after, limit):
        return await self.anyway(super().read(queue, stream, after, limit))


class LocksAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def lock_many(self, queues, holder, ttl_ms):
        return await self.anyway(super().lock_many(queues, holder, ttl_ms))


class SchedulesAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def schedule(self, queue, jobs):
        return await self.anyway(super().schedule(queue, jobs))


class EmitsAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def emit(self, queue, jobs, max_stream_len):
        await self.anyway(super().emit(queue, jobs, max_stream_len))


class SubscribesAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def subscribe(self):
        return await self.anyway(super().subscribe())


class WaitsInSilenceAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def wait(self, queue, change, timeout_s):
        return await super().wait(queue, change, timeout_s) if self._open else False


class LooksAfterAWaitOnly(MemoryBackend):
    """A wait that has no time does not come to the question whether the backend is open."""

    killed_by = "test_after_close_every_method_refuses"

    async def wait(self, queue, change, timeout_s):
        return timeout_s > 0 and await super().wait(queue, change, timeout_s)


class FindsNothingAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def find_queues(self, patterns):
        if self._open:
            async for page in super().find_queues(patterns):
                yield page


class AnnouncesAfterClose(MemoryBackend):
    """Best effort: whatever goes wrong is let go."""

    killed_by = "test_after_close_every_method_refuses"

    async def announce(self, queues):
        with contextlib.suppress(TransientError):
            await super().announce(queues)


class RenewsNothingAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def renew_many(self, leases):
        try:
            return await super().renew_many(leases)
        except TransientError as error:
            return [error] * len(leases)


class CloseLeavesFollowersHanging(MemoryBackend):
    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._open = False
        for kind, queue in list(self._store.flags._flags):
            if kind is JOBS:
                self._store.flags.set(kind, queue)


class CloseEndsTheLastWait(MemoryBackend):
    """It keeps one task, of the wait that began last."""

    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._open = False
        self._task.cancel()

    async def wait(self, queue, change, timeout_s):
        self._task = asyncio.ensure_future(super().wait(queue, change, timeout_s))
        try:
            return await self._task
        except asyncio.CancelledError:
            raise TransientError("closed", code="CLOSED") from None


class CloseRaisesCancellation(MemoryBackend):
    """Who waits is told that it was cancelled itself."""

    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._open = False
        for task in self._store.groups.get("waits", {}):
            task.cancel()

    async def wait(self, queue, change, timeout_s):
        task = asyncio.ensure_future(super().wait(queue, change, timeout_s))
        self._store.groups.setdefault("waits", {})[task] = 1
        return await task


class CloseLeavesFeedsHanging(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        self._open = False
        for flag in self._store.flags._flags.values():
            flag.set()


class CloseEndsFeedsInSilence(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        feeds = list(self._store.flags._feeds)
        await super().close()
        for feed in feeds:
            feed._everything = False


class CloseEndsTheFeedsThatAreRead(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        feeds = list(self._store.flags._feeds)
        await super().close()
        for feed in feeds[1:]:
            feed._everything = False


class CloseDropsTheStore(MemoryBackend):
    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def close(self):
        await super().close()
        self._store._queues.clear()


class CloseFreesTheLocks(MemoryBackend):
    """It does not know which of them are its own."""

    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def close(self):
        await super().close()
        for _, q in self._store.queues():
            q.lock = None


class CloseClosesAll(MemoryBackend):
    """They share a pool of connections, and the first to go closes it."""

    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def open(self):
        self._store.groups.setdefault("pool", {})[self] = 1
        await super().open()

    async def close(self):
        for backend in self._store.groups["pool"]:
            backend._open = False
        await super().close()


class CloseEndsTheSharedListener(MemoryBackend):
    killed_by = "test_waits_and_feeds_go_on_when_another_backend_closes"

    async def close(self):
        await super().close()
        self._store.flags.set = lambda kind, queue: None


class CloseForgetsAllFeeds(MemoryBackend):
    killed_by = "test_waits_and_feeds_go_on_when_another_backend_closes"

    async def close(self):
        await super().close()
        self._store.flags._feeds.clear()
