"""`LatenessProbe`: measures how late a queue's jobs are promoted, from outside the promoting process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from promoter_core.monitor.looking import TIMEOUT_S
from promoter_core.spi import (
    Backend,
    JobQuery,
    ManagementSupport,
    PermanentError,
    StreamName,
    TransientError,
    check_queue_name,
    run_within,
    to_text,
)

AT_ONCE = 50  # jobs followed at a time
EVENTS, PAGES = 200, 3  # maximum events of a call, and calls of a look
KEEP = 500  # promotions remembered
SLACK_MS = 10_000  # tolerance for the clock of the events
FORGET_MS = 60_000  # a job without an event this long after its due time was cancelled or moved, or has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """The lateness of the observed jobs: milliseconds from the due time to the promotion."""

    jobs: int  # number of jobs observed
    p50_ms: int
    p99_ms: int


class LatenessProbe:
    """Follows the jobs of one queue that are due next, and finds their `waiting` events.

    Each look reads at most a page of 50 waiting jobs and 600 events. So the result is a sample if more jobs are
    promoted between two looks. It is empty if the promoter writes no events, or if jobs are due sooner than the next
    look.
    """

    def __init__(self, backend: Backend, queue: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ConfigError for an invalid queue or backend."""
        self.queue = check_queue_name(queue)
        self._backend = backend
        self._timeout_s = timeout_s
        self._due_ms: dict[str, int] = {}  # followed jobs, by id
        self._after = ""  # the last event read
        self._by_time = True  # event ids are times, as in Redis streams, so old events can be skipped
        self._skipped_ms = 0  # when old events were skipped, if nothing has been read since
        self._seen: deque[int] = deque(maxlen=KEEP)

    async def look(self) -> Lateness | None:
        """Read once, and return the lateness so far; None before the first job.

        Raises TransientError, PermanentError.
        """
        if isinstance(self._backend, ManagementSupport):
            try:
                await run_within(self._look(self._backend), self._timeout_s)
            except TimeoutError:
                raise TransientError(f"no answer in {self._timeout_s:g} s", code="TIMEOUT") from None
        return self.lateness

    @property
    def lateness(self) -> Lateness | None:
        """Return the lateness so far, like `look`, without reading."""
        if not self._seen:
            return None
        ordered = sorted(self._seen)
        return Lateness(jobs=len(ordered), p50_ms=_at(ordered, 0.5), p99_ms=_at(ordered, 0.99))

    @property
    def recent_ms(self) -> Sequence[int]:
        """Return the latest observed values in ms, the newest last; at most 500."""
        return tuple(self._seen)

    async def _look(self, management: ManagementSupport) -> None:
        pages, more = 0, bool(self._due_ms)
        while more and self._due_ms:
            if (pages := pages + 1) > PAGES:
                return  # unread events may belong to followed jobs
            more = await self._read_events()
        page = await management.list_jobs(self.queue, JobQuery(limit=AT_ONCE))
        followed = {id: due_ms for id, due_ms in self._due_ms.items() if due_ms > page.now_ms - FORGET_MS}
        if not followed and self._by_time:
            self._after, self._skipped_ms = f"{page.now_ms - 1}-0", page.now_ms  # older events are irrelevant
        for job in page.jobs:
            if job.id is not None and job.due_ms is not None and not job.malformed and len(followed) < 2 * AT_ONCE:
                followed[job.id] = job.due_ms
        self._due_ms = followed

    async def _read_events(self) -> bool:
        """Read some events. Return True when there can be more."""
        try:
            entries = await self._backend.read(self.queue, StreamName.EVENTS, self._after, EVENTS)
        except PermanentError:
            if not (self._by_time and self._skipped_ms):
                raise
            self._by_time, self._after, self._skipped_ms = False, "", 0  # the ids are opaque, not times
            return True
        for entry in entries:
            at_ms = _number(entry.fields.get("ts", b""))
            if at_ms and at_ms < self._skipped_ms - SLACK_MS:
                self._by_time = False
            self._skipped_ms = 0
            self._after = entry.id
            if entry.fields.get("e") != b"waiting":
                continue
            due_ms = self._due_ms.pop(to_text(entry.fields.get("id", b"")), None)
            if due_ms is not None and at_ms >= due_ms:  # otherwise the job was run early with run_now
                self._seen.append(at_ms - due_ms)
        return len(entries) == EVENTS


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) <= 15 else 0


def _at(ordered: Sequence[int], quantile: float) -> int:
    return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)]
