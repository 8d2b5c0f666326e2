"""Wrong with cleanup or events, as a method or fused."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import Capabilities, Phase, StreamName, Wake
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import FusedBackend


class EmitsTwice(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def emit(self, queue, jobs, max_stream_len):
        for _ in range(2):
            await super().emit(queue, jobs, max_stream_len)


class EmitsBackwards(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, tuple(reversed(jobs)), max_stream_len)


class NeverTrimsEvents(MemoryBackend):
    killed_by = "test_the_events_stream_is_trimmed"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, jobs, 10**9)


class DeletesTheDedupMarker(MemoryBackend):
    killed_by = "test_the_cancel_index_is_dropped_and_the_dedup_marker_stays"

    async def cleanup(self, queue, jobs):
        await super().cleanup(queue, jobs)
        for job in jobs:
            self._store[queue]._markers.pop(job.id, None)


class CleansUpEverything(MemoryBackend):
    killed_by = "test_cleanup_forgets_no_other_job"

    async def cleanup(self, queue, jobs):
        self._store[queue]._index.clear()


class CleansUpNothing(MemoryBackend):
    killed_by = "test_nothing_in_the_store_is_named_after_a_promoted_job"

    async def cleanup(self, queue, jobs):
        pass


class CleansUpWhatWasScheduledSince(MemoryBackend):
    killed_by = "test_cleanup_leaves_a_job_alone_that_was_scheduled_since"

    async def cleanup(self, queue, jobs):
        for job in jobs:
            self._store[queue]._index.pop(job.id, None)


class StumblesOverJobsWithoutAnIndex(MemoryBackend):
    killed_by = "test_cleanup_passes_over_jobs_without_an_id_or_an_index"

    async def cleanup(self, queue, jobs):
        for job in jobs:
            del self._store[queue]._index[job.id]


class EmitsForJobsWithoutAnId(MemoryBackend):
    killed_by = "test_emit_passes_over_jobs_without_an_id"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, [replace(job, id=job.id or "") for job in jobs], max_stream_len)


class EmitsNoNames(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, [replace(job, name="") for job in jobs], max_stream_len)


class EmitsOneNameForAll(MemoryBackend):
    killed_by = "test_events_keep_every_id_and_name_as_it_is"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, [replace(job, name=jobs[0].name) for job in jobs], max_stream_len)


class EmitsTextInItsNormalForm(MemoryBackend):
    killed_by = "test_events_keep_every_id_and_name_as_it_is"

    async def emit(self, queue, jobs, max_stream_len):
        clean = [replace(job, id=job.id and job.id.replace("\0", "")) for job in jobs]
        await super().emit(queue, clean, max_stream_len)


class SaysThatItFuses(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"
    capabilities = Capabilities(Wake.ANY_WRITE, fused=frozenset(Phase), traces=True)


class EmitsFusedAndSeparately(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        await self.emit(lease.queue, getattr(answer, "jobs", ()), 10**9)
        return answer


class EmitsWithoutBeingAsked(FusedBackend):
    killed_by = "test_no_event_when_they_are_disabled"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, events=True))


class FusesNoCleanup(FusedBackend):
    killed_by = "test_nothing_in_the_store_is_named_after_a_promoted_job"

    async def _clean_up(self, queue, jobs):
        pass


class FusesEventsWithoutEnd(FusedBackend):
    killed_by = "test_the_events_stream_is_trimmed"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, events_max_stream_len=10**9))


class DropsEventsOfOthers(MemoryBackend):
    killed_by = "test_one_waiting_event_a_job_in_order"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, jobs, max_stream_len)
        del self._store[queue].streams[StreamName.EVENTS].entries[:-1]
