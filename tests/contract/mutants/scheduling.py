"""Wrong with schedule, cancel, stats or read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core import JobOutcome, Scheduled
from promoter_core.spi import StreamName, pack_envelope
from promoter_memory.backend import MemoryBackend


class Rewrites(MemoryBackend):
    """Changes each request before it is carried out."""

    async def schedule(self, queue, jobs):
        return await super().schedule(queue, [self.rewrite(job) for job in jobs])


class DelaysFromZero(Rewrites):
    killed_by = "test_a_delay_counts_from_the_stores_clock"

    def rewrite(self, job):
        return job if job.delay_ms is None else replace(job, delay_ms=None, due_ms=job.delay_ms)


class RoundsDueTimesToSeconds(Rewrites):
    killed_by = "test_a_due_time_is_kept_to_the_millisecond"

    def rewrite(self, job):
        return job if job.due_ms is None else replace(job, due_ms=job.due_ms // 1000 * 1000)


class CutsFarDueTimes(Rewrites):
    killed_by = "test_a_far_due_time_is_kept_too"

    def rewrite(self, job):
        return job if job.due_ms is None else replace(job, due_ms=min(job.due_ms, 2**42))


class SendsDueJobsStraightToTheStream(MemoryBackend):
    killed_by = "test_a_job_due_at_once_goes_the_way_of_all_jobs"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        for job in jobs:
            if job.delay_ms == 0 or (job.due_ms or now_ms + 1) <= now_ms:
                q.streams[StreamName.JOBS].add(now_ms, {"d": job.envelope})
        later = [job for job in jobs if job.delay_ms or (job.due_ms or 0) > now_ms]
        answers = {a.id: a for a in await super().schedule(queue, later)}
        return tuple(answers.get(job.id, Scheduled(job.id)) for job in jobs)


class CountsDueJobsLate(MemoryBackend):
    killed_by = "test_a_job_due_at_once_goes_the_way_of_all_jobs"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        q = self._store[queue]
        for job in jobs:
            if job.due_ms is not None and (waiting := q.waiting(job.id)):
                waiting.due_ms = job.due_ms
        return answers


class GoesBeyondTheYear9999(MemoryBackend):
    killed_by = "test_a_due_time_after_the_year_9999_is_the_end_of_it"

    async def stats(self, queue):
        stats = await super().stats(queue)
        return replace(stats, next_due_ms=stats.next_due_ms and stats.next_due_ms + (stats.next_due_ms > 2**47))


class ForgetsIdsThatAreOverdue(MemoryBackend):
    killed_by = "test_the_id_of_a_job_that_waits_is_taken_however_long"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        for job in jobs:
            if (waiting := q.waiting(job.id)) and waiting.due_ms + 3_600_000 <= now_ms:
                waiting.unique = False
        return await super().schedule(queue, jobs)


class CancelForgetsJobsThatAreOverdue(MemoryBackend):
    killed_by = "test_a_job_that_has_waited_for_hours_can_be_cancelled"

    async def cancel(self, queue, ids):
        q, now_ms = self._queue(queue)
        for id in ids:
            if (waiting := q.waiting(id)) and waiting.due_ms + 3_600_000 <= now_ms:
                del q._index[id]
        return await super().cancel(queue, ids)


class ForgetsIdsAnHourAfterTheDueTime(MemoryBackend):
    killed_by = "test_an_id_is_remembered_for_an_hour_after_the_promotion"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue].remember(job.id, job.due_ms + 3_600_000)
        return answer


class RemembersIdsWithoutEnd(MemoryBackend):
    killed_by = "test_an_id_is_remembered_for_an_hour_after_the_promotion"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue].remember(job.id, 2**60)
        return answer


class CancelsTheFirstHundredOnly(MemoryBackend):
    killed_by = "test_many_ids_are_cancelled_in_one_call"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids[:100])
        return outcomes + (JobOutcome.NOT_FOUND,) * (len(ids) - len(outcomes))


class LooksAtAThousandJobsOnly(MemoryBackend):
    killed_by = "test_a_job_without_an_index_is_found_among_many"

    async def cancel(self, queue, ids):
        outcomes = []
        for id in ids:
            job = self._store[queue].waiting(id)
            far = job is not None and sum(due_ms < job.due_ms for due_ms, _, _ in self._store[queue]._heap) > 1_000
            outcomes += [JobOutcome.NOT_FOUND] if far else await super().cancel(queue, [id])
        return tuple(outcomes)


class IgnoresUnique(Rewrites):
    killed_by = "test_a_unique_id_is_scheduled_once"

    def rewrite(self, job):
        return replace(job, unique=False)


class ForgetsTheIndex(MemoryBackend):
    killed_by = "test_a_cancelled_job_is_never_promoted"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        self._store[queue]._index.clear()
        return answers


class CancelsOnlyWhatHasAnIndex(MemoryBackend):
    killed_by = "test_cancelling_tells_what_it_found_in_the_order_asked"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job in jobs:
            if not job.index:
                self._store[queue]._index.pop(job.id, None)
        return answers


class SeesNoRepeatInOneCall(MemoryBackend):
    killed_by = "test_a_unique_id_twice_in_one_call_is_scheduled_once"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        fresh = {job.id for job in jobs if not q.taken(job.id, now_ms)}
        answers = []
        for job in jobs:
            if job.unique and job.id in fresh and (waiting := q.waiting(job.id)):
                waiting.unique = False
            answers += await super().schedule(queue, [job])
        return tuple(answers)


class RemembersNoImmediateJob(MemoryBackend):
    killed_by = "test_a_unique_job_due_at_once_is_remembered"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job in jobs:
            if not job.delay_ms and not job.due_ms and (waiting := self._store[queue].waiting(job.id)):
                waiting.unique = False
        return answers


class TakesAnIdForAJob(MemoryBackend):
    killed_by = "test_jobs_with_one_id_that_are_not_unique_are_all_kept"

    async def schedule(self, queue, jobs):
        for job in jobs:
            if not job.unique and (waiting := self._store[queue].waiting(job.id)):
                self._store[queue].cancel(waiting)
        return await super().schedule(queue, jobs)


class CancelsAllJobsOfAnId(MemoryBackend):
    killed_by = "test_of_jobs_with_one_id_one_is_cancelled_at_a_time"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        while JobOutcome.REMOVED in await super().cancel(queue, ids):
            pass
        return outcomes


class WritesSomethingElseWhenCancelled(MemoryBackend):
    killed_by = "test_a_schedule_that_is_cancelled_writes_what_it_was_given_or_nothing"

    async def schedule(self, queue, jobs):
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await super().schedule(queue, [replace(job, envelope=pack_envelope(job.id, b"", 0, 0)) for job in jobs])
            raise
        return await super().schedule(queue, jobs)


class WritesTwiceWhenCancelled(MemoryBackend):
    killed_by = "test_a_schedule_that_is_cancelled_writes_what_it_was_given_or_nothing"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await super().schedule(queue, jobs)
            raise
        return answers


class AnswersInTheWrongOrder(MemoryBackend):
    killed_by = "test_many_jobs_in_one_call_are_answered_in_order"

    async def schedule(self, queue, jobs):
        return tuple(sorted(await super().schedule(queue, jobs), key=lambda a: a.created))


class SaysCreatedAlways(MemoryBackend):
    killed_by = "test_a_unique_id_is_scheduled_once"

    async def schedule(self, queue, jobs):
        return tuple(Scheduled(a.id) for a in await super().schedule(queue, jobs))


class DropsWhatDoesNotFitOneCall(MemoryBackend):
    killed_by = "test_large_jobs_in_one_call_are_all_kept"

    async def schedule(self, queue, jobs):
        kept, size = [], 0
        for job in jobs:
            size += len(job.envelope)
            kept += [job] if size < 2**21 else []
        await super().schedule(queue, kept)
        return tuple(Scheduled(job.id) for job in jobs)


class TakesQueuesForOne(MemoryBackend):
    killed_by = "test_queues_never_mix"

    def _queue(self, queue):
        return super()._queue(queue[:4])


class CancelSaysRemovedAlways(MemoryBackend):
    killed_by = "test_cancelling_tells_what_it_found_in_the_order_asked"

    async def cancel(self, queue, ids):
        await super().cancel(queue, ids)
        return tuple(JobOutcome.REMOVED for _ in ids)


class CancelKeepsTheJob(MemoryBackend):
    killed_by = "test_a_cancelled_job_is_never_promoted"

    async def cancel(self, queue, ids):
        found = [self._store[queue].waiting(id) for id in ids]
        return tuple(JobOutcome.REMOVED if f else JobOutcome.NOT_FOUND for f in found)


class CancelKeepsTheMarker(MemoryBackend):
    killed_by = "test_a_cancelled_id_is_free_again"

    async def cancel(self, queue, ids):
        q, now_ms = self._queue(queue)
        outcomes = await super().cancel(queue, ids)
        for id in ids:
            q.remember(id, now_ms + 3_600_000)
        return outcomes


class CancelsPromotedJobs(MemoryBackend):
    killed_by = "test_cancel_or_promote_one_of_them_wins"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        return tuple(JobOutcome.REMOVED if id.startswith("j") else o for id, o in zip(ids, outcomes, strict=True))


class StatsCountCancelledJobs(MemoryBackend):
    killed_by = "test_cancelling_the_head_moves_the_next_due_time"

    async def stats(self, queue):
        stats = await super().stats(queue)
        return replace(stats, depth=len(self._store[queue]._heap) + (stats.depth == 1))


class StatsTellTheWrongLag(MemoryBackend):
    killed_by = "test_stats_count_what_is_there"

    async def stats(self, queue):
        return replace(await super().stats(queue), oldest_pending_lag_ms=0)


class StatsTakeTheHead(MemoryBackend):
    killed_by = "test_stats_change_nothing"

    async def stats(self, queue):
        stats = await super().stats(queue)
        if stats.due:
            self._store[queue].pop()
        return stats


class StatsForgetTheHolder(MemoryBackend):
    killed_by = "test_stats_name_the_holder_and_what_is_left"

    async def stats(self, queue):
        return replace(await super().stats(queue), holder=None)


class ReadsTheNewestFirst(MemoryBackend):
    killed_by = "test_a_stream_is_read_page_by_page"

    async def read(self, queue, stream, after, limit):
        entries = await super().read(queue, stream, after, 10**6)
        return entries[-limit:]


class ReadsTheWrongStream(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def read(self, queue, stream, after, limit):
        return await super().read(queue, StreamName.JOBS, after, limit)


class ReadsFromTheStartAfterAnyText(MemoryBackend):
    killed_by = "test_reading_after_something_that_is_no_id_is_a_permanent_error"

    async def read(self, queue, stream, after, limit):
        return await super().read(queue, stream, after if after[:1].isdigit() else "", limit)
