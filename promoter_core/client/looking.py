"""The part of `DelayedQueue` that sees waiting jobs: one, a page, all, and how many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from promoter_core.client.base import (
    STEP,
    QueueBase,
    bounds_of,
    check_flag,
    check_name,
    check_number,
    instant_ms,
    several,
)
from promoter_core.client.requests import shown_value
from promoter_core.client.values import DelayedJob, JobRef, Page, as_datetime
from promoter_core.spi.errors import JobError
from promoter_core.spi.model import MAX_DUE_MS
from promoter_core.spi.optional.management import JobQuery, StoredJob

MAX_PAGE = 10_000
MAX_EDGES = 10_001


class Looking(QueueBase):
    """Methods that change nothing. They need a backend with `ManagementSupport`, and raise ConfigError without."""

    async def get(self, job: JobRef) -> DelayedJob | None:
        """Return the waiting job with this id, with all details; None if it was promoted, cancelled or never scheduled.

        Of several jobs with one id, return the one that `cancel` would remove. O(log n); a job without an index is
        searched for among the 10,000 that are due first.
        """
        return (await self._get([job], "get"))[0]

    async def get_many(self, jobs: Iterable[JobRef]) -> tuple[DelayedJob | None, ...]:
        """Return many jobs, like `get`, in few round trips. The answers are in the order of `jobs`."""
        return await self._get(several(jobs, "get_many", "jobs or their ids"), "get_many")

    async def _get(self, jobs: Sequence[JobRef], method: str) -> tuple[DelayedJob | None, ...]:
        management = self._managed(method)
        ids = [self._id_of(job, method) for job in jobs]
        found: list[StoredJob | None] = []
        for first in range(0, len(ids), STEP):
            found += await management.get_jobs(self.name, ids[first : first + STEP])
        return tuple([None if job is None else self._seen(job) for job in found])

    async def jobs(
        self,
        *,
        limit: int = 100,
        after: str = "",
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        reverse: bool = False,
        details: bool = False,
    ) -> Page:
        """Return a page of the waiting jobs, in the order in which they will be promoted; parked jobs come last.

        The page has at most `limit` (1 to 10,000) jobs that are due from `due_from` on and before `due_to`, both aware
        datetimes, and that have this `name`. Without `due_to`, it includes parked jobs. `reverse` lists the latest
        first. `after` is the `cursor` of the previous page, with otherwise the same arguments; it stays valid while
        jobs come and go, and in any process. A page before the last can have fewer jobs than `limit`, or none: continue
        until the cursor is "". With `details`, the jobs have `unique`, `keep_id_for` and `traceparent`, for a few more
        reads a job.

        O(log n + limit); with `name`, each call reads 1,000 jobs or `limit`. Raises JobError, and PermanentError when
        `after` is not a cursor.
        """
        query = self._query(limit, due_from, due_to, name, reverse, details, after)
        page = await self._managed("jobs").list_jobs(self.name, query)
        return Page(tuple([self._seen(job) for job in page.jobs]), page.cursor, as_datetime(page.now_ms))

    async def scan(
        self,
        *,
        due_from: datetime | None = None,
        due_to: datetime | None = None,
        name: str | None = None,
        reverse: bool = False,
        details: bool = False,
    ) -> AsyncIterator[DelayedJob]:
        """Iterate over all waiting jobs, page by page, with the arguments of `jobs`.

        A job that waits throughout and keeps its due time occurs exactly once; one that is moved meanwhile can occur
        twice or not at all.
        """
        management, cursor = self._managed("scan"), ""
        while True:
            page = await management.list_jobs(
                self.name, self._query(STEP, due_from, due_to, name, reverse, details, cursor)
            )
            for job in page.jobs:
                yield self._seen(job)
            if not (cursor := page.cursor):
                return

    def _query(
        self,
        limit: int,
        due_from: datetime | None,
        due_to: datetime | None,
        name: str | None,
        reverse: bool,
        details: bool,
        after: str,
    ) -> JobQuery:
        from_ms, to_ms = bounds_of(due_from, due_to)
        if not isinstance(after, str):
            raise JobError(f"after must be the cursor of a page, not {shown_value(after)}")
        return JobQuery(
            limit=check_number(limit, "limit", 1, MAX_PAGE),
            after=after,
            due_from_ms=from_ms,
            due_to_ms=to_ms,
            name=check_name(name),
            reverse=check_flag(reverse, "reverse"),
            want_details=check_flag(details, "details"),
        )

    async def count(self, due_from: datetime | None = None, due_to: datetime | None = None) -> int:
        """Count the waiting jobs due from `due_from` on and before `due_to`, both aware datetimes.

        Parked jobs are not counted; `stats` returns their number. O(log n) on a Redis-protocol store.
        """
        from_ms, to_ms = bounds_of(due_from, due_to)
        before = await self._managed("count").count_jobs(
            self.name, [from_ms or 0, MAX_DUE_MS + 1 if to_ms is None else to_ms]
        )
        return before[1] - before[0]

    async def histogram(self, edges: Iterable[datetime]) -> tuple[int, ...]:
        """Count the waiting jobs due between adjacent edges, all at one moment: one number fewer than edges.

        `edges` are 2 to 10,001 ascending aware datetimes. A job that is due at an edge counts to its right. Parked jobs
        are not counted. O(log n) for each edge on a Redis-protocol store.
        """
        management = self._managed("histogram")
        if isinstance(edges, str | bytes) or not isinstance(edges, Iterable):
            raise JobError(f"edges must be a list of datetimes, not {shown_value(edges)}")
        given = list(edges)
        if not 2 <= len(given) <= MAX_EDGES:
            raise JobError(f"histogram takes 2 to {MAX_EDGES:,} edges, not {len(given):,}")
        bounds = [instant_ms(edge, f"edges[{i}]") for i, edge in enumerate(given)]
        for i, (left, right) in enumerate(pairwise(given)):
            if not left < right:
                raise JobError(f"edges must ascend: edges[{i + 1}] is not after edges[{i}]")
        before = await management.count_jobs(self.name, bounds)
        return tuple([right - left for left, right in pairwise(before)])
