"""Wrong with promotion."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core import Overflow, unpack_envelope
from promoter_core.spi import LeaseLost, StreamEntry, StreamName, pack_envelope
from promoter_memory.backend import MemoryBackend


class Edits(MemoryBackend):
    """Changes the promotion before it is returned."""

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        return answer if isinstance(answer, LeaseLost) else self.edit(answer, request)


class EditsEntries(MemoryBackend):
    """Changes the entries that promotion adds."""

    async def promote(self, lease, request):
        entries = self._store[lease.queue].streams[StreamName.JOBS].entries
        before = len(entries)
        answer = await super().promote(lease, request)
        entries[before:] = [StreamEntry(e.id, self.edit(e.fields)) for e in entries[before:]]
        return answer


class SaysItsWorkInMicroseconds(Edits):
    killed_by = "test_the_work_is_no_longer_than_the_call"

    def edit(self, answer, request):
        return replace(answer, work_ms=200.0)  # on a clock that stands still


class RemovesBeforeAdding(MemoryBackend):
    killed_by = "test_a_promote_that_is_cancelled_loses_nothing"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        taken = []
        while q.holder(now_ms) == lease.holder and len(taken) < request.limit:
            head = q.head()
            if head is None or head.due_ms > now_ms:
                break
            q.pop()
            taken.append(head)
        await asyncio.sleep(0)  # where a failure loses what was taken
        for job in taken:
            q.add(replace(job, gone=False, earlier=None))
        return await super().promote(lease, request)


class PromotesEarly(MemoryBackend):
    killed_by = "test_a_job_due_in_a_moment_is_not_promoted_before_it"

    async def promote(self, lease, request):
        self._early = 50
        try:
            return await super().promote(lease, request)
        finally:
            self._early = 0

    def _queue(self, queue):
        q, now_ms = super()._queue(queue)
        return q, now_ms + getattr(self, "_early", 0)


class IgnoresTheLimit(MemoryBackend):
    killed_by = "test_at_most_the_limit_is_promoted"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, limit=10_000))


class SwapsTheOrder(MemoryBackend):
    killed_by = "test_the_order_is_by_due_time"

    async def promote(self, lease, request):
        entries = self._store[lease.queue].streams[StreamName.JOBS].entries
        before = len(entries)
        answer = await super().promote(lease, request)
        fields = [e.fields for e in reversed(entries[before:])]
        entries[before:] = [StreamEntry(e.id, f) for e, f in zip(entries[before:], fields, strict=True)]
        return answer


class SwapsEqualJobs(MemoryBackend):
    killed_by = "test_equal_due_times_keep_the_order_of_insertion"

    async def schedule(self, queue, jobs):
        return tuple(reversed(await super().schedule(queue, list(reversed(jobs)))))


class TellsTheLagOfThePromoted(Edits):
    killed_by = "test_depth_lag_and_next_due_are_those_of_the_jobs_still_pending"

    def edit(self, p, request):
        return replace(p, oldest_pending_lag_ms=max((p.now_ms - j.due_ms for j in p.jobs), default=0))


class CountsTheLateOfTheWholeSet(Edits):
    killed_by = "test_the_late_are_counted_by_bounds"

    def edit(self, p, request):
        return replace(p, lateness_counts=tuple(n + p.depth for n in p.lateness_counts))


class MixesUpTraces(Edits):
    killed_by = "test_trace_contexts_come_with_the_promotion_when_they_are_wanted"

    def edit(self, p, request):
        return replace(p, traces=tuple(reversed(p.traces)))


class NamesNoJobsOfTraces(Edits):
    killed_by = "test_trace_contexts_come_with_the_promotion_when_they_are_wanted"

    def edit(self, p, request):
        return replace(p, trace_ids=())


class EndsTraces(EditsEntries):
    killed_by = "test_a_trace_context_goes_on_with_its_job"

    def edit(self, fields):
        return {field: value for field, value in fields.items() if not field.startswith("trace")}


class EndsVendorsPartOfTraces(EditsEntries):
    killed_by = "test_a_trace_context_goes_on_with_its_job"

    def edit(self, fields):
        return {field: value for field, value in fields.items() if field != "tracestate"}


class WritesEmptyTraces(EditsEntries):
    killed_by = "test_a_trace_context_goes_on_with_its_job"

    def edit(self, fields):
        return {"traceparent": b"", "tracestate": b"", **fields}


class TellsSinksNoTraces(Edits):
    killed_by = "test_a_trace_context_goes_on_with_its_job"

    def edit(self, p, request):
        return replace(p, jobs=tuple(replace(job, traceparent="", tracestate="") for job in p.jobs))


class TracesOnlyWhereTheyAreWanted(EditsEntries):
    killed_by = "test_a_trace_context_goes_on_with_its_job"

    async def promote(self, lease, request):
        self.edit = dict if request.want_traces else EndsTraces.edit.__get__(self)
        return await super().promote(lease, request)


class TellsTheDepthBefore(Edits):
    killed_by = "test_depth_lag_and_next_due_are_those_of_the_jobs_still_pending"

    def edit(self, p, request):
        return replace(p, depth=p.depth + p.promoted)


class ForgetsTheNextDueTime(Edits):
    killed_by = "test_depth_lag_and_next_due_are_those_of_the_jobs_still_pending"

    def edit(self, p, request):
        return replace(p, next_due_ms=None)


class TellsJobsAlways(MemoryBackend):
    killed_by = "test_jobs_are_left_out_when_nobody_wants_them"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, want_jobs=True))


class MovesAJobTwice(MemoryBackend):
    killed_by = "test_concurrent_promotes_move_each_job_once"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        heads = [j for _, _, j in sorted(q._heap[: request.limit], key=lambda x: x[:2]) if j.due_ms <= now_ms]
        await asyncio.sleep(0)  # two callers have looked by now
        answer = await super().promote(lease, request)
        for job in [j for j in heads if j.gone and j.id not in {x.id for x in getattr(answer, "jobs", ())}]:
            q.streams[StreamName.JOBS].add(now_ms, {"d": job.envelope})
        return answer


class StopsTheClock(Edits):
    killed_by = "test_the_clock_is_the_stores_and_goes_on"

    def edit(self, p, request):
        return replace(p, now_ms=1_700_000_000_000)


class DropsNames(EditsEntries):
    killed_by = "test_any_name_arrives_as_it_is"

    def edit(self, fields):
        return {"d": fields["d"]}


class KeepsEmptyNames(EditsEntries):
    killed_by = "test_an_empty_name_is_absent"

    def edit(self, fields):
        return {"n": b""} | fields


class DecodesBytesAsText(EditsEntries):
    killed_by = "test_the_payload_arrives_byte_for_byte"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        payload = e.payload.decode("utf-8", "replace").encode()
        return fields | {"d": pack_envelope(e.id, payload, e.created_at_ms, e.attempt)}


class CutsLargePayloads(EditsEntries):
    killed_by = "test_the_payload_arrives_byte_for_byte"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        return fields | {"d": pack_envelope(e.id, e.payload[: 2**16], e.created_at_ms, e.attempt)}


class CountsAttempts(EditsEntries):
    killed_by = "test_the_envelope_keeps_created_at_and_attempt"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        return fields | {"d": pack_envelope(e.id, e.payload, e.created_at_ms, e.attempt + 1)}


class GrowsBeyondTheCap(MemoryBackend):
    killed_by = "test_a_full_stream_holds_jobs_back"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, max_stream_len=10**9))


class HoldsBackInSilence(Edits):
    killed_by = "test_a_full_stream_holds_jobs_back"

    def edit(self, p, request):
        return replace(p, held_back=0)


class HoldsBackForNoReason(Edits):
    killed_by = "test_nothing_is_held_back_while_there_is_room"

    def edit(self, p, request):
        return replace(p, held_back=p.depth)


class TrimsTheNewest(MemoryBackend):
    killed_by = "test_trim_drops_the_oldest_entries_and_promotes_everything"

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, max_stream_len=10**9))
        if request.overflow is Overflow.TRIM:
            del self._store[lease.queue].streams[StreamName.JOBS].entries[request.max_stream_len :]
        return answer


class LosesABatchUnderLoad(MemoryBackend):
    killed_by = "test_producers_and_the_promoter_work_at_the_same_time"

    async def schedule(self, queue, jobs):
        depth = self._store[queue].depth
        await asyncio.sleep(0)
        answers = await super().schedule(queue, jobs)
        if self._store[queue].depth > depth + len(jobs) and (head := self._store[queue].head()):
            self._store[queue].cancel(head)  # an update lost between two writers
        return answers
