"""Wrong with ids that come again."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import JobOutcome, LeaseLost, Scheduled
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import FusedBackend, outcome_if
from tests.typed import untyped

CHUNK = 100
HOUR_MS = 3_600_000


class TouchesTheFirst(MemoryBackend):
    """A repeat is refused, and all the same changes something."""

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if not answer.created and (waiting := self._store[queue].waiting(job.id)) is not None:
                self.touch(self._store[queue], waiting, job)
        return answers


class ARepeatMovesTheDueTime(TouchesTheFirst):
    killed_by = "test_a_repeat_leaves_the_first_as_it_was"

    def touch(self, q, waiting, job):
        q.cancel(waiting)
        q.add(replace(waiting, gone=False, earlier=None, due_ms=self._now_ms() + job.delay_ms))


class ARepeatBringsTheJobForward(TouchesTheFirst):
    """The earlier due time wins."""

    killed_by = "test_a_repeat_leaves_the_first_as_it_was"

    def touch(self, q, waiting, job):
        q.cancel(waiting)
        due_ms = min(waiting.due_ms, self._now_ms() + job.delay_ms)
        q.add(replace(waiting, gone=False, earlier=None, due_ms=due_ms))


class ARepeatReplacesThePayload(TouchesTheFirst):
    killed_by = "test_a_repeat_leaves_what_the_consumer_gets_as_it_was"

    def touch(self, q, waiting, job):
        waiting.envelope = job.envelope


class ARepeatReplacesTheName(TouchesTheFirst):
    killed_by = "test_a_repeat_leaves_what_the_consumer_gets_as_it_was"

    def touch(self, q, waiting, job):
        waiting.name = job.name


class ARepeatReplacesTheTraceContext(TouchesTheFirst):
    killed_by = "test_a_repeat_leaves_what_the_consumer_gets_as_it_was"

    def touch(self, q, waiting, job):
        waiting.traceparent = job.traceparent


class ARepeatBreaksTheIndex(TouchesTheFirst):
    """The index says what the repeat's member would be, and `cancel` does not find that."""

    killed_by = "test_a_repeat_leaves_the_first_as_it_was"

    def touch(self, q, waiting, job):
        if job.envelope != waiting.envelope:
            self._store.groups.setdefault("broken", {})[job.id] = 1

    async def cancel(self, queue, ids):
        broken = self._store.groups.get("broken", {})
        outcomes = [(await super(ARepeatBreaksTheIndex, self).cancel(queue, [id]))[0] for id in ids if id not in broken]
        return tuple(outcomes) or (JobOutcome.NOT_FOUND,) * len(ids)


class ARepeatWithoutAnIndexDropsIt(TouchesTheFirst):
    killed_by = "test_a_repeat_leaves_the_first_as_it_was"

    def touch(self, q, waiting, job):
        if not job.index:
            self._store.groups.setdefault("plain", {})[job.id] = 1

    async def cancel(self, queue, ids):
        plain = self._store.groups.get("plain", {})
        outcomes = [
            (await super(ARepeatWithoutAnIndexDropsIt, self).cancel(queue, [i]))[0] for i in ids if i not in plain
        ]
        return tuple(outcomes) or (JobOutcome.NOT_FOUND,) * len(ids)


class ARepeatFreesTheId(TouchesTheFirst):
    """Every second request is made: the marker is toggled."""

    killed_by = "test_a_repeat_leaves_the_first_as_it_was"

    def touch(self, q, waiting, job):
        waiting.unique = False


class ARepeatEndsTheMarker(MemoryBackend):
    killed_by = "test_a_repeat_leaves_what_the_consumer_gets_as_it_was"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for id in self._store.groups.get("repeated", {}):
            self._store[lease.queue]._markers.pop(id, None)
        return answer

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        self._store.groups.setdefault("repeated", {}).update({a.id: 1 for a in answers if not a.created})
        return answers


class SeesRepeatsWithinAChunk(MemoryBackend):
    """A chunk is looked at before the rest of the call is there."""

    killed_by = "test_repeats_are_found_far_apart_in_one_call"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        before = {job.id for job in jobs if q.taken(job.id, now_ms)}
        answers = []
        for first in range(0, len(jobs), CHUNK):
            chunk = jobs[first : first + CHUNK]
            for job in chunk:
                if job.unique and job.id not in before and (waiting := q.waiting(job.id)):
                    waiting.unique = False
            answers += await super().schedule(queue, chunk)
        return tuple(answers)


class TheLastOfACallWins(MemoryBackend):
    killed_by = "test_a_repeat_in_one_call_leaves_the_first_as_it_was"

    async def schedule(self, queue, jobs):
        last = {job.id if job.unique else i: job for i, job in enumerate(jobs)}
        made = {a.id: a.created for a in await super().schedule(queue, tuple(last.values()))}
        firsts = set()
        return tuple(
            Scheduled(j.id, outcome_if(made[j.id] and not (j.unique and (j.id in firsts or untyped(firsts).add(j.id)))))
            for j in jobs
        )


class CancelFreesPromotedIds(MemoryBackend):
    killed_by = "test_cancelling_a_promoted_job_does_not_free_its_id"

    async def cancel(self, queue, ids):
        for id in ids:
            self._store[queue]._markers.pop(id, None)
        return await super().cancel(queue, ids)


class TakesACancelledJobUpAgain(MemoryBackend):
    """An id that is scheduled anew revives the row, with its old content."""

    killed_by = "test_an_id_that_was_cancelled_is_as_new"

    async def schedule(self, queue, jobs):
        rows = self._store.groups.setdefault(queue, {})
        return await super().schedule(queue, [replace(j, envelope=rows.setdefault(j.id, j.envelope)) for j in jobs])


class RemembersTheCancelledForGood(MemoryBackend):
    """`promote` skips what was cancelled, by id."""

    killed_by = "test_an_id_that_was_cancelled_is_as_new"

    async def cancel(self, queue, ids):
        self._store.groups.setdefault("cancelled", {}).update(dict.fromkeys(ids, 1))
        return await super().cancel(queue, ids)

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        while (head := q.head()) and head.due_ms <= now_ms and head.id in self._store.groups.get("cancelled", {}):
            q.pop()
        return await super().promote(lease, request)


class MarksEveryId(MemoryBackend):
    killed_by = "test_a_job_that_was_not_unique_leaves_no_marker"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue].remember(job.id, answer.now_ms + HOUR_MS)
        return answer


class FusedCleanupGoesById(FusedBackend):
    killed_by = "test_a_promotion_leaves_the_next_job_with_its_id_alone"

    async def _clean_up(self, queue, jobs):
        for job in jobs:
            self._store[queue]._index.pop(job.id, None)


class PromotionDeletesById(MemoryBackend):
    killed_by = "test_a_promotion_leaves_the_next_job_with_its_id_alone"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        await self.cancel(lease.queue, [job.id for job in getattr(answer, "jobs", ())])
        return answer


class CancelMarksTheId(MemoryBackend):
    """A tombstone for an id, of which there are two jobs."""

    killed_by = "test_of_jobs_with_one_id_the_last_is_cancelled_and_the_first_promoted"

    async def cancel(self, queue, ids):
        outcomes = await super().cancel(queue, ids)
        while any(o is JobOutcome.REMOVED for o in await super().cancel(queue, ids)):
            pass
        self._store[queue].depth += 1
        return outcomes

    async def promote(self, lease, request):
        self._store[lease.queue].depth = 0
        return await super().promote(lease, request)


class KeepsTraceContextsById(MemoryBackend):
    """They stay where no promotion takes them away."""

    def name(self, queue, id):
        return f"{queue}\0{id}"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        kept = self._store.groups.setdefault("traces", {})
        kept |= {self.name(queue, job.id): job.traceparent for job in jobs if job.traceparent}
        return answers

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, want_jobs=True))
        if isinstance(answer, LeaseLost) or not request.want_traces:
            return answer
        kept = untyped(self._store.groups).get("traces", {})
        traces = [kept.pop(self.name(lease.queue, job.id), None) for job in answer.jobs]
        return replace(answer, traces=tuple(trace for trace in traces if trace))


class AnUnseenTraceContextIsInherited(KeepsTraceContextsById):
    killed_by = "test_a_trace_context_is_not_inherited"

    async def cancel(self, queue, ids):
        for id in ids:
            self._store.groups.get("traces", {}).pop(self.name(queue, id), None)
        return await super().cancel(queue, ids)


class ACancelledTraceContextIsInherited(KeepsTraceContextsById):
    killed_by = "test_a_trace_context_is_not_inherited"

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, want_traces=True))
        return answer if request.want_traces else replace(answer, traces=())


class TraceContextsOfAllQueues(KeepsTraceContextsById):
    killed_by = "test_the_same_ids_in_two_queues_have_trace_contexts_each"

    def name(self, queue, id):
        return id


class MarkersOfAllQueues(MemoryBackend):
    killed_by = "test_the_same_ids_in_two_queues_are_other_jobs"

    async def schedule(self, queue, jobs):
        now_ms = self._now_ms()
        taken = {id for _, q in self._store.queues() for id in q._markers}
        for job in jobs:
            if job.id in taken:
                self._store[queue].remember(job.id, now_ms + HOUR_MS)
        return await super().schedule(queue, jobs)


class CancelsInAllQueues(MemoryBackend):
    killed_by = "test_the_same_ids_in_two_queues_are_other_jobs"

    async def cancel(self, queue, ids):
        for name in [queue, *(name for name, _ in self._store.queues())]:
            outcomes = await super().cancel(name, ids)
            if JobOutcome.REMOVED in outcomes:
                break
        return outcomes


class MarksAnIdOnce(MemoryBackend):
    """The marker that has ended is in the way of the next one's."""

    killed_by = "test_an_id_that_is_remembered_no_more_is_as_new"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        q, first = self._store[lease.queue], self._store.groups.setdefault(lease.queue, {})
        for job in getattr(answer, "jobs", ()):
            if first.setdefault(job.id, answer.now_ms + HOUR_MS) <= answer.now_ms:
                q._markers.pop(job.id, None)
        return answer


class AnEndedMarkerFreesAWaitingJob(MemoryBackend):
    """When the time of a marker is up the job that waits under its id by now is forgotten with it."""

    killed_by = "test_an_id_that_is_remembered_no_more_is_as_new"

    async def schedule(self, queue, jobs):
        q, now_ms = self._queue(queue)
        ends = self._store.groups.setdefault(queue, {})
        for job in jobs:
            if ends.get(job.id, now_ms + 1) <= now_ms and (waiting := q.waiting(job.id)):
                waiting.unique = False
        return await super().schedule(queue, jobs)

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        ends = self._store.groups.setdefault(lease.queue, {})
        ends |= {job.id: answer.now_ms + HOUR_MS for job in getattr(answer, "jobs", ())}
        return answer


class TheLastOfOneIdIsCancelled(MemoryBackend):
    """Even when an earlier one has taken the id."""

    killed_by = "test_of_jobs_with_one_id_the_unique_one_is_cancelled"

    async def cancel(self, queue, ids):
        q, _ = self._queue(queue)
        outcomes = []
        for id in ids:
            if job := next(q.all_waiting(id), None):
                q.cancel(job)
            outcomes.append(JobOutcome.REMOVED if job else JobOutcome.NOT_FOUND)
        return tuple(outcomes)
