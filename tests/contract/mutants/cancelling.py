"""Half done when a call is cancelled or its connection is lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core.spi import (
    CHASQUIMQ,
    ChangeKind,
    JobOutcome,
    LeaseLost,
    PromotedJob,
    Promotion,
    Scheduled,
    StreamName,
    TransientError,
)
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import CompleteBackend, outcome_if
from tests.contract.mutants.processes import round_trip

GRACE_MS = 3_600_000


class RemembersTheIdBeforeTheJob(MemoryBackend):
    """The marker with SET NX, and then the job: cut between the two, the job is lost and its repeat refused."""

    killed_by = "test_a_schedule_that_is_cut_is_done_or_not"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        answers = []
        for job in jobs:
            if job.unique and q.taken(job.id, now_ms):
                answers.append(Scheduled(job.id, JobOutcome.KEPT))
                continue
            if job.unique:
                q.remember(job.id, now_ms + GRACE_MS)
                await round_trip()
                q._markers.pop(job.id)
            answers += await super().schedule(queue, [job])
        return tuple(answers)


class RemembersTheIdAfterTheJob(MemoryBackend):
    killed_by = "test_a_schedule_that_is_cut_is_done_or_not"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        answers = []
        for job in jobs:
            taken = job.unique and q.taken(job.id, now_ms)
            if not taken:
                await super().schedule(queue, [replace(job, unique=False)])
                await round_trip()
                q.waiting(job.id).unique = job.unique
            answers.append(Scheduled(job.id, outcome_if(not taken)))
        return tuple(answers)


class IndexesTheJobLater(MemoryBackend):
    killed_by = "test_a_schedule_that_is_cut_is_done_or_not"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        answers = await super().schedule(queue, jobs)
        added = {job.id: waiting for job in jobs if (waiting := q._index.pop(job.id, None))}
        for id in added:
            q.remember(id, now_ms + GRACE_MS)
        await round_trip()
        for id, waiting in added.items():
            q._index[id] = waiting
            del q._markers[id]
        return answers


class RemembersAllIdsBeforeTheJobs(MemoryBackend):
    """One call for the markers of all, and another for the jobs."""

    killed_by = "test_of_many_jobs_each_is_scheduled_or_not"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        fresh = [job for job in jobs if not (job.unique and q.taken(job.id, now_ms))]
        for job in fresh:
            q.remember(job.id, now_ms + GRACE_MS)
        await round_trip()
        for job in fresh:
            q._markers.pop(job.id)
        created = {job.id for job in fresh}
        await super().schedule(queue, fresh)
        return tuple(Scheduled(job.id, outcome_if(job.id in created)) for job in jobs)


class WakesAfterAnotherStep(MemoryBackend):
    """The job is there, and who waits for it hears nothing of it."""

    killed_by = "test_a_schedule_that_is_cut_wakes_when_it_is_done"

    async def schedule(self, queue, jobs):
        flag = self._store.flags._flags.get((ChangeKind.JOBS, queue))
        was_set = flag is not None and flag.is_set()
        answers = await super().schedule(queue, jobs)
        if flag is not None and not was_set:
            flag.clear()
        await round_trip()
        self._store.flags.set(ChangeKind.JOBS, queue)
        return answers


class TakesBackWhatIsCancelled(MemoryBackend):
    """Undoes a call that is cancelled, by id: of a repeat, that is the first one's job."""

    killed_by = "test_a_repeat_that_is_cut_leaves_the_job_alone"

    async def schedule(self, queue, jobs):
        try:
            answers = await super().schedule(queue, jobs)
            await round_trip()
        except BaseException:
            await self.cancel(queue, [job.id for job in jobs])
            raise
        return answers


class MovesTheJobOfARepeat(MemoryBackend):
    """An upsert that is put right once the answer is there."""

    killed_by = "test_a_repeat_that_is_cut_leaves_the_job_alone"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        for job in jobs:
            if job.unique and (waiting := q.waiting(job.id)) is not None:
                entry = next(e for e in q._heap if e[2] is waiting)
                q._heap.remove(entry)
                q._heap.append((now_ms + (job.delay_ms or 0), entry[1], waiting))
                before, waiting.due_ms = waiting.due_ms, now_ms + (job.delay_ms or 0)
                await round_trip()
                q._heap.remove((waiting.due_ms, entry[1], waiting))
                q._heap.append(entry)
                waiting.due_ms = before
        return await super().schedule(queue, jobs)


class Moves(MemoryBackend):
    """Promotes without a transaction, one step after another."""

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return LeaseLost()
        jobs = []
        while len(jobs) < request.limit and (head := q.head()) and head.due_ms <= now_ms:
            jobs.append(await self.move(q, now_ms, head))
            if head.unique:
                q.remember(head.id, now_ms + GRACE_MS)
        answer = await super().promote(lease, replace(request, limit=0))
        return replace(answer, promoted=len(jobs), jobs=tuple(jobs)) if isinstance(answer, Promotion) else answer

    def add(self, q, now_ms, job):
        stream_id = q.streams[StreamName.JOBS].add(now_ms, CHASQUIMQ.entry_fields(job.envelope, job.name))
        return PromotedJob(job.id, job.name, due_ms=job.due_ms, promoted_ms=now_ms, stream_id=stream_id)


class AddsAndThenRemoves(Moves):
    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def move(self, q, now_ms, job):
        moved = self.add(q, now_ms, job)
        await round_trip()
        q.pop()
        return moved


class RemovesAndThenAdds(Moves):
    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def move(self, q, now_ms, job):
        q.pop()
        await round_trip()
        return self.add(q, now_ms, job)


class RemembersPromotedIdsLater(MemoryBackend):
    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def promote(self, lease, request):
        q = self._store[lease.queue]
        before = dict(q._markers)
        answer = await super().promote(lease, request)
        after, q._markers = q._markers, before
        await round_trip()
        q._markers = after
        return answer


class RenewsAfterThePromotion(MemoryBackend):
    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, renew=False))
        if isinstance(answer, Promotion) and request.renew:
            await round_trip()
            await self.lock(lease.queue, lease.holder, lease.ttl_ms)
        return answer


class RenewsBeforeThePromotion(MemoryBackend):
    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def promote(self, lease, request):
        if request.renew:
            (renewed,) = await self.renew_many([lease])
            if isinstance(renewed, LeaseLost):
                return renewed
            await round_trip()
        return await super().promote(lease, replace(request, renew=False))


class DropsTheIndexBeforeTheJob(MemoryBackend):
    killed_by = "test_a_cancellation_that_is_cut_is_done_or_not"

    async def cancel(self, queue, ids):
        q, _ = self._queue(queue)
        found = {id: q._index.pop(id, None) for id in ids}
        await round_trip()
        q._index.update({id: job for id, job in found.items() if job is not None})
        return await super().cancel(queue, ids)


class FreesTheIdAfterTheJob(MemoryBackend):
    killed_by = "test_a_cancellation_that_is_cut_is_done_or_not"

    async def cancel(self, queue, ids):
        q, now_ms = self._queue(queue)
        outcomes = await super().cancel(queue, ids)
        removed = [id for id, outcome in zip(ids, outcomes, strict=True) if outcome is JobOutcome.REMOVED]
        for id in removed:
            q.remember(id, now_ms + GRACE_MS)
        await round_trip()
        for id in removed:
            q._markers.pop(id, None)
        return outcomes


class RequeuesAndThenDeletes(CompleteBackend):
    killed_by = "test_a_dead_letter_is_in_one_place_when_its_move_is_cut"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        q, now_ms = self._queue(queue)
        if not any(entry.id == entry_id for entry in self.dead_letters(queue)):
            return False
        q.streams[StreamName.JOBS].add(now_ms, {"d": envelope})
        await round_trip()
        return self.remove(queue, entry_id)


class DeletesAndThenRequeues(CompleteBackend):
    killed_by = "test_a_dead_letter_is_in_one_place_when_its_move_is_cut"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        q, now_ms = self._queue(queue)
        if not self.remove(queue, entry_id):
            return False
        await round_trip()
        q.streams[StreamName.JOBS].add(now_ms, {"d": envelope})
        return True


class RollsBackCancellationsOnly(MemoryBackend):
    """Thought of `CancelledError`, and not of a connection that is lost."""

    killed_by = "test_a_schedule_that_is_cut_is_done_or_not"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        fresh = [job for job in jobs if not (job.unique and q.taken(job.id, now_ms))]
        for job in fresh:
            q.remember(job.id, now_ms + GRACE_MS)
        try:
            await round_trip()
        except asyncio.CancelledError:
            for job in fresh:
                q._markers.pop(job.id)
            raise
        except OSError as exc:
            raise TransientError("the connection was lost", code="CONNECTION") from exc
        for job in fresh:
            q._markers.pop(job.id)
        created = {job.id for job in fresh}
        await super().schedule(queue, fresh)
        return tuple(Scheduled(job.id, outcome_if(job.id in created)) for job in jobs)


class RollsBackErrorsOnly(MemoryBackend):
    """`except Exception`, which a cancellation is not."""

    killed_by = "test_a_promotion_that_is_cut_is_done_or_not"

    async def promote(self, lease, request):
        q, _ = self._queue(lease.queue)
        entries = q.streams[StreamName.JOBS].entries
        waiting = [entry[2] for entry in q._heap]
        heap, length, depth, held = list(q._heap), len(entries), q.depth, q.lock
        answer = await super().promote(lease, request)
        moved = entries[length:]
        del entries[length:]
        try:
            await round_trip()
        except Exception as exc:
            q._heap, q.depth, q.lock = heap, depth, held
            for job in waiting:
                job.gone = False
            raise TransientError("the connection was lost", code="CONNECTION") from exc
        entries += moved
        return answer
