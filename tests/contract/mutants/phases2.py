"""Phases that are fused for some promotions only, or for other jobs than those that moved."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import Promotion, StreamName
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import FusedBackend


class FusesCleanupForWantedJobs(FusedBackend):
    killed_by = "test_a_fused_cleanup_is_done_for_jobs_that_nobody_wants"
    wanted = True

    async def promote(self, lease, request):
        self.wanted = request.want_jobs
        return await super().promote(lease, request)

    async def _clean_up(self, queue, jobs):
        if self.wanted:
            await super()._clean_up(queue, jobs)


class FusesCleanupWithEvents(FusedBackend):
    killed_by = "test_a_fused_cleanup_is_done_for_jobs_that_nobody_wants"
    wanted = True

    async def promote(self, lease, request):
        self.wanted = request.events
        return await super().promote(lease, request)

    async def _clean_up(self, queue, jobs):
        if self.wanted:
            await super()._clean_up(queue, jobs)


class FusesEventsForWantedJobs(FusedBackend):
    killed_by = "test_fused_events_are_written_for_jobs_that_nobody_wants"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, events=request.events and request.want_jobs))


class TrimsEventsForWantedJobs(FusedBackend):
    killed_by = "test_fused_events_are_written_for_jobs_that_nobody_wants"

    async def promote(self, lease, request):
        most = request.events_max_stream_len if request.want_jobs else 10**9
        return await super().promote(lease, replace(request, events_max_stream_len=most))


class FusesBeforeTheFence(FusedBackend):
    """Events of what would be promoted, in a statement that does not ask for the lock."""

    killed_by = "test_a_lost_lease_does_no_phase"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        answer = await super().promote(lease, request)
        if not isinstance(answer, Promotion):
            events = q.streams[StreamName.EVENTS]
            for due_ms, _, job in q._heap:
                if due_ms <= now_ms and not job.gone:
                    events.add(now_ms, {"e": b"waiting", "id": job.id.encode(), "ts": b"%d" % now_ms})
        return answer


class CleansUpBeforeTheFence(FusedBackend):
    killed_by = "test_a_lost_lease_does_no_phase"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        due = [job.id for due_ms, _, job in q._heap if due_ms <= now_ms]
        answer = await super().promote(lease, request)
        for id in due:
            q._index.pop(id, None)
        return answer


class CleansUpAllThatIsDue(FusedBackend):
    """By the due time, as the promotion has it, but without its limit."""

    killed_by = "test_phases_are_for_the_jobs_that_moved"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        q, now_ms = self._queue(lease.queue)
        if isinstance(answer, Promotion):
            for due_ms, _, job in q._heap:
                if due_ms <= now_ms:
                    q._index.pop(job.id, None)
        return answer


class EmitsAllThatIsDue(FusedBackend):
    killed_by = "test_phases_are_for_the_jobs_that_moved"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        q, now_ms = self._queue(lease.queue)
        if isinstance(answer, Promotion):
            for due_ms, _, job in sorted(q._heap, key=lambda entry: entry[:2]):
                if due_ms <= now_ms and not job.gone:
                    fields = {"e": b"waiting", "id": job.id.encode(), "ts": b"%d" % now_ms}
                    q.streams[StreamName.EVENTS].add(now_ms, fields)
        return answer


class EmitsWhatIsLeftInTheStream(FusedBackend):
    killed_by = "test_events_are_of_all_that_was_promoted_though_the_stream_is_trimmed"

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, events=False, want_jobs=True))
        if not isinstance(answer, Promotion):
            return answer
        here = {entry.id for entry in self._store[lease.queue].streams[StreamName.JOBS].entries}
        jobs = [job for job in answer.jobs if job.stream_id in here]
        if request.events:
            await MemoryBackend.emit(self, lease.queue, jobs, request.events_max_stream_len)
        return answer


class DropsTheIndexByIdAlone(FusedBackend):
    killed_by = "test_a_job_that_waits_keeps_its_index_when_another_with_its_id_is_promoted"

    async def _clean_up(self, queue, jobs):
        for job in jobs:
            self._store[queue]._index.pop(job.id, None)


class SaysLessWithoutJobs(MemoryBackend):
    """Leaves something out where nobody wants the jobs: there is no list to make it from."""

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        return answer if request.want_jobs or not isinstance(answer, Promotion) else self.less(lease.queue, answer)


class CountsTheLateOfWantedJobs(SaysLessWithoutJobs):
    killed_by = "test_the_late_are_counted_whether_their_jobs_are_wanted"

    def less(self, queue, promotion):
        return replace(promotion, lateness_counts=())


class CountsTheHeldBackForWantedJobs(SaysLessWithoutJobs):
    killed_by = "test_a_promotion_says_the_same_whether_its_jobs_are_wanted"

    def less(self, queue, promotion):
        return replace(promotion, held_back=0)


class KeepsTracesOfUnwantedJobs(SaysLessWithoutJobs):
    killed_by = "test_a_promotion_says_the_same_whether_its_jobs_are_wanted"

    def less(self, queue, promotion):
        return replace(promotion, traces=())


class RemembersWantedIdsOnly(SaysLessWithoutJobs):
    killed_by = "test_a_promotion_says_the_same_whether_its_jobs_are_wanted"

    def less(self, queue, promotion):
        self._store[queue]._markers.clear()
        return promotion


class SaysWhatWasLeftBefore(SaysLessWithoutJobs):
    killed_by = "test_a_promotion_says_the_same_whether_its_jobs_are_wanted"

    def less(self, queue, promotion):
        return replace(promotion, depth=promotion.depth + promotion.promoted)
