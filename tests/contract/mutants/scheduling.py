"""Wrong with schedule, cancel, stats or read."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.model import CancelOutcome, Scheduled, StreamName
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


class KeepsDueJobsInTheSet(Rewrites):
    killed_by = "test_a_job_due_at_once_goes_straight_to_the_stream"

    def rewrite(self, job):
        return (
            replace(job, delay_ms=1, due_ms=None) if (job.delay_ms or 0) <= 0 and not (job.due_ms or 0) > 2e12 else job
        )


class IgnoresUnique(Rewrites):
    killed_by = "test_a_unique_id_is_scheduled_once"

    def rewrite(self, job):
        return replace(job, unique=False)


class ForgetsTheIndex(Rewrites):
    killed_by = "test_a_cancelled_job_is_never_promoted"

    def rewrite(self, job):
        return replace(job, index=False)


class IndexesEverything(Rewrites):
    killed_by = "test_cancelling_tells_what_it_found_in_the_order_asked"

    def rewrite(self, job):
        return replace(job, index=True)


class SeesNoRepeatInOneCall(MemoryBackend):
    killed_by = "test_a_unique_id_twice_in_one_call_is_scheduled_once"

    async def schedule(self, queue, jobs):
        q = self._store[queue]
        fresh = {job.id for job in jobs if job.id not in q._markers}
        answers = []
        for job in jobs:
            if job.unique and job.id in fresh:
                q.unmark(job.id)
            answers += await super().schedule(queue, [job])
        return tuple(answers)


class RemembersNoImmediateJob(MemoryBackend):
    killed_by = "test_a_unique_job_due_at_once_is_remembered"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job in jobs:
            if not job.delay_ms and not job.due_ms:
                self._store[queue].unmark(job.id)
        return answers


class AnswersInTheWrongOrder(MemoryBackend):
    killed_by = "test_many_jobs_in_one_call_are_answered_in_order"

    async def schedule(self, queue, jobs):
        return tuple(sorted(await super().schedule(queue, jobs), key=lambda a: a.created))


class SaysCreatedAlways(MemoryBackend):
    killed_by = "test_a_unique_id_is_scheduled_once"

    async def schedule(self, queue, jobs):
        return tuple(Scheduled(a.id, True) for a in await super().schedule(queue, jobs))


class DropsWhatDoesNotFitOneCall(MemoryBackend):
    killed_by = "test_large_jobs_in_one_call_are_all_kept"

    async def schedule(self, queue, jobs):
        kept, size = [], 0
        for job in jobs:
            size += len(job.payload)
            kept += [job] if size < 2**21 else []
        await super().schedule(queue, kept)
        return tuple(Scheduled(job.id, True) for job in jobs)


class TakesQueuesForOne(MemoryBackend):
    killed_by = "test_queues_never_mix"

    def _queue(self, queue):
        return super()._queue(queue[:4])


class CancelSaysRemovedAlways(MemoryBackend):
    killed_by = "test_cancelling_tells_what_it_found_in_the_order_asked"

    async def cancel(self, queue, ids):
        await super().cancel(queue, ids)
        return tuple(CancelOutcome.REMOVED for _ in ids)


class CancelKeepsTheJob(MemoryBackend):
    killed_by = "test_a_cancelled_job_is_never_promoted"

    async def cancel(self, queue, ids):
        found = [id in self._store[queue].index for id in ids]
        return tuple(CancelOutcome.REMOVED if f else CancelOutcome.NOT_FOUND for f in found)


class CancelKeepsTheMarker(MemoryBackend):
    killed_by = "test_a_cancelled_id_is_free_again"

    async def cancel(self, queue, ids):
        q, now_ms = self._queue(queue)
        outcomes = await super().cancel(queue, ids)
        for id in ids:
            q.mark(id, now_ms, now_ms + 3_600_000)
        return outcomes


class CancelsPromotedJobs(MemoryBackend):
    killed_by = "test_cancel_or_promote_one_of_them_wins"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        return tuple(CancelOutcome.REMOVED if id.startswith("j") else o for id, o in zip(ids, outcomes, strict=True))


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
