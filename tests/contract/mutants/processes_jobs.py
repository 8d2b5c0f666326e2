"""Atomic within a process alone, in what becomes of a job and of its id: cancelled, scheduled, remembered, requeued."""

from __future__ import annotations

import copy
from dataclasses import replace

from promoter_core.spi import (
    JobOutcome,
    Scheduled,
    StreamName,
    to_bytes,
)
from tests.contract.mutants.honest import CompleteBackend, outcome_if
from tests.contract.mutants.processes import OneProcess, round_trip


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
            return tuple(JobOutcome.NOT_FOUND if job is None else JobOutcome.REMOVED for job in found)


class CancelsTwice(CancelsInTwoSteps):
    killed_by = "test_of_two_processes_one_cancels_a_job"


class CancelsByIdInTwoSteps(OneProcess):
    """The job first, and then everything of its id: by then another job's."""

    killed_by = "test_a_cancellation_spares_the_id_of_a_job_scheduled_anew"

    async def cancel(self, queue, ids):
        async with self.mutex:
            outcomes = await super().cancel(queue, ids)
            await round_trip()
            for id, outcome in zip(ids, outcomes, strict=True):
                if outcome is JobOutcome.REMOVED and (job := self._store[queue].waiting(id)):
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
            return tuple(Scheduled(job.id, outcome_if(not was)) for job, was in zip(jobs, taken, strict=True))


class AnswersFromAnOldLook(OneProcess):
    """INSERT … ON CONFLICT DO NOTHING, and the answer from the SELECT before it."""

    killed_by = "test_of_two_processes_one_schedules_a_unique_job"

    async def schedule(self, queue, jobs):
        async with self.mutex:
            q, now_ms = self._queue(queue)
            taken = [job.unique and q.taken(job.id, now_ms) for job in jobs]
            await round_trip()
            await super().schedule(queue, jobs)
            return tuple(Scheduled(job.id, outcome_if(not was)) for job, was in zip(jobs, taken, strict=True))


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
            return tuple(Scheduled(job.id, outcome_if(not was)) for job, was in zip(jobs, taken, strict=True))


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
