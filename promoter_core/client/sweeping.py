"""The part of `DelayedQueue` that changes all matching jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from promoter_core.client.base import QueueBase, bounds_of, check_flag, check_name, check_number, instant_ms
from promoter_core.client.changing import MAX_LENGTH
from promoter_core.client.requests import Delay, due_of
from promoter_core.client.sweep import Plan, Sweep, check_progress, interrupted, moving_by, moving_to, removing, running
from promoter_core.client.values import BulkResult, Progress
from promoter_core.spi.errors import JobError, TransientError
from promoter_core.spi.optional.management import JobQuery, ManagementSupport


class Sweeping(QueueBase):
    """Changes all matching jobs, 500 at a time, so that other work on the store continues in between.

    Each change is atomic. Jobs that leave meanwhile are counted under NOT_FOUND or ALREADY_PROMOTED, and jobs that
    arrive meanwhile can be missed. Jobs without an index are found as well. `progress`, a plain function, receives the
    `BulkResult` so far after each step. With `dry_run`, jobs are counted and nothing changes.

    BulkInterrupted, a TransientError, is raised when a step fails. Call again with `resume=error.position` and the same
    arguments to continue.
    """

    async def cancel_where(
        self,
        *,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Cancel all jobs that are due from `due_from` on and before `due_to`, and have this `name`.

        Without arguments, cancel all waiting jobs; without `due_to`, parked jobs too. After an error or a cancellation,
        just call it again.
        """
        from_ms, to_ms = bounds_of(due_from, due_to)
        chosen = check_name(name)

        async def plan(_: ManagementSupport) -> Plan:
            return removing(from_ms, to_ms, chosen)

        return await self._sweep(("cancel_where", from_ms, to_ms, chosen), plan, dry_run, progress, resume)

    async def run_due_before(
        self,
        t: datetime,
        *,
        name: str | None = None,
        max_stream_len: int = 1_000_000,
        events: bool = True,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Promote all jobs that are due before `t` and have this `name`, earliest first, like `run_now`.

        When the stream has `max_stream_len` entries, the remaining jobs become due now, and a promoter moves them when
        there is room. After an error or a cancellation, just call it again.
        """
        to_ms, chosen = instant_ms(t, "t"), check_name(name)
        length = check_number(max_stream_len, "max_stream_len", 1, MAX_LENGTH)
        write = check_flag(events, "events")

        async def plan(_: ManagementSupport) -> Plan:
            return running(to_ms, chosen, length, write)

        return await self._sweep(("run_due_before", to_ms, chosen, length, write), plan, dry_run, progress, resume)

    async def reschedule_where(
        self,
        *,
        delay: Delay | None = None,
        at: datetime | None = None,
        by: timedelta | None = None,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        resume: object = None,
    ) -> BulkResult:
        """Change the due times of all jobs that are due from `due_from` on and before `due_to`, and have this `name`.

        `delay` from now or `at` moves all jobs to one time. `by` moves each by this much later, or earlier if negative.
        No job is moved twice, even if its new time is also in the range. Jobs that need no change are matched and stay:
        jobs already at that time, jobs that are due and would still be due, and with `by`, parked jobs.

        After an error or a cancellation, a call with `at` can be repeated. A call with `by` would move jobs again, so
        continue it with `resume`.
        """
        if sum(value is not None for value in (delay, at, by)) != 1:
            raise JobError("reschedule_where needs one of delay=, at= and by=")
        by_ms: int | None = None
        delay_ms: int | None = None
        due_ms: int | None = None
        if by is not None:
            if not isinstance(by, timedelta):
                raise JobError(f"by must be a timedelta, not {type(by).__name__}")
            if not (by_ms := round(by / timedelta(milliseconds=1))):
                raise JobError("by must be a millisecond or more, later or earlier")
        else:
            delay_ms, due_ms = due_of(delay, at, self._clock.time_ms())
        from_ms, to_ms = bounds_of(due_from, due_to)
        chosen = check_name(name)

        async def plan(management: ManagementSupport) -> Plan:
            now_ms = (await management.list_jobs(self.name, JobQuery(limit=1))).now_ms
            if by_ms is not None:
                return moving_by(by_ms, now_ms, from_ms, to_ms, chosen)
            return moving_to(now_ms + (delay_ms or 0) if due_ms is None else due_ms, now_ms, from_ms, to_ms, chosen)

        arguments = ("reschedule_where", by_ms, delay_ms, due_ms, from_ms, to_ms, chosen)
        return await self._sweep(arguments, plan, dry_run, progress, resume)

    async def _sweep(
        self,
        arguments: tuple[object, ...],
        plan: Callable[[ManagementSupport], Awaitable[Plan]],
        dry_run: bool,
        progress: Progress | None,
        resume: object,
    ) -> BulkResult:
        management = self._managed(str(arguments[0]))
        dry, report = check_flag(dry_run, "dry_run"), check_progress(progress)
        arguments = (*arguments, self.name, dry)
        if resume is None:
            try:
                sweep = Sweep(management, self.name, await plan(management), arguments)
            except TransientError as exc:
                raise interrupted(exc, BulkResult(), None) from exc
        elif isinstance(resume, Sweep) and resume.arguments == arguments:
            sweep = resume
        else:
            raise JobError(
                f"resume must be the position of a BulkInterrupted from {arguments[0]} with the same arguments"
            )
        return await sweep.run(dry_run=dry, progress=report)
