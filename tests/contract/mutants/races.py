"""Atomic within a process alone, or half done when they are cut: changes of waiting jobs."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import CHASQUIMQ, JobOutcome, Remove, Replace, Reschedule, RunNow, StreamName
from promoter_memory.backend import MemoryBackend
from promoter_memory.jobs import add, add_event
from promoter_memory.store import Pending
from tests.contract.mutants.changing import id_of
from tests.contract.mutants.processes import round_trip


class InSteps(MemoryBackend):
    """One change after another; those of `kind` in two steps, by `step(q, change, job, now_ms)`."""

    kind: type = RunNow

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            job = q.waiting(id_of(change))
            if isinstance(change, self.kind) and job is not None:
                outcomes.append(await self.step(q, change, job, now_ms))
            else:
                outcomes += await super().change_jobs(queue, [change])
        return outcomes

    def add(self, q, job, now_ms):
        q.streams[StreamName.JOBS].add(now_ms, CHASQUIMQ.entry_fields(job.envelope, job.name))

    def take(self, q, job):
        if not job.gone:
            q.remove(job)
            q.forget(job.id)


class MovesWhatItHasSeen(InSteps):
    """ZSCORE and then ZADD, which puts a job back that was promoted meanwhile."""

    killed_by = "test_a_job_is_changed_or_promoted"
    kind = Reschedule

    async def step(self, q, change, job, now_ms):
        await round_trip()
        if job.gone:
            q.add(replace(job, due_ms=change.due_ms or now_ms, gone=False, earlier=None))
        else:
            q.move(job, change.due_ms or now_ms)
        return JobOutcome.MOVED


class ReplacesWhatItHasSeen(InSteps):
    """Removes the old one and adds the new one, without asking whether the old one was still there."""

    killed_by = "test_a_job_is_changed_or_promoted"
    kind = Replace

    async def step(self, q, change, job, now_ms):
        await round_trip()
        self.take(q, job)
        add(q, change.request, now_ms)
        return JobOutcome.REPLACED


class RunsInTwoSteps(InSteps):
    """Looks whether it waits, and then appends it and takes it out: two that do so append it twice."""

    killed_by = "test_of_two_processes_one_runs_a_job_now"

    async def step(self, q, change, job, now_ms):
        await round_trip()
        self.add(q, job, now_ms)
        self.take(q, job)
        q.mark(job, now_ms)
        add_event(q, job.id, job.name, now_ms, now_ms, job.traceparent, job.tracestate)
        return JobOutcome.PROMOTED


class RunsBesideAPromotion(RunsInTwoSteps):
    killed_by = "test_a_job_is_changed_or_promoted"


class LooksForRoomBefore(MemoryBackend):
    killed_by = "test_two_processes_that_run_jobs_now_do_not_overfill_the_stream"

    async def change_jobs(self, queue, changes):
        length = len(self._store[queue].streams[StreamName.JOBS].entries)
        await round_trip()
        return await super().change_jobs(
            queue,
            [
                replace(c, max_stream_len=2**53 if length < c.max_stream_len else 0) if isinstance(c, RunNow) else c
                for c in changes
            ],
        )


class LooksForRoomBesideALeader(LooksForRoomBefore):
    killed_by = "test_a_promotion_and_a_run_do_not_overfill_the_stream"


class WritesTheWholeJob(InSteps):
    """Reads the row, changes one field and writes it back, over what another wrote."""

    killed_by = "test_two_changes_of_one_job_take_effect_one_after_the_other"
    kind = Reschedule

    async def step(self, q, change, job, now_ms):
        read = replace(job, due_ms=change.due_ms or now_ms)
        await round_trip()
        if (waiting := q.waiting(job.id)) is None:
            return JobOutcome.NOT_FOUND
        q.cancel(waiting)
        q.add(replace(read, gone=False, earlier=None))
        return JobOutcome.MOVED


class SaysRemovedOfBoth(InSteps):
    killed_by = "test_two_changes_of_one_job_take_effect_one_after_the_other"
    kind = Remove

    async def step(self, q, change, job, now_ms):
        await round_trip()
        if not job.gone:
            q.cancel(job)
        return JobOutcome.REMOVED


class MovesWhatWasCancelled(MovesWhatItHasSeen):
    killed_by = "test_a_job_is_moved_or_cancelled"


class ReplacesByRemovingFirst(InSteps):
    """In between the id is free."""

    killed_by = "test_a_repeat_while_the_job_is_changed_is_one_or_the_other"
    kind = Replace

    async def step(self, q, change, job, now_ms):
        due_ms = job.due_ms
        q.cancel(job)
        await round_trip()
        request = replace(change.request, due_ms=due_ms, delay_ms=None) if change.keep_due else change.request
        add(q, request, now_ms)
        return JobOutcome.REPLACED


class CreatesTwice(MemoryBackend):
    """Neither finds one, and both schedule theirs."""

    killed_by = "test_of_two_processes_that_replace_a_job_that_is_not_there_one_creates_it"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            missing = isinstance(change, Replace) and not change.keep_due and q.waiting(id_of(change)) is None
            await round_trip()
            if missing:
                add(q, change.request, now_ms)
                outcomes.append(JobOutcome.CREATED)
            else:
                outcomes += await super().change_jobs(queue, [change])
        return outcomes


class ChecksAStoredJobBefore(MemoryBackend):
    """Whether it is the one that was shown; and then it goes by the id."""

    killed_by = "test_a_stored_job_that_was_replaced_meanwhile_is_left_alone"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            handle = getattr(getattr(change, "job", None), "handle", None)
            waiting = q.waiting(id_of(change))
            if handle is not None and waiting is not None and b"%d" % waiting.number == handle:
                change = replace(change, job=waiting.id)
            await round_trip()
            outcomes += await super().change_jobs(queue, [change])
        return outcomes


class AppendsAndThenRemoves(InSteps):
    """Cut between the two, the job is in both."""

    killed_by = "test_a_change_that_is_cut_is_done_or_not"

    async def step(self, q, change, job, now_ms):
        self.add(q, job, now_ms)
        add_event(q, job.id, job.name, now_ms, now_ms, job.traceparent, job.tracestate)
        await round_trip()
        self.take(q, job)
        q.mark(replace(job, due_ms=now_ms), now_ms)
        return JobOutcome.PROMOTED


class RemembersWhatItRanLater(InSteps):
    killed_by = "test_a_change_that_is_cut_is_done_or_not"

    async def step(self, q, change, job, now_ms):
        self.add(q, job, now_ms)
        add_event(q, job.id, job.name, now_ms, now_ms, job.traceparent, job.tracestate)
        self.take(q, job)
        await round_trip()
        q.mark(replace(job, due_ms=now_ms), now_ms)
        return JobOutcome.PROMOTED


class WritesItsEventLater(InSteps):
    killed_by = "test_a_change_that_is_cut_is_done_or_not"

    async def step(self, q, change, job, now_ms):
        self.add(q, job, now_ms)
        self.take(q, job)
        q.mark(replace(job, due_ms=now_ms), now_ms)
        await round_trip()
        add_event(q, job.id, job.name, now_ms, now_ms, job.traceparent, job.tracestate)
        return JobOutcome.PROMOTED


class ReplacesInTwoSteps(ReplacesByRemovingFirst):
    """Cut between the two, the job is lost."""

    killed_by = "test_a_change_that_is_cut_is_done_or_not"


class MovesInTwoSteps(InSteps):
    killed_by = "test_a_change_that_is_cut_is_done_or_not"
    kind = Reschedule

    async def step(self, q, change, job, now_ms):
        self.take(q, job)
        await round_trip()
        q.add(replace(job, due_ms=change.due_ms or now_ms, gone=False, earlier=None))
        return JobOutcome.MOVED


class CreatesAndThenMarks(MemoryBackend):
    killed_by = "test_a_job_whose_creation_is_cut_is_there_or_not"

    async def change_jobs(self, queue, changes):
        outcomes = await super().change_jobs(queue, changes)
        created = [id_of(c) for c, o in zip(changes, outcomes, strict=True) if o is JobOutcome.CREATED]
        for id in created:
            self._store[queue].waiting(id).unique = False
        await round_trip()
        for id in created:
            self._store[queue].waiting(id).unique = True
        return outcomes


class TakesAllOutFirst(MemoryBackend):
    """What is to be changed is taken out in one call, and put where it belongs in the next."""

    killed_by = "test_of_many_changes_each_is_done_or_not"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        found: list[Pending] = [job for c in changes if (job := q.waiting(id_of(c))) is not None]
        for job in found:
            q.remove(job)
        await round_trip()
        for job in found:
            job.gone = False
            q.depth += 1
            q.move(job, job.due_ms)
        return await super().change_jobs(queue, changes)


class RunsAmongMany(RunsInTwoSteps):
    killed_by = "test_of_many_changes_at_once_no_job_is_lost_or_doubled"


class ReplacesAmongMany(ReplacesWhatItHasSeen):
    killed_by = "test_of_many_changes_at_once_no_job_is_lost_or_doubled"


class MovesAmongMany(MovesWhatItHasSeen):
    killed_by = "test_of_many_changes_at_once_no_job_is_lost_or_doubled"


class CreatesAmongMany(CreatesTwice):
    killed_by = "test_of_many_changes_at_once_no_job_is_lost_or_doubled"
