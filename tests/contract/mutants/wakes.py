"""Wrong with which change ends which wait."""

from __future__ import annotations

import asyncio

from promoter_core.spi import ChangeFlags, ChangeKind
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import DistantBackend
from tests.typed import untyped

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
    """A job that `cancel` or `promote` took away is still the earliest that it has ever seen."""

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
    """A wait is registered until its time is up; a later change finds nobody."""

    killed_by = "test_a_change_after_a_wait_whose_time_was_up_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        deaf = untyped(self._store.groups).setdefault("deaf", {})
        if deaf.pop((queue, change), None):
            self._store.flags.expect(change, queue)
        changed = await super().wait(queue, change, timeout_s)
        if not changed:
            deaf[queue, change] = 1
        return changed


class ACancelledWaitIsDeaf(MemoryBackend):
    killed_by = "test_a_change_after_a_wait_whose_time_was_up_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        deaf = untyped(self._store.groups).setdefault("deaf", {})
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
        kind, queue = self._key(kind, queue)
        return await super().wait(kind, queue, timeout_s)


class HasOneFlagForAllQueues(MemoryBackend):
    killed_by = "test_looks_at_other_things_do_not_hide_a_change"

    def __init__(self, store):
        if not isinstance(store.flags, _OneFlag):
            store.flags = _OneFlag(store.clock, self.key)
        super().__init__(store)

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


class ForgetsWhatComesDuringAPromote(DistantBackend):
    """Clears the flag after the look, when the flag can be of a change that the look has not seen."""

    killed_by = "test_a_change_while_a_look_is_under_way_is_not_missed"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        self._store.flags.expect(JOBS, lease.queue)
        return answer


class ForgetsWhatComesDuringALock(DistantBackend):
    killed_by = "test_a_change_while_a_look_is_under_way_is_not_missed"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        self._store.flags.expect(LOCK, queue)
        return answer


class ForgetsWhatComesDuringManyPromotes(DistantBackend):
    killed_by = "test_a_change_while_a_look_is_under_way_is_not_missed"

    async def promote_many(self, requests):
        answers = await super().promote_many(requests)
        for lease, _ in requests:
            self._store.flags.clear(JOBS, lease.queue)
        return answers


class ForgetsWhatComesDuringManyLocks(DistantBackend):
    killed_by = "test_a_change_while_a_look_is_under_way_is_not_missed"

    async def lock_many(self, queues, holder, ttl_ms):
        answers = await super().lock_many(queues, holder, ttl_ms)
        for queue in queues:
            self._store.flags.clear(LOCK, queue)
        return answers


class NoticesEachOtherChangeLate(MemoryBackend):
    """Misses a change that comes right before the wait, as a poll whose position is read twice: once in a while."""

    killed_by = "test_a_change_between_promote_and_wait_is_not_missed"
    misses = JOBS

    async def wait(self, queue, change, timeout_s):
        count = untyped(self._store.groups).setdefault("waits", {})
        count[change] = count.get(change, 0) + 1
        if change is self.misses and count[change] % 7 == 0:
            self._store.flags.expect(change, queue)
        return await super().wait(queue, change, timeout_s)


class NoticesEachOtherUnlockLate(NoticesEachOtherChangeLate):
    killed_by = "test_an_unlock_between_lock_and_wait_is_not_missed"
    misses = LOCK
