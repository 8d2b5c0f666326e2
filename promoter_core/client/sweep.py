"""A `Sweep` goes through waiting jobs page by page and changes the matching ones. No job is changed twice."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from promoter_core.client.base import STEP
from promoter_core.client.requests import shown_value
from promoter_core.client.values import BulkInterrupted, BulkResult, Progress
from promoter_core.spi.errors import JobError, TransientError
from promoter_core.spi.model import MAX_DUE_MS, JobOutcome
from promoter_core.spi.optional.management import (
    JobChange,
    JobQuery,
    ManagementSupport,
    Remove,
    Reschedule,
    RunNow,
    StoredJob,
)

Decision = tuple[bool, JobChange | None]  # whether the job matches, and its change


@dataclass(frozen=True, slots=True)
class Plan:
    """Which jobs, in which order, and the change of each: `decide(job, now_ms)`, by the store's clock."""

    queries: Sequence[JobQuery]
    decide: Callable[[StoredJob, int], Decision]
    learn: Callable[[Sequence[JobChange], Sequence[JobOutcome]], None] | None = None  # gets each step's outcomes


class Sweep:
    """The steps of one call, and its progress. After a failed step, `run` continues with that step."""

    def __init__(self, backend: ManagementSupport, queue: str, plan: Plan, arguments: object) -> None:
        self.arguments = arguments
        self._backend = backend
        self._queue = queue
        self._plan = plan
        self._queries = list(plan.queries)
        self._cursor = ""
        self._page: tuple[int, list[JobChange]] | None = None  # matching jobs, and their changes that are not confirmed
        self._next = ""  # the cursor after that page
        self._matched = 0
        self._outcomes: Counter[JobOutcome] = Counter()

    @property
    def result(self) -> BulkResult:
        return BulkResult(self._matched, dict(self._outcomes))

    async def run(self, *, dry_run: bool, progress: Progress | None) -> BulkResult:
        """Make the changes. Raises BulkInterrupted."""
        while self._queries:
            try:
                await self._step(dry_run)
            except TransientError as exc:
                raise interrupted(exc, self.result, self) from exc
            if progress is not None:
                progress(self.result)
            await asyncio.sleep(0)
        return self.result

    async def _step(self, dry_run: bool) -> None:
        if self._page is None:
            page = await self._backend.list_jobs(self._queue, replace(self._queries[0], after=self._cursor))
            decisions = [self._plan.decide(job, page.now_ms) for job in page.jobs]
            changes = [change for _, change in decisions if change is not None and not dry_run]
            self._page = sum(meant for meant, _ in decisions), changes
            self._next = page.cursor
        matched, changes = self._page
        if changes:
            # Each change names an exact job and an absolute time, so repeating it after a lost reply is safe.
            outcomes = await self._backend.change_jobs(self._queue, changes)
            self._outcomes.update(outcomes)
            if self._plan.learn is not None:
                self._plan.learn(changes, outcomes)
        self._matched += matched
        self._page, self._cursor = None, self._next
        if not self._cursor:
            del self._queries[0]


def interrupted(error: TransientError, result: BulkResult, position: Sweep | None) -> BulkInterrupted:
    """Return the error to raise. With `position` None, a repeat starts from the beginning."""
    message = f"{error}; interrupted after {result.matched:,} jobs"
    return BulkInterrupted(message, code=error.code, result=result, position=position)


def query_of(from_ms: int | None, to_ms: int | None, name: str | None, *, reverse: bool = False) -> JobQuery:
    return JobQuery(limit=STEP, due_from_ms=from_ms, due_to_ms=to_ms, name=name, reverse=reverse)


def removing(from_ms: int | None, to_ms: int | None, name: str | None) -> Plan:
    return Plan([query_of(from_ms, to_ms, name)], lambda job, _: (True, Remove(job=job)))


def running(to_ms: int, name: str | None, max_stream_len: int, events: bool) -> Plan:
    """Plan to promote jobs. Once the stream is full, due jobs stay as they are, and the others become due now."""
    full: set[bytes] = set()  # jobs of the step that found the stream full: they can appear again

    def decide(job: StoredJob, now_ms: int) -> Decision:
        if job.handle in full:
            return False, None
        if (full or job.malformed) and job.due_ms is not None and job.due_ms <= now_ms:
            return True, None
        return True, RunNow(job=job, max_stream_len=max_stream_len, events=events)

    def learn(changes: Sequence[JobChange], outcomes: Sequence[JobOutcome]) -> None:
        stayed = [
            change.job
            for change, outcome in zip(changes, outcomes, strict=True)
            if outcome is JobOutcome.MOVED and isinstance(change, RunNow) and isinstance(change.job, StoredJob)
        ]
        if not full and any(not job.malformed for job in stayed):
            full.update(job.handle for job in stayed)

    return Plan([query_of(None, to_ms, name)], decide, learn)


def moving_to(to_due_ms: int, now_ms: int, from_ms: int | None, to_ms: int | None, name: str | None) -> Plan:
    """Plan to move all jobs to one due time: first those due from then on, then those before, so none is read again.

    If that time has passed, a job is moved to the store's current time; jobs that are already due stay.
    """
    target = min(max(to_due_ms, now_ms), MAX_DUE_MS)
    later = query_of(target if from_ms is None else max(from_ms, target), to_ms, name)
    earlier = query_of(from_ms, target if to_ms is None else min(to_ms, target), name)

    def decide(job: StoredJob, now_ms: int) -> Decision:
        due_ms, past = job.due_ms, target <= now_ms
        if due_ms is not None and past and target < due_ms <= now_ms:
            return False, None  # either moved by us to a time that has passed, or due on its own
        if due_ms == target or (due_ms is not None and past and due_ms <= now_ms):
            return True, None
        return True, Reschedule(job=job, due_ms=target)

    return Plan([query for query in (later, earlier) if _some(query)], decide)


def moving_by(by_ms: int, now_ms: int, from_ms: int | None, to_ms: int | None, name: str | None) -> Plan:
    """Plan to move each job by the same time. Later: the last job first; earlier: the first one first.

    Parked jobs stay.
    """
    began_ms = now_ms

    def decide(job: StoredJob, now_ms: int) -> Decision:
        due_ms = job.due_ms
        if due_ms is None:
            return True, None
        new_ms = min(max(due_ms + by_ms, 0), MAX_DUE_MS)
        if due_ms <= now_ms and new_ms <= now_ms:  # the store would replace it with the current time, which is later
            return by_ms > 0 or due_ms <= began_ms, None  # an earlier time: a moved or newly due job is read again
        return True, Reschedule(job=job, due_ms=new_ms) if new_ms != due_ms else None

    return Plan([query_of(from_ms, to_ms, name, reverse=by_ms > 0)], decide)


def _some(query: JobQuery) -> bool:
    return query.due_from_ms is None or query.due_to_ms is None or query.due_from_ms < query.due_to_ms


def check_progress(progress: Progress | None) -> Progress | None:
    """Raises JobError."""
    if progress is not None and (not callable(progress) or inspect.iscoroutinefunction(progress)):
        raise JobError(f"progress must be a plain function of a BulkResult, not {shown_value(progress)}")
    return progress
