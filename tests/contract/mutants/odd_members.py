"""Wrong with members that are no jobs, and with parked jobs, in what is shown and changed."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import MAX_DUE_MS, JobOutcome, RunNow, StreamName
from tests.contract.mutants.honest import CompleteBackend


class HidesMalformedMembers(CompleteBackend):
    killed_by = "test_malformed_members_are_listed_and_changed_by_themselves"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, jobs=[job for job in page.jobs if not job.malformed])


class RunsMalformedMembers(CompleteBackend):
    """Into the stream, where a consumer stumbles over them."""

    killed_by = "test_malformed_members_are_listed_and_changed_by_themselves"

    def of_a_member(self, change):
        if isinstance(change, RunNow) and getattr(change.job, "malformed", False):
            return replace(change, job=f"malformed {change.job.envelope!r}")
        return super().of_a_member(change)


class MovesMalformedMembersToTheDlqTwice(CompleteBackend):
    """`RunNow` writes the dead letter, and leaves the member to the promoter."""

    killed_by = "test_malformed_members_are_listed_and_changed_by_themselves"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        for change in changes:
            if isinstance(change, RunNow) and getattr(change.job, "malformed", False):
                q.streams[StreamName.DLQ].add(now_ms, {"d": change.job.envelope})
        return await super().change_jobs(queue, changes)


class ShowsWhenParkedJobsAreDue(CompleteBackend):
    killed_by = "test_parked_jobs_are_listed_last_and_never_counted"

    def as_it_is(self, job):
        return super().as_it_is(replace(job, due_ms=min(job.due_ms, MAX_DUE_MS)))


class HidesParkedJobs(CompleteBackend):
    killed_by = "test_parked_jobs_are_listed_last_and_never_counted"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, jobs=[job for job in page.jobs if job.due_ms is not None])


class CountsParkedJobs(CompleteBackend):
    killed_by = "test_parked_jobs_are_listed_last_and_never_counted"

    async def count_jobs(self, queue, bounds_ms):
        return await super().count_jobs(queue, [2**62 if ms > MAX_DUE_MS else ms for ms in bounds_ms])


class CannotMoveParkedJobs(CompleteBackend):
    killed_by = "test_parked_jobs_are_listed_last_and_never_counted"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            job = q.waiting(change.job) if isinstance(getattr(change, "job", None), str) else None
            parked = job is not None and job.due_ms > MAX_DUE_MS
            outcomes += [JobOutcome.NOT_FOUND] if parked else await super().change_jobs(queue, [change])
        return outcomes
