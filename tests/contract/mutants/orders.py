"""Wrong with order: of ties, of due times in a batch, of what tells of them."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import MAX_DUE_MS, StreamName
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.promoting import Edits

CHUNK = 100


class SortsTheSet(MemoryBackend):
    """Promotes by another order of the set."""

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        due = sorted(entry for entry in q._heap if not entry[2].gone and entry[2].due_ms <= now_ms)
        rest = [entry for entry in q._heap if not entry[2].gone and entry[2].due_ms > now_ms]
        order = [job for _, _, job in sorted(due, key=self.key)]
        q._heap = sorted([(due[0][0], i - len(due), job) for i, job in enumerate(order)] + rest) if due else rest
        return await super().promote(lease, request)


class PromotesTheLastFirst(SortsTheSet):
    """A stack, where due times are equal."""

    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return entry[0], -entry[1]


class PromotesTheLatestDueFirst(SortsTheSet):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return -entry[0], entry[1]


class PromotesInTheOrderOfInsertion(SortsTheSet):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return entry[1]


class PromotesByTheSecond(SortsTheSet):
    """Due times are kept to the millisecond and compared by the second."""

    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return entry[0] // 1_000, entry[1]


class BreaksTiesById(SortsTheSet):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return entry[0], entry[2].id


class ShufflesWithinAChunk(SortsTheSet):
    """Rows that one statement deletes come back in the order of the table."""

    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def key(self, entry):
        return entry[0], entry[1] // CHUNK, entry[2].id


class SchedulesItsChunksAtOnce(MemoryBackend):
    """The last chunk of a call may be the first that arrives."""

    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    async def schedule(self, queue, jobs):
        chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
        answers = [await super(SchedulesItsChunksAtOnce, self).schedule(queue, chunk) for chunk in reversed(chunks)]
        return tuple(answer for chunk in reversed(answers) for answer in chunk)


class TellsOfJobsOutOfOrder(Edits):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def edit(self, answer, request):
        return replace(answer, jobs=tuple(sorted(answer.jobs, key=lambda job: job.id)))


class TellsOneStreamIdForAChunk(Edits):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def edit(self, answer, request):
        ids = [job.stream_id for job in answer.jobs]
        jobs = [replace(job, stream_id=ids[i // CHUNK * CHUNK]) for i, job in enumerate(answer.jobs)]
        return replace(answer, jobs=tuple(jobs))


class TellsOfTheFirstThousand(Edits):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    def edit(self, answer, request):
        return replace(answer, jobs=answer.jobs[:1_000])


class EmitsChunksOutOfOrder(MemoryBackend):
    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    async def emit(self, queue, jobs, max_stream_len):
        for first in range((len(jobs) - 1) // CHUNK * CHUNK, -1, -CHUNK):
            await super().emit(queue, jobs[first : first + CHUNK], max_stream_len)


class AddsTheLastChunkFirst(MemoryBackend):
    """The stream has another order than the answer says."""

    killed_by = "test_many_jobs_are_promoted_by_due_time_and_ties"

    async def promote(self, lease, request):
        entries = self._store[lease.queue].streams[StreamName.JOBS].entries
        before = len(entries)
        answer = await super().promote(lease, request)
        fields = [entry.fields for entry in entries[before:]]
        turned = fields[CHUNK:] + fields[:CHUNK]
        entries[before:] = [replace(entry, fields=f) for entry, f in zip(entries[before:], turned, strict=True)]
        return answer


class TurnsACallRound(MemoryBackend):
    killed_by = "test_jobs_due_at_once_in_one_call_keep_their_order"

    async def schedule(self, queue, jobs):
        return tuple(reversed(await super().schedule(queue, tuple(reversed(jobs)))))


class SortsACallByTheDueTimesOfThePast(MemoryBackend):
    killed_by = "test_jobs_due_at_once_in_one_call_keep_their_order"

    async def schedule(self, queue, jobs):
        order = sorted(range(len(jobs)), key=lambda i: jobs[i].due_ms or MAX_DUE_MS)
        answers = await super().schedule(queue, [jobs[i] for i in order])
        return tuple(answers[order.index(i)] for i in range(len(jobs)))


class SortsACallById(MemoryBackend):
    killed_by = "test_jobs_due_at_once_in_one_call_keep_their_order"

    async def schedule(self, queue, jobs):
        answers = {a.id: a for a in await super().schedule(queue, sorted(jobs, key=lambda job: job.id))}
        return tuple(answers[job.id] for job in jobs)


class DelaysAfterDueTimes(MemoryBackend):
    """One statement for the jobs with a due time, and another for those with a delay."""

    killed_by = "test_jobs_due_at_once_in_one_call_keep_their_order"

    async def schedule(self, queue, jobs):
        order = sorted(range(len(jobs)), key=lambda i: jobs[i].due_ms is None)
        answers = await super().schedule(queue, [jobs[i] for i in order])
        return tuple(answers[order.index(i)] for i in range(len(jobs)))


class PutsACallBeforeTheLast(MemoryBackend):
    killed_by = "test_jobs_due_at_once_in_several_calls_keep_their_order"

    async def schedule(self, queue, jobs):
        q, _ = self._queue(queue)
        before = q._sequence
        q._sequence = -(before + 1) * 1_000  # of a new page, before the others
        answers = await super().schedule(queue, jobs)
        q._sequence = before + len(jobs)
        return answers


class DueAtOnceIsFirst(SortsTheSet):
    killed_by = "test_a_job_due_at_once_comes_after_those_that_were_due_before"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        at_once = self._store.groups.setdefault("at once", {})
        at_once |= {job.id: 1 for job in jobs if job.delay_ms == 0 or (job.due_ms or MAX_DUE_MS) < self._now_ms()}
        return answers

    def key(self, entry):
        return entry[2].id not in self._store.groups.get("at once", {}), entry[0], entry[1]


class KeepsThePlaceOfACancelledJob(SortsTheSet):
    """A row that is taken up again keeps its number."""

    killed_by = "test_a_job_that_is_scheduled_again_takes_its_place_behind"

    def _schedule(self, q, queue, job, now_ms):
        made = super()._schedule(q, queue, job, now_ms)
        self._store.groups.setdefault("places", {}).setdefault(job.id, q._sequence)
        return made

    def key(self, entry):
        return entry[0], self._store.groups["places"][entry[2].id]


class ARepeatTakesTheLastPlace(SortsTheSet):
    killed_by = "test_a_job_that_is_scheduled_again_takes_its_place_behind"

    def _schedule(self, q, queue, job, now_ms):
        made = super()._schedule(q, queue, job, now_ms)
        q._sequence += 1
        self._store.groups.setdefault("last", {})[job.id] = q._sequence
        return made

    def key(self, entry):
        return entry[0], self._store.groups["last"][entry[2].id]


class TracesOutOfOrder(Edits):
    killed_by = "test_trace_contexts_come_in_promotion_order"

    def edit(self, answer, request):
        return replace(answer, traces=tuple(reversed(answer.traces)))


class TracesOfTheFirstChunk(Edits):
    killed_by = "test_trace_contexts_come_in_promotion_order"

    def edit(self, answer, request):
        return replace(answer, traces=answer.traces[:64])


class TracesAsASet(Edits):
    killed_by = "test_trace_contexts_come_in_promotion_order"

    def edit(self, answer, request):
        return replace(answer, traces=tuple(set(answer.traces)))


class TracesInTheOrderTheyCame(MemoryBackend):
    killed_by = "test_trace_contexts_come_in_promotion_order"

    async def schedule(self, queue, jobs):
        kept = self._store.groups.setdefault("traces", {})
        kept |= {job.traceparent: len(kept) + i for i, job in enumerate(jobs)}
        return await super().schedule(queue, jobs)

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        kept = self._store.groups["traces"]
        return replace(answer, traces=tuple(sorted(answer.traces, key=kept.__getitem__)))
