"""Wrong in putting a job in the place of another."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import JobOutcome, Replace, StreamName
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import Pending
from tests.contract.mutants.changing import Changes, id_of


class ReplacesTheDueTimeAlways(Changes):
    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    def before(self, q, change, now_ms):
        return replace(change, keep_due=False) if isinstance(change, Replace) else change


class ReplacesTheNameAlways(Changes):
    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    def before(self, q, change, now_ms):
        return replace(change, keep_name=False) if isinstance(change, Replace) else change


class KeepsTheName(Changes):
    """Only the envelope is written."""

    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    def before(self, q, change, now_ms):
        return replace(change, keep_name=True) if isinstance(change, Replace) else change


class SaysReplacedOfAJobThatMoved(Changes):
    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    def word(self, change, outcome):
        return JobOutcome.REPLACED if outcome is JobOutcome.MOVED else outcome


class KeepsTheOldTrace(MemoryBackend):
    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            before = q.waiting(id_of(change))
            outcomes += await super().change_jobs(queue, [change])
            if before is not None and isinstance(change, Replace):
                q.waiting(change.request.id).traceparent = before.traceparent
        return outcomes


class TheNewTraceReplacesTheOldOfAMovedJob(Changes):
    killed_by = "test_what_is_kept_stays_and_the_rest_is_new"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Replace) and outcome is JobOutcome.MOVED:
            q.waiting(id_of(change)).traceparent = change.request.traceparent


class AddsBesideTheOldOne(Changes):
    killed_by = "test_one_of_two_is_promoted_and_it_is_the_new_one"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Replace) and outcome is JobOutcome.REPLACED:
            q.add(Pending(change.request.id, "", b"\x96", now_ms))


class LosesTheTraceOnlyWhenThereIsANewOne(KeepsTheOldTrace):
    """SET where there is one, and nothing where there is none."""

    killed_by = "test_one_of_two_is_promoted_and_it_is_the_new_one"


class TheOldMarkerOutlivesTheNextJob(MemoryBackend):
    killed_by = "test_an_id_that_was_taken_is_free_after_a_next_job_that_does_not_keep_it"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        before = dict(q._markers)
        outcomes = await super().change_jobs(queue, changes)
        q._markers |= before
        return outcomes


class RefusesAnIdThatIsTaken(MemoryBackend):
    """It is scheduled as a unique job is, and that has been promoted."""

    killed_by = "test_without_a_waiting_job_one_is_created"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            id = id_of(change)
            refused = isinstance(change, Replace) and q.waiting(id) is None and q.marked(id, now_ms)
            outcomes += [JobOutcome.ALREADY_PROMOTED] if refused else await super().change_jobs(queue, [change])
        return outcomes


class CreatesNothing(MemoryBackend):
    """An UPDATE that finds no row."""

    killed_by = "test_without_a_waiting_job_one_is_created"

    async def change_jobs(self, queue, changes):
        changes = [replace(change, keep_due=True) if isinstance(change, Replace) else change for change in changes]
        return await super().change_jobs(queue, changes)


class CreatesWithoutAName(MemoryBackend):
    """There is none to keep."""

    killed_by = "test_without_a_waiting_job_one_is_created"

    async def change_jobs(self, queue, changes):
        q = self._store[queue]
        return await super().change_jobs(
            queue,
            [
                replace(c, request=replace(c.request, name=""))
                if isinstance(c, Replace) and c.keep_name and q.waiting(c.request.id) is None
                else c
                for c in changes
            ],
        )


class CreatesThoughTheDueTimeIsKept(MemoryBackend):
    """At once, for want of a due time."""

    killed_by = "test_with_the_due_time_kept_nothing_is_created"

    async def change_jobs(self, queue, changes):
        q = self._store[queue]
        return await super().change_jobs(
            queue,
            [
                replace(c, keep_due=False) if isinstance(c, Replace) and q.waiting(c.request.id) is None else c
                for c in changes
            ],
        )


class ACreatedJobIsNotUnique(Changes):
    killed_by = "test_a_job_that_was_created_is_promoted_and_remembered"

    def after(self, q, change, outcome, now_ms):
        if outcome is JobOutcome.CREATED:
            q.waiting(id_of(change)).unique = False
            q._markers.pop(id_of(change), None)


class TheFirstMarkersEndIsTheEnd(MemoryBackend):
    """SET NX: the marker that is there stays as it is."""

    killed_by = "test_an_id_that_was_taken_is_kept_from_the_promotion_of_the_next_job"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        first = self._store.groups.setdefault(f"first of {lease.queue}", {})
        answer = await super().promote(lease, request)
        for id, expiry_ms in list(q._markers.items()):
            if first.get(id, 0) <= now_ms:
                first[id] = expiry_ms
            q.remember(id, first[id])
        return answer


class CountsTheDelayFromTheOldDueTime(Changes):
    killed_by = "test_a_delay_of_a_replacement_counts_from_the_stores_clock"

    def before(self, q, change, now_ms):
        job = q.waiting(id_of(change))
        if not isinstance(change, Replace) or job is None or change.request.delay_ms is None:
            return change
        due_ms = job.due_ms + change.request.delay_ms + 1
        return replace(change, request=replace(change.request, due_ms=due_ms, delay_ms=None))


class KeepsHowLongTheOldOneWasKept(MemoryBackend):
    killed_by = "test_the_id_is_kept_as_the_new_request_says"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            before = q.waiting(id_of(change))
            outcomes += await super().change_jobs(queue, [change])
            if before is not None and outcomes[-1] is JobOutcome.REPLACED:
                q.waiting(change.request.id).keep_id_ms = before.keep_id_ms
        return outcomes


class AMoveSaysHowLong(Changes):
    killed_by = "test_a_job_that_only_moves_keeps_its_id_as_it_was"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Replace) and outcome is JobOutcome.MOVED:
            q.waiting(id_of(change)).keep_id_ms = change.request.keep_id_ms


class NeverSearches(MemoryBackend):
    """Jobs without an index are not looked for: the old one stays."""

    killed_by = "test_a_job_without_an_index_is_replaced_or_not_looked_for"

    async def schedule(self, queue, jobs):
        plain = self._store.groups.setdefault("plain", {})
        plain.update({job.id: 1 for job in jobs if not job.index})
        return await super().schedule(queue, jobs)

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            if isinstance(change, Replace) and change.request.id in self._store.groups.get("plain", {}):
                request = change.request
                q.add(Pending(request.id, request.name, request.envelope, request.due_ms or now_ms))
                outcomes.append(JobOutcome.CREATED)
            else:
                outcomes += await super().change_jobs(queue, [change])
        return outcomes


class IndexesTheOldOne(MemoryBackend):
    """The index says what was there, and `cancel` goes by it."""

    killed_by = "test_a_job_that_took_anothers_place_is_found"

    async def change_jobs(self, queue, changes):
        outcomes = await super().change_jobs(queue, changes)
        self._store.groups.setdefault("stale", {}).update(
            {id_of(c): 1 for c, o in zip(changes, outcomes, strict=True) if o is JobOutcome.REPLACED}
        )
        return outcomes

    async def cancel(self, queue, ids):
        stale = self._store.groups.get("stale", {})
        return tuple(
            [
                JobOutcome.NOT_FOUND if i in stale else (await super(IndexesTheOldOne, self).cancel(queue, [i]))[0]
                for i in ids
            ]
        )


class ReplacesAllOfAnId(Changes):
    """DELETE … WHERE id = ?"""

    killed_by = "test_of_jobs_with_one_id_one_is_replaced"

    def before(self, q, change, now_ms):
        for job in list(q.all_waiting(id_of(change)))[1:] if isinstance(change, Replace) else ():
            q.cancel(job)
        return change


class AddsAndThenRemovesTheSame(Changes):
    """Equal bytes are one member: what was added is what is removed."""

    killed_by = "test_the_same_again_is_one_job"

    def before(self, q, change, now_ms):
        job = q.waiting(id_of(change))
        self.equal = isinstance(change, Replace) and job is not None and job.envelope == change.request.envelope
        return change

    def after(self, q, change, outcome, now_ms):
        if self.equal:
            q.cancel(q.waiting(id_of(change)))


class TheSameIsARepeat(MemoryBackend):
    killed_by = "test_the_same_again_is_one_job"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            job = q.waiting(id_of(change))
            same = isinstance(change, Replace) and job is not None and job.envelope == change.request.envelope
            outcomes += [JobOutcome.KEPT] if same else await super().change_jobs(queue, [change])
        return outcomes


class ReplacesWhatLooksAlike(Changes):
    killed_by = "test_ids_that_look_alike_are_replaced_apart"

    def before(self, q, change, now_ms):
        id = id_of(change)
        alike = next((other for other in q._index if other.strip() == id.strip() and q.waiting(other)), id)
        return replace(change, request=replace(change.request, id=alike)) if isinstance(change, Replace) else change


class LeavesTheMarkerOfTheOldOne(MemoryBackend):
    killed_by = "test_nothing_in_the_store_is_named_after_a_job_that_was_replaced"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = await super().change_jobs(queue, changes)
        for change, outcome in zip(changes, outcomes, strict=True):
            if outcome is JobOutcome.REPLACED and not q.streams[StreamName.JOBS].entries:
                q.remember(id_of(change), now_ms + 86_400_000)
        return outcomes
