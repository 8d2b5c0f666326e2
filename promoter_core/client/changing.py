"""The part of `DelayedQueue` that changes waiting jobs named by the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

from promoter_core.client.base import STEP, QueueBase, check_flag, check_number, several
from promoter_core.client.requests import Delay, Job, new_due_of, shown_value
from promoter_core.client.values import JobRef
from promoter_core.spi.errors import JobError
from promoter_core.spi.model import JobOutcome
from promoter_core.spi.names import check_job_name
from promoter_core.spi.optional.management import JobChange, Remove, Replace, Reschedule, RunNow

MAX_LENGTH = 2**53


class Changing(QueueBase):
    """Each change is atomic, also against promotion: no job is lost or promoted twice.

    A job is given by its id or as a `DelayedJob`. The answers of the `…_many` methods are in order. They check all
    arguments first. When TransientError is raised, some of the changes may have been made; `reschedule`, `replace` and
    `cancel` can be repeated unchanged, because a repeat has no further effect.
    """

    async def reschedule(self, job: JobRef, *, delay: Delay | None = None, at: datetime | None = None) -> JobOutcome:
        """Change the due time of a waiting job: to `delay` from now (by the store's clock), or to `at`.

        `delay` is a timedelta or seconds, `at` an aware datetime. MOVED: everything else stays the same. NOT_FOUND or
        ALREADY_PROMOTED: nothing changed. O(log n) for a job with an index. Raises JobError, ConfigError,
        TransientError or PermanentError, like all methods that change jobs.
        """
        return (await self._reschedule([job], delay, at, "reschedule"))[0]

    async def reschedule_many(
        self, jobs: Iterable[JobRef], *, delay: Delay | None = None, at: datetime | None = None
    ) -> tuple[JobOutcome, ...]:
        """Move many jobs to one due time, like `reschedule`, in few round trips."""
        return await self._reschedule(
            several(jobs, "reschedule_many", "jobs or their ids"), delay, at, "reschedule_many"
        )

    async def _reschedule(
        self, jobs: Sequence[JobRef], delay: Delay | None, at: datetime | None, method: str
    ) -> tuple[JobOutcome, ...]:
        delay_ms, due_ms = new_due_of(delay, at, self._clock.time_ms(), method)
        targets = self._targets(jobs, method)
        changes = (Reschedule(job=job, delay_ms=delay_ms, due_ms=due_ms) for job in targets)
        return await self._change(changes, method)

    async def run_now(self, job: JobRef, *, max_stream_len: int = 1_000_000, events: bool = True) -> JobOutcome:
        """Promote a waiting job at once, whether or not a promoter is running.

        PROMOTED: it is in the stream. MOVED: the stream has `max_stream_len` entries or the job is malformed, so it is
        now due and the next promotion handles it like any other. NOT_FOUND or ALREADY_PROMOTED: nothing changed.
        `events`: write a `waiting` event, as a promoter does. O(log n) for a job with an index.

        Repeating the call after a TransientError is safe if the id is taken or `job` is a `DelayedJob`. If several jobs
        share one id, a repeat by id can run another one.
        """
        return (await self._run_now([job], max_stream_len, events, "run_now"))[0]

    async def run_now_many(
        self, jobs: Iterable[JobRef], *, max_stream_len: int = 1_000_000, events: bool = True
    ) -> tuple[JobOutcome, ...]:
        """Promote many jobs, like `run_now`, in the given order and in few round trips."""
        given = several(jobs, "run_now_many", "jobs or their ids")
        return await self._run_now(given, max_stream_len, events, "run_now_many")

    async def _run_now(
        self, jobs: Sequence[JobRef], max_stream_len: int, events: bool, method: str
    ) -> tuple[JobOutcome, ...]:
        length = check_number(max_stream_len, "max_stream_len", 1, MAX_LENGTH)
        write = check_flag(events, "events")
        targets = self._targets(jobs, method)
        return await self._change((RunNow(job=job, max_stream_len=length, events=write) for job in targets), method)

    async def replace(
        self,
        job: JobRef,
        data: object,
        *,
        name: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
        traceparent: str | None = "",
        tracestate: str | None = "",
        keep_id_for: Delay | None = None,
    ) -> JobOutcome:
        """Replace the waiting job that has the same id with a new one.

        REPLACED. Without `delay` and `at`, the due time stays and nothing is created: NOT_FOUND or ALREADY_PROMOTED.
        With one of them, the job is CREATED when none is waiting, even if its id is still taken. `name=None` keeps the
        name. The other arguments are those of `schedule` with a `job_id`. Nothing else of the old job stays, including
        its attempts. O(log n) for a job with an index.
        """
        keep_name = name is None
        request = Job(
            data=data,
            name=name or "",
            delay=delay,
            at=at,
            job_id=self._id_of(job, "replace"),
            traceparent=traceparent,
            tracestate=tracestate,
            keep_id_for=keep_id_for,
        )
        if name is not None:
            check_job_name(name)
        return (await self._replace([request], [keep_name], "replace"))[0]

    async def replace_many(self, jobs: Iterable[Job]) -> tuple[JobOutcome, ...]:
        """Replace many jobs, like `replace`, in few round trips: each by its `job_id`, with the other fields of `Job`.

        A `Job` without a `name` keeps the name.
        """
        given = several(jobs, "replace_many", "Job(data=…, job_id=…)")
        requests: list[Job] = []
        for job in given:
            if not isinstance(job, Job):
                raise JobError(f"replace_many takes Job(data=…, job_id=…), not {shown_value(job)}")
            if job.job_id is None:
                raise JobError("replace_many: each job needs the job_id= of the one that it replaces")
            if job.on_repeat != "keep":
                raise JobError("replace_many replaces: leave on_repeat= out")
            requests.append(job)
        return await self._replace(requests, [not job.name for job in requests], "replace_many")

    async def _replace(self, jobs: Sequence[Job], keep_name: Sequence[bool], method: str) -> tuple[JobOutcome, ...]:
        made = self._maker(foreign=True).make(jobs)
        changes = (
            Replace(request=request, keep_name=keep, keep_due=job.delay is None and job.at is None)
            for job, request, keep in zip(jobs, made, keep_name, strict=True)
        )
        return await self._change(changes, method)

    async def cancel(self, job: JobRef) -> JobOutcome:
        """Cancel a waiting job.

        REMOVED: it will never be promoted, and its id is free again. ALREADY_PROMOTED: it is or was in the stream, and
        its id is still taken. NOT_FOUND: it was never scheduled, or was promoted so long ago that its id is free.

        An id of a job without a cancel index (scheduled with `index=False`, or by another producer) is searched for
        among the 10,000 jobs that are due first, a thousand at a time; a job beyond those is NOT_FOUND as well. A
        `DelayedJob` is found wherever it is.
        """
        return (await self._cancel([job], "cancel"))[0]

    async def cancel_many(self, jobs: Iterable[JobRef]) -> tuple[JobOutcome, ...]:
        """Cancel many jobs in few round trips, each atomically. The answers are in the order of `jobs`.

        If TransientError is raised midway, some may have been removed; a repeat answers NOT_FOUND for them.
        """
        return await self._cancel(several(jobs, "cancel_many", "job ids"), "cancel_many")

    async def _cancel(self, jobs: Sequence[JobRef], method: str) -> tuple[JobOutcome, ...]:
        targets = self._targets(jobs, method)
        ids = [job for job in targets if isinstance(job, str)]
        if len(ids) == len(targets):
            return await self._backend.cancel(self.name, ids) if ids else ()
        return await self._change((Remove(job=job) for job in targets), method)

    async def _change(self, changes: Iterable[JobChange], method: str) -> tuple[JobOutcome, ...]:
        management = self._managed(method)
        outcomes: list[JobOutcome] = []
        left = iter(changes)
        while some := list(islice(left, STEP)):
            if outcomes:
                await asyncio.sleep(0)  # so that a million jobs do not block a promoter in this process
            outcomes += await management.change_jobs(self.name, some)
        return tuple(outcomes)
