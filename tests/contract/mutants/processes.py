"""Atomic within a process alone: a mutex of the backend's own stands where a transaction in the store belongs."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

from promoter_core.spi import (
    CHASQUIMQ,
    CancelOutcome,
    ChangeKind,
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    PromotedJob,
    Promotion,
    Renewal,
    Scheduled,
    StreamName,
    to_bytes,
)
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import CompleteBackend


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


class CancelsInTwoSteps(OneProcess):
    """Looks the job up in the index, and deletes it without asking whether it was there."""

    killed_by = "test_a_job_is_cancelled_or_promoted"

    async def cancel(self, queue, ids):
        async with self.mutex:
            q, _ = self._queue(queue)
            found = [q.waiting(id) for id in ids]
            await round_trip()
            for job in found:
                if job is not None and not job.gone:
                    q.cancel(job)
            return tuple(CancelOutcome.NOT_FOUND if job is None else CancelOutcome.REMOVED for job in found)


class CancelsTwice(CancelsInTwoSteps):
    killed_by = "test_of_two_processes_one_cancels_a_job"


class PromotesWhatIsCancelled(PromotesInTwoSteps):
    killed_by = "test_a_job_is_cancelled_or_promoted"


class CancelsByIdInTwoSteps(OneProcess):
    """The job first, and then everything of its id: by then another job's."""

    killed_by = "test_a_cancellation_spares_the_id_of_a_job_scheduled_anew"

    async def cancel(self, queue, ids):
        async with self.mutex:
            outcomes = await super().cancel(queue, ids)
            await round_trip()
            for id, outcome in zip(ids, outcomes, strict=True):
                if outcome is CancelOutcome.REMOVED and (job := self._store[queue].waiting(id)):
                    job.unique = False  # its marker has been deleted
            return outcomes


class LooksForUniqueIdsFirst(OneProcess):
    killed_by = "test_of_two_processes_one_schedules_a_unique_job"

    async def schedule(self, queue, jobs):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            taken = [job.unique and q.taken(job.id, now_ms) for job in jobs]
            await round_trip()
            rest = [replace(job, unique=False) for job, was in zip(jobs, taken, strict=True) if not was]
            await super().schedule(queue, rest)
            for job in jobs:
                if (waiting := q.waiting(job.id)) is not None:
                    waiting.unique = job.unique
            return tuple(Scheduled(job.id, not was) for job, was in zip(jobs, taken, strict=True))


class AnswersFromAnOldLook(OneProcess):
    """INSERT … ON CONFLICT DO NOTHING, and the answer from the SELECT before it."""

    killed_by = "test_of_two_processes_one_schedules_a_unique_job"

    async def schedule(self, queue, jobs):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            taken = [job.unique and q.taken(job.id, now_ms) for job in jobs]
            await round_trip()
            await super().schedule(queue, jobs)
            return tuple(Scheduled(job.id, not was) for job, was in zip(jobs, taken, strict=True))


class RepeatsByAnOldLook(AnswersFromAnOldLook):
    killed_by = "test_a_repeat_while_the_job_is_cancelled_is_one_or_the_other"


class LooksForTheMarkerBeforeTheJob(OneProcess):
    """The id is neither remembered nor waiting: between the two looks it was promoted."""

    killed_by = "test_the_id_of_a_job_is_taken_while_it_is_promoted"

    async def schedule(self, queue, jobs):
        async with self.mutex:
            q, _ = self._queue(queue)
            marked = [job.id in q._markers for job in jobs]
            await round_trip()
            waits = [q.waiting(job.id) is not None for job in jobs]
            taken = [job.unique and (m or w) for job, m, w in zip(jobs, marked, waits, strict=True)]
            for job, was in zip(jobs, taken, strict=True):
                if not was:
                    q._markers.pop(job.id, None)
                    await super().schedule(queue, [job])
            return tuple(Scheduled(job.id, not was) for job, was in zip(jobs, taken, strict=True))


class RemembersIdsAfterThePromotion(OneProcess):
    killed_by = "test_the_id_of_a_job_is_taken_while_it_is_promoted"

    async def promote(self, lease, request):
        async with self.mutex:
            q = self._store[lease.queue]
            before = dict(q._markers)
            answer = await super().promote(lease, request)
            after, q._markers = q._markers, before
            await round_trip()
            q._markers.update(after)
            return answer


class WritesTheWholeSet(OneProcess):
    """Reads the set, adds to it and writes it back, as to a file or to one value of a key-value store."""

    killed_by = "test_jobs_that_two_processes_schedule_are_all_kept"

    async def schedule(self, queue, jobs):
        async with self.mutex:
            q, _ = self._queue(queue)
            heap, index, depth = copy.copy(q._heap), copy.copy(q._index), q.depth
            await round_trip()
            q._heap, q._index, q.depth = heap, index, depth
            return await super().schedule(queue, jobs)


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


class RequeuesByCopying(CompleteBackend):
    """Adds what it has read, and deletes the original without asking whether it was there."""

    killed_by = "test_a_dead_letter_is_moved_once"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        q, now_ms = self._queue(queue)
        if not any(entry.id == entry_id for entry in self.dead_letters(queue)):
            return False
        await round_trip()
        q.streams[StreamName.JOBS].add(now_ms, {"d": envelope} | ({"n": to_bytes(name)} if name else {}))
        self.remove(queue, entry_id)
        return True


class CountsDeadLettersBefore(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_once"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        found = any(entry.id == entry_id for entry in self.dead_letters(queue))
        await round_trip()
        await super().requeue_dead_letter(queue, entry_id, envelope, name)
        return found


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
