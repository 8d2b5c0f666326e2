"""Wrong with how long an id stays taken, and with what a repeat and a cancellation answer."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import KEEP_ID_MS, JobOutcome, LeaseLost, Scheduled
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import QueueStore

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


class SaysOfEachRepeat(MemoryBackend):
    """One word for both."""

    killed_by = "test_a_repeat_says_whether_the_job_waits_or_was_promoted"
    word = JobOutcome.KEPT

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        return tuple(answer if answer.created else Scheduled(answer.id, self.word) for answer in answers)


class SaysOfEachRepeatThatItWasPromoted(SaysOfEachRepeat):
    killed_by = "test_a_repeat_says_whether_the_job_waits_or_was_promoted"
    word = JobOutcome.ALREADY_PROMOTED


class TakesADueJobForAPromotedOne(MemoryBackend):
    """Goes by the due time."""

    killed_by = "test_a_repeat_says_whether_the_job_waits_or_was_promoted"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        due = {job.id for job in jobs if (waiting := q.waiting(job.id)) and waiting.due_ms <= now_ms}
        return tuple(
            replace(answer, outcome=JobOutcome.ALREADY_PROMOTED) if answer.id in due and not answer.created else answer
            for answer in await super().schedule(queue, jobs)
        )


class CancelsWithoutALookAtTheMarker(MemoryBackend):
    """NOT_FOUND for what was promoted."""

    killed_by = "test_a_cancellation_says_whether_the_job_was_promoted"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        return tuple(o if o is JobOutcome.REMOVED else JobOutcome.NOT_FOUND for o in outcomes)


class SaysThatAllWerePromoted(MemoryBackend):
    killed_by = "test_a_cancellation_says_whether_the_job_was_promoted"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        return tuple(o if o is JobOutcome.REMOVED else JobOutcome.ALREADY_PROMOTED for o in outcomes)


class FreesTheIdOfAPromotedJobWhenItIsCancelled(MemoryBackend):
    killed_by = "test_a_cancellation_says_whether_the_job_was_promoted"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        for id in ids:
            self._store[queue]._markers.pop(id, None)
        return outcomes


class AsksTheMarkerFirst(MemoryBackend):
    """A job that waits is not looked for when a marker says that its id was promoted."""

    killed_by = "test_a_job_that_waits_is_cancelled_though_its_id_is_taken_by_another"

    async def cancel(self, queue, ids):
        q, now_ms = self._queue(queue)
        return tuple(
            [
                JobOutcome.ALREADY_PROMOTED
                if q.marked(id, now_ms)
                else (await super(AsksTheMarkerFirst, self).cancel(queue, [id]))[0]
                for id in ids
            ]
        )


class Keeps(MemoryBackend):
    """Something else than what the request says. `keep_ms(job)`."""

    async def schedule(self, queue, jobs):
        return await super().schedule(queue, [replace(job, keep_id_ms=self.keep_ms(job)) for job in jobs])


class KeepsAnHourAlways(Keeps):
    killed_by = "test_an_id_that_is_not_kept_is_free_as_soon_as_its_job_is_promoted"

    def keep_ms(self, job):
        return KEEP_ID_MS


class KeepsAnHourOfEach(KeepsAnHourAlways):
    killed_by = "test_an_id_is_kept_as_long_as_its_request_says"


class TakesNothingForTheDefault(Keeps):
    """`keep_id_ms or KEEP_ID_MS`."""

    killed_by = "test_an_id_that_is_not_kept_is_free_as_soon_as_its_job_is_promoted"

    def keep_ms(self, job):
        return job.keep_id_ms or KEEP_ID_MS


class KeepsForAMonthAtMost(Keeps):
    killed_by = "test_an_id_is_kept_as_long_as_its_request_says"

    def keep_ms(self, job):
        return min(job.keep_id_ms, 30 * 24 * HOUR_MS)


class KeepsForAnHourAtLeast(Keeps):
    killed_by = "test_an_id_is_kept_as_long_as_its_request_says"

    def keep_ms(self, job):
        return max(job.keep_id_ms, HOUR_MS)


class KeepsWholeHours(Keeps):
    killed_by = "test_an_id_is_kept_to_the_minute"

    def keep_ms(self, job):
        return -(-job.keep_id_ms // HOUR_MS) * HOUR_MS


class CountsFromTheDueTime(MemoryBackend):
    """Though the promotion was late."""

    killed_by = "test_an_id_is_kept_to_the_minute"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        waiting = {job.id: job for due_ms, _, job in q.ordered() if due_ms <= now_ms and job.unique and job.keep_id_ms}
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            if job.id in waiting:
                q.remember(job.id, job.due_ms + waiting[job.id].keep_id_ms)
        return answer


class CountsLateJobsFromTheirDueTime(CountsFromTheDueTime):
    killed_by = "test_an_id_is_kept_as_long_as_its_request_says"


class FreesTheIdWhenItIsDue(MemoryBackend):
    """A job that is not kept has no marker, and who looks for markers alone takes its id for free."""

    killed_by = "test_an_id_that_is_not_kept_is_taken_while_its_job_waits"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        answers = []
        for job in jobs:
            waiting = q.waiting(job.id)
            if waiting is not None and waiting.unique and waiting.due_ms + waiting.keep_id_ms < now_ms:
                waiting.unique = False
            answers += await super().schedule(queue, [job])
        return tuple(answers)


class ARepeatSaysHowLong(MemoryBackend):
    killed_by = "test_how_long_is_said_by_the_request_that_made_the_job"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job in jobs:
            if (waiting := self._store[queue].waiting(job.id)) is not None:
                waiting.keep_id_ms = job.keep_id_ms
        return answers


class ALateRepeatSaysHowLong(MemoryBackend):
    """SET … XX EX: the marker is written anew."""

    killed_by = "test_a_repeat_after_the_promotion_does_not_keep_the_id_longer"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        answers = await super().schedule(queue, jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if answer.outcome is JobOutcome.ALREADY_PROMOTED and job.keep_id_ms:
                q.remember(job.id, now_ms + job.keep_id_ms)
        return answers


class RemembersHowLongById(MemoryBackend):
    """In a key of the id that nobody deletes, and that wins."""

    killed_by = "test_the_next_job_with_an_id_is_kept_as_its_own_request_says"

    async def schedule(self, queue, jobs):
        keeps = self._store.groups.setdefault(f"keeps of {queue}", {})
        asked = [replace(job, keep_id_ms=keeps.setdefault(job.id, job.keep_id_ms)) for job in jobs]
        return await super().schedule(queue, asked)


class TheFirstOfABatchSaysHowLong(MemoryBackend):
    killed_by = "test_many_jobs_of_one_batch_are_kept_each_as_long_as_it_says"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        due = [job for due_ms, _, job in q.ordered() if due_ms <= now_ms]
        answer = await super().promote(lease, request)
        if not isinstance(answer, LeaseLost):
            for job in due[: answer.promoted]:
                q.remember(job.id, now_ms + due[0].keep_id_ms)
        return answer


class KeepsEveryId(MemoryBackend):
    killed_by = "test_without_unique_no_id_is_kept"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue].remember(job.id, answer.now_ms + HOUR_MS)
        return answer


class LeavesAMarkerThatHasEnded(MemoryBackend):
    """SET with a time in the past, and nobody looks whether the store took it away."""

    killed_by = "test_nothing_in_the_store_is_named_after_a_job_that_is_not_kept"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue]._markers.setdefault(job.id, answer.now_ms)
        return answer


class CountsTheHourDownToTheDueTime(Keeps):
    """The marker is written when the job is scheduled: a job that waits longer has none."""

    killed_by = "test_an_id_is_remembered_for_an_hour_after_the_promotion"

    def keep_ms(self, job):
        return 0


class _Keeping(QueueStore):
    def marked(self, id, now_ms):
        return self._markers.get(id, 0) > now_ms


class KeepsExpiredMarkers(MemoryBackend):
    """Compares the time of a marker, and deletes none."""

    killed_by = "test_expired_markers_are_deleted_in_the_end"

    def _queue(self, queue):
        q, now_ms = super()._queue(queue)
        q.__class__ = _Keeping
        return q, now_ms
