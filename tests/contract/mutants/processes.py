"""Atomic within a process alone: a mutex of the backend's own stands where a transaction in the store belongs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core.spi import (
    CHASQUIMQ,
    ChangeKind,
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    PromotedJob,
    Promotion,
    Renewal,
    StreamName,
)
from promoter_memory.backend import MemoryBackend


async def round_trip():
    """A reply of the store is on its way."""
    await asyncio.sleep(0)


class OneProcess(MemoryBackend):
    """One call at a time in this process: of two backends on a store, each knows only its own."""

    def __init__(self, store):
        super().__init__(store)
        self.mutex = asyncio.Lock()


class LocksWithAMutex(OneProcess):
    killed_by = "test_of_two_processes_one_takes_the_lock"

    async def lock(self, queue, holder, ttl_ms):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            other = q.holder(now_ms)
            await round_trip()
            if other in (None, holder):
                q.lock = (holder, now_ms + ttl_ms)
                return Lease(queue, holder, ttl_ms)
            return await super().lock(queue, holder, ttl_ms)


class TakesEndedLocksInTwoSteps(OneProcess):
    """SET NX for a free lock, and for one that has ended a DELETE before it."""

    killed_by = "test_of_two_processes_one_takes_the_lock"

    async def lock(self, queue, holder, ttl_ms):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            if q.lock and q.holder(now_ms) is None:
                await round_trip()
                q.lock = None
            return await super().lock(queue, holder, ttl_ms)


class LooksAtManyLocksFirst(OneProcess):
    killed_by = "test_of_two_processes_that_lock_many_queues_one_takes_each"

    async def lock_many(self, queues, holder, ttl_ms):
        async with self.mutex:
            free = [self._store[queue].holder(self._now_ms()) in (None, holder) for queue in queues]
            await round_trip()
            for queue, is_free in zip(queues, free, strict=True):
                if is_free:
                    self._store[queue].lock = (holder, self._now_ms() + ttl_ms)
            return [
                Lease(queue, holder, ttl_ms) if is_free else LeaseHeld(ttl_ms, "another")
                for queue, is_free in zip(queues, free, strict=True)
            ]


class ComparesAndThenUnlocks(OneProcess):
    killed_by = "test_a_lock_that_went_to_another_is_not_released"

    async def unlock(self, lease):
        async with self.mutex:
            q, now_ms = self._queue(lease.queue)
            if q.holder(now_ms) != lease.holder:
                return False
            await round_trip()
            q.lock = None
            self._store.flags.set(ChangeKind.LOCK, lease.queue)
            return True


class SaysThatBothUnlocked(OneProcess):
    """DELETE … WHERE holder = …, and the answer from the SELECT before it."""

    killed_by = "test_a_lock_that_went_to_another_is_not_released"

    async def unlock(self, lease):
        async with self.mutex:
            q, now_ms = self._queue(lease.queue)
            ours = q.holder(now_ms) == lease.holder
            await round_trip()
            await super().unlock(lease)
            return ours


class RenewsInTwoSteps(OneProcess):
    killed_by = "test_a_renewal_takes_no_lock_from_another"

    async def lock(self, queue, holder, ttl_ms):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            if q.holder(now_ms) == holder:
                await round_trip()
                q.lock = (holder, now_ms + ttl_ms)
                return Lease(queue, holder, ttl_ms)
            return await super().lock(queue, holder, ttl_ms)


class RenewsManyInTwoSteps(OneProcess):
    killed_by = "test_a_renewal_takes_no_lock_from_another"

    async def renew_many(self, leases):
        async with self.mutex:
            now_ms = self._now_ms()
            ours = [self._store[lease.queue].holder(now_ms) == lease.holder for lease in leases]
            await round_trip()
            for lease, is_ours in zip(leases, ours, strict=True):
                if is_ours:
                    self._store[lease.queue].lock = (lease.holder, now_ms + lease.ttl_ms)
            return [Renewal(now_ms, False, None) if is_ours else LeaseLost() for is_ours in ours]


class RenewsBeforeItPromotes(OneProcess):
    killed_by = "test_a_renewal_takes_no_lock_from_another"

    async def promote(self, lease, request):
        async with self.mutex:
            q, now_ms = self._queue(lease.queue)
            if q.holder(now_ms) != lease.holder:
                return LeaseLost()
            await round_trip()
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
            return await super().promote(lease, request)


class ChecksTheFenceBeforeTheTransaction(OneProcess):
    killed_by = "test_nothing_is_promoted_once_another_leads"

    async def promote(self, lease, request):
        async with self.mutex:
            q, now_ms = self._queue(lease.queue)
            if q.holder(now_ms) != lease.holder:
                return LeaseLost()
            await round_trip()
            held, q.lock = q.lock, (lease.holder, now_ms + lease.ttl_ms)
            answer = await super().promote(lease, replace(request, renew=False))
            q.lock = held
            return answer


class ChecksTheFencesOfManyBefore(OneProcess):
    killed_by = "test_nothing_is_promoted_once_another_leads"

    async def promote_many(self, requests):
        async with self.mutex:
            answers = []
            held = {lease.queue: self._store[lease.queue].holder(self._now_ms()) for lease, _ in requests}
            await round_trip()
            for lease, request in requests:
                q = self._store[lease.queue]
                if held[lease.queue] != lease.holder:
                    answers.append(LeaseLost())
                    continue
                real, q.lock = q.lock, (lease.holder, self._now_ms() + lease.ttl_ms)
                answers.append(await super().promote(lease, replace(request, renew=False)))
                q.lock = real
            return answers


class PromotesInTwoSteps(OneProcess):
    """SELECT what is due, then add it and delete it by id."""

    killed_by = "test_two_processes_with_one_lease_promote_each_job_once"

    async def promote(self, lease, request):
        async with self.mutex:
            q, now_ms = self._queue(lease.queue)
            due = [job for due_ms, _, job in sorted(q._heap, key=lambda e: e[:2]) if due_ms <= now_ms and not job.gone]
            await round_trip()
            answer = await super().promote(lease, replace(request, limit=0))
            if not isinstance(answer, Promotion):
                return answer
            jobs = [self.move(q, now_ms, job) for job in due[: request.limit]]
            return replace(answer, promoted=len(jobs), depth=q.depth, jobs=tuple(jobs))

    def move(self, q, now_ms, job):
        stream_id = q.streams[StreamName.JOBS].add(now_ms, CHASQUIMQ.entry_fields(job.envelope, job.name))
        if not job.gone:
            q.cancel(job)
        return PromotedJob(job.id, job.name, due_ms=job.due_ms, promoted_ms=now_ms, stream_id=stream_id)


class CountsWhatIsLeftLater(OneProcess):
    killed_by = "test_two_processes_with_one_lease_promote_each_job_once"

    async def promote(self, lease, request):
        async with self.mutex:
            answer = await super().promote(lease, request)
            await round_trip()
            return replace(answer, depth=self._store[lease.queue].depth) if isinstance(answer, Promotion) else answer


class LooksForRoomFirst(OneProcess):
    killed_by = "test_two_processes_do_not_overfill_the_stream"

    async def promote(self, lease, request):
        async with self.mutex:
            length = len(self._store[lease.queue].streams[StreamName.JOBS].entries)
            await round_trip()
            room = max(request.max_stream_len - length, 0)
            return await super().promote(lease, replace(request, limit=min(request.limit, room), max_stream_len=10**9))


class PromotesWhatIsCancelled(PromotesInTwoSteps):
    killed_by = "test_a_job_is_cancelled_or_promoted"


class CountsInSeveralLooks(MemoryBackend):
    killed_by = "test_stats_are_of_one_moment"

    async def stats(self, queue):
        first = await super().stats(queue)
        await round_trip()
        second = await super().stats(queue)
        return replace(first, stream_len=second.stream_len, events_len=second.events_len)


class ShowsTheHolderOfAnotherMoment(MemoryBackend):
    killed_by = "test_stats_are_of_one_moment"

    async def stats(self, queue):
        holder = (await super().stats(queue)).holder
        await round_trip()
        return replace(await super().stats(queue), holder=holder)


class WritesAllMembers(OneProcess):
    killed_by = "test_of_two_processes_that_join_one_knows_the_other"

    async def join_group(self, group, member, ttl_ms):
        async with self.mutex:
            members = dict(self._store.groups.get(group, {}))
            await round_trip()
            self._store.groups[group] = members
            return await super().join_group(group, member, ttl_ms)


class LooksBeforeItJoins(OneProcess):
    killed_by = "test_of_two_processes_that_join_one_knows_the_other"

    async def join_group(self, group, member, ttl_ms):
        async with self.mutex:
            others = set(self._store.groups.get(group, {})) - {member}
            await round_trip()
            known = await super().join_group(group, member, ttl_ms)
            return Members(frozenset(others | {member}), known.next_expiry_ms)


class LeavesByWritingTheRest(OneProcess):
    killed_by = "test_a_process_that_leaves_takes_nobody_along"

    async def leave_group(self, group, member):
        async with self.mutex:
            rest = {name: ms for name, ms in self._store.groups.get(group, {}).items() if name != member}
            await round_trip()
            self._store.groups[group] = rest


class AddsAJobUnderAnOldSequence(OneProcess):
    """The stream's next id is read in one step and used in another."""

    killed_by = "test_two_processes_with_one_lease_promote_each_job_once"

    async def promote(self, lease, request):
        async with self.mutex:
            stream = self._store[lease.queue].streams[StreamName.JOBS]
            last = stream.last
            await round_trip()
            stream.last = last
            return await super().promote(lease, request)
