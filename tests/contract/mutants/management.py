"""Wrong in what is shown of waiting jobs: found by id, counted and listed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from promoter_core.spi import (
    JobPage,
    PermanentError,
    TransientError,
    to_bytes,
)
from promoter_memory.backend import MemoryBackend
from promoter_memory.jobs import shown


class Shows(MemoryBackend):
    """Something else of each job, wherever it is shown. `other(job)`."""

    async def get_jobs(self, queue, ids):
        return [job and self.other(job) for job in await super().get_jobs(queue, ids)]

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, jobs=tuple(map(self.other, page.jobs)))


class ShowsTheDueTimeInSeconds(Shows):
    killed_by = "test_a_job_is_found_by_its_id"

    def other(self, job):
        return replace(job, due_ms=job.due_ms // 1_000)


class ShowsNoEnvelope(Shows):
    killed_by = "test_a_job_is_found_by_its_id"

    def other(self, job):
        return replace(job, envelope=b"")


class ShowsEachIdOnce(MemoryBackend):
    """A dictionary by id on the way, whose values are the answers."""

    killed_by = "test_many_jobs_are_found_in_the_order_asked"

    async def get_jobs(self, queue, ids):
        found = await super().get_jobs(queue, ids)
        return [job for job in found if job is not None] + [job for job in found if job is None]


class LooksInAllQueues(MemoryBackend):
    killed_by = "test_a_job_is_found_by_its_id"

    async def get_jobs(self, queue, ids):
        return [
            next((shown(job) for _, q in self._store.queues() if (job := q.waiting(id)) is not None), None)
            for id in ids
        ]


class ShowsNoTrace(Shows):
    killed_by = "test_all_details_are_shown"

    def other(self, job):
        return replace(job, traceparent="")


class ShowsTheHourOfAllJobs(Shows):
    killed_by = "test_all_details_are_shown"

    def other(self, job):
        return replace(job, keep_id_ms=job.keep_id_ms and 3_600_000)


class TakesNoKeepForTheDefault(Shows):
    """`keep_id_ms or KEEP_ID_MS`."""

    killed_by = "test_all_details_are_shown"

    def other(self, job):
        return replace(job, keep_id_ms=job.keep_id_ms or (3_600_000 if job.unique else None))


class ShowsAllAsUnique(Shows):
    killed_by = "test_all_details_are_shown"

    def other(self, job):
        return replace(job, unique=True)


class ListsNoDetails(MemoryBackend):
    """`want_details` is passed over."""

    killed_by = "test_all_details_are_shown"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, jobs=[replace(job, unique=None, keep_id_ms=None, traceparent="") for job in page.jobs])


class ShowsWhatWasThere(MemoryBackend):
    """A cache that promotions and cancellations do not clear."""

    killed_by = "test_a_job_that_waits_no_more_is_not_found"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job in jobs:
            waiting = self._store[queue].waiting(job.id)
            self._store.groups.setdefault(queue, {})[job.id] = waiting
        return answers

    async def get_jobs(self, queue, ids):
        cache = self._store.groups.get(queue, {})
        return [shown(cache[id]) if id in cache else None for id in ids]


class ShowsNoOverdueJobs(MemoryBackend):
    """`WHERE due > now`."""

    killed_by = "test_a_job_that_is_overdue_is_seen_like_any_other"

    async def list_jobs(self, queue, query):
        return await super().list_jobs(queue, replace(query, due_from_ms=max(query.due_from_ms or 0, self._now_ms())))


class CountsNoOverdueJobs(MemoryBackend):
    killed_by = "test_a_job_that_is_overdue_is_seen_like_any_other"

    async def count_jobs(self, queue, bounds_ms):
        due = self._store[queue].due(self._now_ms())
        return [max(count - due, 0) for count in await super().count_jobs(queue, bounds_ms)]


class ShowsTheFirstOfAnId(MemoryBackend):
    killed_by = "test_of_jobs_with_one_id_the_one_that_cancel_would_remove_is_shown"

    async def get_jobs(self, queue, ids):
        q, _ = self._queue(queue)
        return [shown(jobs[-1]) if (jobs := list(q.all_waiting(id))) else None for id in ids]


class LooksAtAThousandWithoutAnIndex(MemoryBackend):
    killed_by = "test_a_job_without_an_index_is_shown_among_many"

    async def get_jobs(self, queue, ids):
        early = {entry[2].id for entry in self._store[queue].ordered()[:1_000]}
        return [job if job and job.id in early else None for job in await super().get_jobs(queue, ids)]


class StripsIds(Shows):
    killed_by = "test_text_that_looks_alike_stays_apart"

    def other(self, job):
        return replace(job, id=job.id.strip())


class ReplacesWhatIsNoUtf8(Shows):
    killed_by = "test_text_that_looks_alike_stays_apart"

    def other(self, job):
        return replace(job, name=to_bytes(job.name).decode("utf-8", "replace"))


class MatchesNamesInAnyCase(MemoryBackend):
    killed_by = "test_text_that_looks_alike_stays_apart"

    async def list_jobs(self, queue, query):
        if query.name is None:
            return await super().list_jobs(queue, query)
        page = await super().list_jobs(queue, replace(query, name=None, limit=10_000))
        return replace(page, jobs=[j for j in page.jobs if j.name.casefold() == query.name.casefold()][: query.limit])


class ListsInOrderOfScheduling(MemoryBackend):
    killed_by = "test_pages_hold_each_job_once_and_in_order"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, replace(query, limit=10_000, after=""))
        jobs = sorted(page.jobs, key=lambda job: int(job.handle), reverse=query.reverse)
        start = int(query.after or 0)
        end = start + query.limit
        return JobPage(jobs=jobs[start:end], cursor=str(end) if end < len(jobs) else "", now_ms=page.now_ms)


class ReverseIsEachPageReversed(MemoryBackend):
    killed_by = "test_pages_hold_each_job_once_and_in_order"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, replace(query, reverse=False))
        return replace(page, jobs=page.jobs[::-1]) if query.reverse else page


class RepeatsTheLastOfAPage(MemoryBackend):
    killed_by = "test_pages_hold_each_job_once_and_in_order"

    async def list_jobs(self, queue, query):
        due_ms, _, place = query.after.partition("-")
        after = query.after and f"{due_ms}-{int(place) + (1 if query.reverse else -1)}"
        page = await super().list_jobs(queue, replace(query, after=after))
        return replace(page, cursor="") if query.after == page.cursor else page


class GivesACursorAfterTheLastPage(MemoryBackend):
    killed_by = "test_an_empty_queue_is_one_empty_page"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, cursor=page.cursor or query.after or "0-0")


class PagesAreOfNoTime(MemoryBackend):
    killed_by = "test_an_empty_queue_is_one_empty_page"

    async def list_jobs(self, queue, query):
        return replace(await super().list_jobs(queue, query), now_ms=0)


class EndsWithAnEmptyPage(MemoryBackend):
    """A page without jobs is taken for the last one: a name that is rare is not found."""

    killed_by = "test_jobs_of_one_name_are_listed_alone"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return page if page.jobs else replace(page, cursor="")


class LooksAtAllForAName(MemoryBackend):
    """In one command of the store, however many there are."""

    killed_by = "test_jobs_of_one_name_are_listed_alone"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        while query.name is not None and page.cursor and len(page.jobs) < query.limit:
            left = query.limit - len(page.jobs)
            more = await super().list_jobs(queue, replace(query, after=page.cursor, limit=left))
            page = replace(more, jobs=[*page.jobs, *more.jobs])
        return page


class TakesAnEmptyNameForNone(MemoryBackend):
    killed_by = "test_jobs_of_one_name_are_listed_alone"

    async def list_jobs(self, queue, query):
        return await super().list_jobs(queue, replace(query, name=query.name or None))


class TheEndIsAmongThem(MemoryBackend):
    killed_by = "test_due_times_bound_a_page_to_the_millisecond"

    async def list_jobs(self, queue, query):
        due_to_ms = None if query.due_to_ms is None else query.due_to_ms + 1
        return await super().list_jobs(queue, replace(query, due_to_ms=due_to_ms))


class TheBeginningIsNotAmongThem(MemoryBackend):
    killed_by = "test_due_times_bound_a_page_to_the_millisecond"

    async def list_jobs(self, queue, query):
        due_from_ms = None if query.due_from_ms is None else query.due_from_ms + 1
        return await super().list_jobs(queue, replace(query, due_from_ms=due_from_ms))


class TakesZeroForNoBound(MemoryBackend):
    killed_by = "test_due_times_bound_a_page_to_the_millisecond"

    async def list_jobs(self, queue, query):
        return await super().list_jobs(queue, replace(query, due_to_ms=query.due_to_ms or None))


class ForgetsBoundsAfterTheFirstPage(MemoryBackend):
    killed_by = "test_due_times_bound_a_page_to_the_millisecond"

    async def list_jobs(self, queue, query):
        if query.after:
            query = replace(query, due_from_ms=None, due_to_ms=None)
        return await super().list_jobs(queue, query)


class CountsWhatIsDueAtThatTime(MemoryBackend):
    killed_by = "test_jobs_are_counted_to_the_millisecond"

    async def count_jobs(self, queue, bounds_ms):
        return await super().count_jobs(queue, [bound_ms + 1 for bound_ms in bounds_ms])


class CountsBetweenTheBounds(MemoryBackend):
    """A histogram, which is the caller's affair."""

    killed_by = "test_jobs_are_counted_to_the_millisecond"

    async def count_jobs(self, queue, bounds_ms):
        counts = await super().count_jobs(queue, bounds_ms)
        return [*counts[:1], *(b - a for a, b in pairwise(counts))]


class CountsInOrderOfTheBounds(MemoryBackend):
    killed_by = "test_jobs_are_counted_to_the_millisecond"

    async def count_jobs(self, queue, bounds_ms):
        return await super().count_jobs(queue, sorted(bounds_ms))


class TiesComeById(MemoryBackend):
    """The pages have an order of their own."""

    killed_by = "test_the_order_of_pages_is_the_order_of_promotion"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        jobs = sorted(page.jobs, key=lambda job: (job.due_ms, job.id), reverse=query.reverse)
        return replace(page, jobs=jobs)


class TiesAreNotReversed(MemoryBackend):
    """`ORDER BY due DESC, id`."""

    killed_by = "test_the_order_of_pages_is_the_order_of_promotion"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, replace(query, after="", limit=10_000))
        jobs = sorted(page.jobs, key=lambda job: (-job.due_ms if query.reverse else job.due_ms, int(job.handle)))
        start = int(query.after or 0)
        end = start + query.limit
        return JobPage(jobs=jobs[start:end], cursor=str(end) if end < len(jobs) else "", now_ms=page.now_ms)


class TakesAnyTextForACursor(MemoryBackend):
    killed_by = "test_text_that_is_no_cursor_is_a_permanent_error"

    async def list_jobs(self, queue, query):
        try:
            return await super().list_jobs(queue, query)
        except PermanentError:
            return await super().list_jobs(queue, replace(query, after=""))


class ABadCursorMayPass(MemoryBackend):
    killed_by = "test_text_that_is_no_cursor_is_a_permanent_error"

    async def list_jobs(self, queue, query):
        try:
            return await super().list_jobs(queue, query)
        except PermanentError as exc:
            raise TransientError(str(exc), code="BADCURSOR") from exc


class LooksByTakingOut(MemoryBackend):
    """Pops what it lists, and puts it back: jobs that are looked at are due anew."""

    killed_by = "test_looks_change_nothing"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        q, now_ms = self._queue(queue)
        for job in page.jobs:
            q.move(q.waiting(job.id), now_ms + 1)
        return page
