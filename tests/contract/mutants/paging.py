"""Wrong with pages while the set changes: cursors that count, that need their job, or that are one process's own."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import JobPage
from promoter_memory.backend import MemoryBackend
from promoter_memory.jobs import shown
from tests.contract.mutants.processes import round_trip


class All(MemoryBackend):
    """Pages cut from a list of all, by a cursor of another kind. `start(jobs, after)` and `cursor(jobs, end)`."""

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, replace(query, after="", limit=100_000))
        start = self.start(page.jobs, query.after) if query.after else 0
        end = start + query.limit
        cursor = self.cursor(page.jobs, end) if end < len(page.jobs) else ""
        return JobPage(jobs=page.jobs[start:end], cursor=cursor, now_ms=page.now_ms)


class CountsHowFarItHasCome(All):
    """`LIMIT 10 OFFSET 20`, `ZRANGE 20 29`."""

    killed_by = "test_what_goes_before_its_page_hides_no_other"

    def start(self, jobs, after):
        return int(after)

    def cursor(self, jobs, end):
        return str(end)


class CountsWhatComesToo(CountsHowFarItHasCome):
    killed_by = "test_promotions_in_between_hide_no_job"


class CountsBesideALeader(CountsHowFarItHasCome):
    killed_by = "test_promotion_and_pages_go_on_at_once"


class CountsWhatGoes(CountsHowFarItHasCome):
    killed_by = "test_what_goes_between_two_pages_hides_no_other"


class LooksForTheJobOfTheCursor(All):
    """The cursor is the last job's id. When that has gone, it begins again, or ends."""

    killed_by = "test_a_cursor_goes_on_when_all_that_was_seen_has_gone"

    def start(self, jobs, after):
        return next((i + 1 for i, job in enumerate(jobs) if job.id == after), len(jobs))

    def cursor(self, jobs, end):
        return jobs[end - 1].id


class BeginsAgainWhenTheJobHasGone(LooksForTheJobOfTheCursor):
    killed_by = "test_what_goes_between_two_pages_hides_no_other"

    def start(self, jobs, after):
        return next((i + 1 for i, job in enumerate(jobs) if job.id == after), 0)


class GoesOnAfterTheDueTime(All):
    """The cursor is a due time, and jobs of the same time that have not been listed are passed over."""

    killed_by = "test_what_goes_between_two_pages_hides_no_other"

    def start(self, jobs, after):
        if len(jobs) > 1 and jobs[0].due_ms > jobs[-1].due_ms:
            return sum(job.due_ms >= int(after) for job in jobs)
        return sum(job.due_ms <= int(after) for job in jobs)

    def cursor(self, jobs, end):
        return str(jobs[end - 1].due_ms)


class SkipsTiesByCounting(All):
    """The cursor is a due time, and how many jobs of that time have been listed: some of them may have gone."""

    killed_by = "test_what_goes_between_two_pages_hides_no_other"

    def start(self, jobs, after):
        due_ms, seen = map(int, after.split("+"))
        reverse = len(jobs) > 1 and jobs[0].due_ms > jobs[-1].due_ms
        return sum(job.due_ms > due_ms if reverse else job.due_ms < due_ms for job in jobs) + seen

    def cursor(self, jobs, end):
        due_ms = jobs[end - 1].due_ms
        return f"{due_ms}+{sum(job.due_ms == due_ms for job in jobs[:end])}"


class NewJobsMoveTheCursor(CountsHowFarItHasCome):
    killed_by = "test_jobs_that_come_in_between_hide_no_other"


class ACursorCanBeUsedOnce(MemoryBackend):
    """An open cursor of the store, which is closed when it has been read."""

    killed_by = "test_a_cursor_can_be_used_again"

    async def list_jobs(self, queue, query):
        used = self._store.groups.setdefault("used cursors", {})
        if query.after and used.setdefault((queue, query.after), query) is not query:
            return JobPage(jobs=(), cursor="", now_ms=self._now_ms())
        return await super().list_jobs(queue, query)


class CursorsAreOfOneProcess(MemoryBackend):
    """A number of a list that this process has; another one's says nothing, and the listing ends."""

    killed_by = "test_a_cursor_is_good_in_any_process"

    def __init__(self, store):
        super().__init__(store)
        self.cursors = {}

    async def list_jobs(self, queue, query):
        if query.after and query.after not in self.cursors:
            return JobPage(jobs=(), cursor="", now_ms=self._now_ms())
        page = await super().list_jobs(queue, replace(query, after=self.cursors.get(query.after, "")))
        number = f"c{len(self.cursors)}"
        if page.cursor:
            self.cursors[number] = page.cursor
        return replace(page, cursor=page.cursor and number)


class LooksUpDetailsLater(MemoryBackend):
    """The page in one call, and what belongs to each job in another: by then some have gone."""

    killed_by = "test_a_page_is_not_torn_by_another_process"

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        await round_trip()
        q, _ = self._queue(queue)
        later = [q.waiting(job.id) for job in page.jobs]
        jobs = [
            replace(job, unique=after is not None and after.unique, due_ms=after.due_ms if after else 0)
            for job, after in zip(page.jobs, later, strict=True)
        ]
        return replace(page, jobs=jobs)


class CountsOneAfterTheOther(MemoryBackend):
    killed_by = "test_counts_are_of_one_moment"

    async def count_jobs(self, queue, bounds_ms):
        counts = []
        for bound_ms in bounds_ms:
            counts += await super().count_jobs(queue, [bound_ms])
            await round_trip()
        return counts


class ReadsTheDetailsLater(MemoryBackend):
    killed_by = "test_a_job_that_is_looked_up_is_of_one_moment"

    async def get_jobs(self, queue, ids):
        found = await super().get_jobs(queue, ids)
        await round_trip()
        later = [self._store[queue].waiting(id) for id in ids]
        return [
            job and job_later and replace(shown(job_later), envelope=job.envelope, name=job.name)
            for job, job_later in zip(found, later, strict=True)
        ]
