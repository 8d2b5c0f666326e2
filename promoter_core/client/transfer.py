"""Move waiting jobs between stores: to a file, from a file, or from one backend to another."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from promoter_core.client.transfer_lines import (
    End,
    Header,
    Malformed,
    Moving,
    TransferError,
    end_line,
    header_line,
    job_line,
    moving,
    parse_line,
)
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.errors import ConfigError
from promoter_core.spi.model import MAX_DUE_MS, JobOutcome
from promoter_core.spi.names import check_queue_name
from promoter_core.spi.optional.management import JobPage, JobQuery, ManagementSupport, StoredJob
from promoter_core.spi.wire import Envelope, unpack_envelope

PAGE = 1_000  # jobs per page
PAGE_BYTES = 4_000_000  # bytes of envelopes written at once; one job may exceed it
LOOKED_AT_MOST = 10_000  # overdue jobs searched in the target for a job without an index, or with an ambiguous id
READING = (EOFError, OSError, zlib.error)  # raised for a damaged file
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")  # generated ids, which are never reused

Content = tuple[str, bytes]  # a job's name and envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPage:
    """A part of a file of jobs, yielded by `export_jobs`."""

    lines: bytes
    jobs: int  # in the whole file so far, including malformed members
    cursor: str  # the start of the next page; "" on the last page


@dataclass(slots=True, kw_only=True)
class Transferred:
    """The progress of an import or a copy."""

    lines: int = 0  # lines of the file handled so far
    cursor: str = ""  # position in the source of a copy: the start of the next page
    created: int = 0  # new in the target
    waiting: int = 0  # already waiting in the target
    promoted: int = 0  # recently promoted in the target
    taken: int = 0  # unique jobs whose id belongs to another job in the target, which stays
    malformed: int = 0  # members that are not jobs, which no store accepts

    @property
    def jobs(self) -> int:
        """The number of jobs and malformed members handled so far."""
        return self.created + self.waiting + self.promoted + self.taken + self.malformed


Progress = Callable[[Transferred], object]


async def export_jobs(backend: Backend, queue: str, *, after: str = "", jobs: int = 0) -> AsyncIterator[ExportedPage]:
    """Yield the waiting jobs of a queue as the lines of a file, a page at a time.

    Start without arguments. To resume, in any process, pass the `cursor` and the `jobs` of the last page that was
    saved. A job that waits throughout and keeps its due time is in the file exactly once. A job that is promoted,
    cancelled, moved or scheduled meanwhile can be missing, and a moved one can be there twice.

    Raises ConfigError, TransientError, PermanentError.
    """
    source, name = _managed(backend, "export_jobs"), check_queue_name(queue)
    begun = bool(after)
    while True:
        page = await _page(source, name, after)
        lines = [] if begun else [header_line(name, page.now_ms)]
        lines += map(job_line, page.jobs)
        jobs += len(page.jobs)
        if not page.cursor:
            lines.append(end_line(jobs))
        yield ExportedPage(lines=b"".join(lines), jobs=jobs, cursor=page.cursor)
        if not page.cursor:
            return
        begun, after = True, page.cursor


async def import_jobs(
    backend: Backend,
    lines: Iterable[bytes],
    *,
    queue: str | None = None,
    skip: int = 0,
    progress: Progress | None = None,
) -> Transferred:
    """Schedule the jobs of a file, by default in the queue that it names. `lines` include their line ends.

    A repeat changes nothing: a job that is waiting in the target, or was promoted there within the hour (or the time
    for which its id is kept), is counted and left alone. Jobs of several lines with one id all arrive. A due time in
    the past is now, and a parked job waits until the end of the year 9999. Jobs with an index become unique in the
    target.

    Skips the first `skip` lines, but not the header. Calls `progress` after each thousand jobs.

    Raises TransferError with the line number, after scheduling all jobs before it; ConfigError, TransientError,
    PermanentError. On an error, the last call of `progress` has the number of handled lines.
    """
    result, done = Transferred(), progress or _nothing
    target = _Target(check_backend(backend), check_queue_name(queue) if queue is not None else None, result)
    reader = _Reader(lines, skip)
    for part in reader.parts(target):
        await target.put(part)
        result.lines = reader.number
        done(result)
    if reader.error is not None:
        raise reader.error
    return result


async def copy_jobs(
    source: Backend,
    queue: str,
    target: Backend,
    *,
    to_queue: str | None = None,
    after: str = "",
    progress: Progress | None = None,
) -> Transferred:
    """Copy the waiting jobs of a queue to another store, like an export and an import. The source keeps them.

    `after` is the `cursor` of an earlier copy that did not finish. Raises ConfigError, TransientError, PermanentError;
    the last call of `progress` then has the cursor to continue from.
    """
    here, result, done = _managed(source, "copy_jobs"), Transferred(cursor=after), progress or _nothing
    name = check_queue_name(queue)
    there = _Target(check_backend(target), check_queue_name(to_queue if to_queue is not None else queue), result)
    while True:
        page = await _page(here, name, result.cursor)
        await there.put([Malformed() if job.malformed else moving(job) for job in page.jobs])
        result.cursor = page.cursor
        done(result)
        if not page.cursor:
            return result


def _nothing(result: Transferred) -> None:
    pass


def _managed(backend: Backend, method: str) -> ManagementSupport:
    if not isinstance(check_backend(backend), ManagementSupport):
        raise ConfigError(f"{method}: the backend {type(backend).__name__} cannot list its jobs (ManagementSupport)")
    return backend  # type: ignore[return-value]


async def _page(source: ManagementSupport, queue: str, after: str) -> JobPage:
    return await source.list_jobs(queue, JobQuery(limit=PAGE, after=after, want_details=True))


class _Reader:
    """Reads a file's lines in parts of some size, and keeps the error that ends it."""

    def __init__(self, lines: Iterable[bytes], skip: int) -> None:
        self.number = 0  # of the last line read
        self.error: TransferError | None = None
        self._lines = iter(lines)
        self._skip = skip
        self._complete = False  # whether the last progress line marked the end of an export

    def parts(self, target: _Target) -> Iterator[list[Moving | Malformed]]:
        part: list[Moving | Malformed] = []
        size = 0
        try:
            for number, line in self._numbered():
                found = None if 1 < number <= self._skip else parse_line(line, number)
                if isinstance(found, Header):
                    target.found_header(found, number)
                elif isinstance(found, Moving | Malformed):
                    target.check_queue(number)
                    part.append(found)
                    size += len(line)
                if found is not None or number <= self._skip:
                    self._complete = isinstance(found, End)
                self.number = number
                if len(part) >= PAGE or size >= PAGE_BYTES:
                    yield part
                    part, size = [], 0
            if not self._complete:
                self.error = TransferError(
                    f"the file ends after line {self.number} without the last line of an export: it was truncated, or "
                    "the export did not finish; all jobs in it have been imported"
                    if self.number
                    else "the file is empty"
                )
        except TransferError as exc:
            self.error = exc
        yield part

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        while True:
            try:
                line = next(self._lines, None)
            except READING as exc:
                raise TransferError(f"the file cannot be read after line {number}: {exc}") from None
            if line is None:
                return
            number += 1
            yield number, line


class _Target:
    """Schedules jobs unless they already exist, and counts."""

    def __init__(self, backend: Backend, queue: str | None, result: Transferred) -> None:
        self._backend = backend
        self._managed = backend if isinstance(backend, ManagementSupport) else None
        self._given = queue is not None
        self._queue = queue or ""
        self._result = result
        # Hashes of jobs created here, by id, for ids that are neither unique nor generated: other jobs may share such
        # an id.
        self._shared: dict[int, set[int]] = {}

    def found_header(self, header: Header, number: int) -> None:
        if self._given:
            return
        if self._queue and self._queue != header.queue:
            raise TransferError(
                f"line {number} begins the jobs of another queue, {header.queue!r}: import each file by itself"
            )
        self._queue = header.queue

    def check_queue(self, number: int) -> None:
        if not self._queue:
            raise TransferError(f"line {number}: no header of an export before it says which queue it belongs to")

    async def put(self, part: Sequence[Moving | Malformed]) -> None:
        jobs = [job for job in part if isinstance(job, Moving)]
        self._result.malformed += len(part) - len(jobs)
        jobs = await self._without_present(jobs, [job for job in jobs if not job.request.unique])
        # `Backend.schedule` does not define whether a waiting job that is not unique occupies its id.
        jobs = await self._without_present(jobs, [job for job in jobs if not job.unique], overdue=False)
        if not jobs:
            return
        outcomes = await self._backend.schedule(self._queue, [job.request for job in jobs])
        taken: list[Moving] = []
        for job, scheduled in zip(jobs, outcomes, strict=True):
            if scheduled.outcome is JobOutcome.CREATED:
                self._created(job)
            elif scheduled.outcome is JobOutcome.ALREADY_PROMOTED and not self._follows_another(job):
                self._result.promoted += 1
            else:
                taken.append(job)
        if taken and self._managed is not None:
            await self._settle(self._managed, taken)
        else:
            self._result.waiting += len(taken)

    async def _settle(self, target: ManagementSupport, taken: Sequence[Moving]) -> None:
        """Handle jobs whose ids are taken, by themselves or by others."""
        others: list[Moving] = []
        found_jobs = await target.get_jobs(self._queue, [job.request.id for job in taken])
        for job, found in zip(taken, found_jobs, strict=True):
            if found is not None and _same(job, found):
                self._result.waiting += 1
            elif found is None and not self._follows_another(job):  # promoted meanwhile
                self._result.promoted += 1
            else:
                others.append(job)
        others = await self._without_present(others, others)
        new = [job for job in others if not job.unique or self._follows_another(job)]
        self._result.taken += len(others) - len(new)
        if new:
            await self._backend.schedule(self._queue, [replace(job.request, unique=False) for job in new])
            for job in new:
                self._created(job)

    def _created(self, job: Moving) -> None:
        self._result.created += 1
        if not (job.unique or ULID.fullmatch(job.request.id)):
            self._shared.setdefault(hash(job.request.id), set()).add(hash(_content(job)))

    def _follows_another(self, job: Moving) -> bool:
        """Return whether another job with its id was imported before, so that the id does not identify this one."""
        before = self._shared.get(hash(job.request.id))
        return before is not None and before != {hash(_content(job))}

    async def _without_present(
        self, jobs: Sequence[Moving], doubtful: Sequence[Moving], *, overdue: bool = True
    ) -> list[Moving]:
        """Return the jobs, without doubtful ones that wait in the target or occur twice."""
        if not doubtful:
            return list(jobs)
        there, left = await self._present(doubtful, overdue=overdue), list[Moving]()
        asked = set(map(id, doubtful))
        for job in jobs:
            if id(job) not in asked:
                left.append(job)
            elif _content(job) in there:
                self._result.waiting += 1
            else:
                left.append(job)
                there.add(_content(job))
        return left

    async def _present(self, jobs: Sequence[Moving], *, overdue: bool) -> set[Content]:
        """Return the jobs that wait in the target at their due time, by content. Overdue ones are among the first."""
        if self._managed is None:
            return set()
        wanted, found = {_content(job) for job in jobs}, set[Content]()
        times = sorted({job.request.due_ms or 0 for job in jobs})
        now_ms = (await self._managed.list_jobs(self._queue, JobQuery(limit=1))).now_ms
        later = [due_ms for due_ms in times if now_ms < due_ms < MAX_DUE_MS]
        if overdue and times[0] <= now_ms:
            found |= await self._looked_for(self._managed, wanted, None, now_ms + 1, LOOKED_AT_MOST)
        if later:
            found |= await self._looked_for(self._managed, wanted, later[0], later[-1] + 1)
        if times[-1] == MAX_DUE_MS:
            found |= await self._looked_for(self._managed, wanted, MAX_DUE_MS, None)
        return found

    async def _looked_for(
        self,
        target: ManagementSupport,
        wanted: set[Content],
        from_ms: int | None,
        to_ms: int | None,
        most: int | None = None,
    ) -> set[Content]:
        found: set[Content] = set()
        after, looked = "", 0
        while True:
            query = JobQuery(limit=PAGE, after=after, due_from_ms=from_ms, due_to_ms=to_ms)
            page = await target.list_jobs(self._queue, query)
            found |= {content for job in page.jobs if (content := (job.name, job.envelope)) in wanted}
            after, looked = page.cursor, looked + len(page.jobs)
            if not after or (most is not None and looked >= most):
                return found


def _content(job: Moving) -> Content:
    return job.request.name, job.request.envelope


def _same(job: Moving, found: StoredJob) -> bool:
    """Return whether `found` is this job, or a later attempt of it."""
    if found.envelope == job.request.envelope:
        return True
    ours, its = _unpacked(job.request.envelope), _unpacked(found.envelope)
    if ours is None or its is None:
        return False
    same = (ours.id, ours.payload, ours.created_at_ms) == (its.id, its.payload, its.created_at_ms)
    return same and its.attempt >= ours.attempt


def _unpacked(envelope: bytes) -> Envelope | None:
    try:
        return unpack_envelope(envelope)
    except ValueError:
        return None
