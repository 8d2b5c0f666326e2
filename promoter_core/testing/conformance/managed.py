"""`Managed`: a `Kit` with short methods for reading and changing waiting jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from promoter_core.spi import (
    Clock,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    ManagementSupport,
    StoredJob,
    unpack_envelope,
)
from promoter_core.testing.conformance.base import needs_support
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend

FOUND = "Return the waiting jobs with these ids, with all details; None for an id without a waiting job."
ENDS = "It reads at least one job, so that the cursors come to an end."
FAR_MS = 4_000_000_000_000  # a due time that does not come within a test
MOST_PAGES = 20_000


class Managed(Kit):
    """One queue of a backend that offers ManagementSupport."""

    def other(self, backend: Any = None) -> Managed:
        """Like `Kit.other`."""
        return Managed(backend or self.backend, self.clock, self.queue if backend is not None else None)

    async def change(self, *changes: JobChange) -> list[JobOutcome]:
        return list(await self.backend.change_jobs(self.queue, changes))

    async def get(self, id: str) -> StoredJob:
        """Return the waiting job with this id. Fails if there is none."""
        found = (await self.backend.get_jobs(self.queue, [id]))[0]
        obliges("ManagementSupport.get_jobs", FOUND, found is not None, id=id, answer=found)
        return cast("StoredJob", found)

    async def waits(self, id: str) -> bool:
        return (await self.backend.get_jobs(self.queue, [id]))[0] is not None

    async def page(self, **query: Any) -> JobPage:
        page: JobPage = await self.backend.list_jobs(self.queue, JobQuery(**query))
        most = query.get("limit", 100)
        fewer = "A page before the last one can have fewer jobs than `limit`"
        obliges("ManagementSupport.list_jobs", fewer, len(page.jobs) <= most, limit=most, jobs=len(page.jobs))
        return page

    async def walk_pages(self, **query: Any) -> list[JobPage]:
        """Return all pages, from the first or after a cursor."""
        pages: list[JobPage] = []
        after = query.pop("after", "")
        for _ in range(MOST_PAGES):
            pages.append(await self.page(**query, after=after))
            if not (after := pages[-1].cursor):
                return pages
        obliges("ManagementSupport.list_jobs", ENDS, False, pages=MOST_PAGES, query=query)
        raise AssertionError

    async def walk(self, **query: Any) -> list[StoredJob]:
        """Return the jobs of all pages."""
        return [job for page in await self.walk_pages(**query) for job in page.jobs]

    async def listed(self, **query: Any) -> list[str | None]:
        """Return the ids of the jobs of all pages."""
        return [job.id for job in await self.walk(**query)]

    async def left(self) -> tuple[int, int]:
        """Return the number of waiting jobs, and of jobs in the stream."""
        stats = await self.backend.stats(self.queue)
        return stats.depth, stats.stream_len


TwoManaged = Callable[[], tuple[Managed, Managed]]


class ManagedFixtures:
    """The fixtures for the contracts of ManagementSupport."""

    @pytest.fixture
    def managed(self, kit: Kit) -> Managed:
        needs_support(kit, ManagementSupport)
        return Managed(kit.backend, kit.clock)

    @pytest.fixture
    def two_managed(self, pair: Any, clock: Clock) -> TwoManaged:
        """Return a new queue as two processes see it."""
        first, second = (Managed(CheckedBackend(backend), clock) for backend in pair)
        needs_support(first, ManagementSupport)

        def new() -> tuple[Managed, Managed]:
            mine = first.other()
            return mine, mine.other(second.backend)

        return new


def payload_of(job: StoredJob) -> bytes:
    return bytes(unpack_envelope(job.envelope).payload)
