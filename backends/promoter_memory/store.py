"""The data of one queue in memory: a sorted set as a heap, streams as lists, a lock, an index and markers."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from promoter_core.spi import (
    KEEP_ID_MS,
    ChangeFlags,
    Clock,
    JobOutcome,
    PermanentError,
    StreamEntry,
    StreamName,
    SystemClock,
)

FEW = 64  # stale entries that the heap may always contain

Entry = tuple[int, int, "Pending"]  # due time, position among jobs with the same due time, job


@dataclass(slots=True)
class Pending:
    """A job in the sorted set.

    `gone` once cancelled: the heap drops it when it reaches the head, or with many others.
    """

    id: str
    name: str
    envelope: bytes
    due_ms: int
    unique: bool = False
    gone: bool = False
    traceparent: str = ""
    tracestate: str = ""
    keep_id_ms: int = KEEP_ID_MS
    earlier: Pending | None = None  # an earlier waiting job with the same id
    number: int = 0  # does not change when the job moves
    place: int = 0  # position of its heap entry; changes when the job moves


@dataclass(slots=True)
class Stream:
    """An append-only list with ids that only grow, as `ms-sequence`."""

    entries: list[StreamEntry] = field(default_factory=list)
    last: tuple[int, int] = (0, 0)
    added: int = 0  # entries ever added

    def add(self, now_ms: int, fields: Mapping[str, bytes]) -> str:
        """Append an entry that keeps `fields`, and return its id."""
        ms, sequence = self.last
        self.last = ms, sequence = (now_ms, 0) if now_ms > ms else (ms, sequence + 1)
        id = f"{ms}-{sequence}"
        self.entries.append(StreamEntry(id, fields))
        self.added += 1
        return id

    def trim(self, length: int) -> None:
        del self.entries[: max(len(self.entries) - length, 0)]

    def after(self, id: str, limit: int) -> tuple[StreamEntry, ...]:
        low = _number(id) if id else (-1, 0)
        return tuple(e for e in self.entries if _number(e.id) > low)[:limit]


class QueueStore:
    """One queue. Every method takes at most O(log n), except `due` and `ordered`; `cancel` and `move` on average."""

    def __init__(self) -> None:
        self.depth = 0
        self._index: dict[str, Pending] = {}
        self.streams = {name: Stream() for name in StreamName}
        self.lock: tuple[str, int] | None = None  # holder, expiry
        self._heap: list[Entry] = []
        self._ordered: list[Entry] | None = None  # the heap in sorted order, cached until the set changes
        self._sequence = 0
        self._markers: dict[str, int] = {}  # id → expiry
        self._expiries: list[tuple[int, str]] = []

    def holder(self, now_ms: int) -> str | None:
        """Return the holder of the lock at `now_ms`."""
        return self.lock[0] if self.lock and now_ms < self.lock[1] else None

    def add(self, job: Pending) -> None:
        self._push(job)
        job.number = job.place
        self.depth += 1
        job.earlier = before = next(self.all_waiting(job.id), None)
        while before is not None and before.earlier is not None and before.earlier.gone:
            before.earlier = before.earlier.earlier
        self._index[job.id] = job
        if job.unique:
            self._markers.pop(job.id, None)  # left by an earlier job: this one sets its own

    def move(self, job: Pending, due_ms: int) -> None:
        job.due_ms = due_ms
        self._push(job)
        self._compact()

    def _push(self, job: Pending) -> None:
        self._sequence = job.place = self._sequence + 1
        heapq.heappush(self._heap, (job.due_ms, job.place, job))
        self._ordered = None

    def waiting(self, id: str) -> Pending | None:
        """Return the waiting job with this id: the unique one, or else the latest."""
        latest = None
        for job in self.all_waiting(id):
            if job.unique:
                return job
            latest = latest or job
        return latest

    def all_waiting(self, id: str) -> Iterator[Pending]:
        """Return all waiting jobs with this id, the latest first."""
        job = self._index.get(id)
        while job is not None:
            if not job.gone:
                yield job
            job = job.earlier

    def forget(self, id: str) -> None:
        """Drop index entries of jobs that have left the set."""
        if (job := next(self.all_waiting(id), None)) is not None:
            self._index[id] = job
        else:
            self._index.pop(id, None)

    def head(self) -> Pending | None:
        heap = self._heap
        while heap and not _stands(heap[0]):
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def head_place(self) -> int | None:
        """Return the position of the head, which is unique and changes when the job moves."""
        return job.place if (job := self.head()) is not None else None

    def pop(self) -> None:
        """Remove the head."""
        if (job := self.head()) is not None:
            self._take(job)

    def cancel(self, job: Pending) -> None:
        """Remove any job, and free its id."""
        self._take(job)
        self.forget(job.id)
        self._markers.pop(job.id, None)
        self._compact()

    def remove(self, job: Pending) -> None:
        """Remove any job, as a promotion does; cleanup removes the index."""
        self._take(job)
        self._compact()

    def _take(self, job: Pending) -> None:
        job.gone = True
        self.depth -= 1
        self._ordered = None

    def _compact(self) -> None:
        if len(self._heap) > 2 * self.depth + FEW:  # most entries are stale
            self._heap = [entry for entry in self._heap if _stands(entry)]
            heapq.heapify(self._heap)

    def due(self, now_ms: int) -> int:
        return sum(1 for entry in self._heap if entry[0] <= now_ms and _stands(entry))

    def ordered(self) -> list[Entry]:
        """Return all waiting jobs, in promotion order. O(n log n) after a change of the set."""
        if self._ordered is None:
            self._ordered = sorted(entry for entry in self._heap if _stands(entry))
        return self._ordered

    def before(self, due_ms: int, place: int = 0) -> int:
        """Count the waiting jobs before this due time and position."""
        return bisect_left(self.ordered(), (due_ms, place))

    def mark(self, job: Pending, now_ms: int) -> None:
        """Remember the id of a unique job that is being promoted."""
        if job.unique and job.keep_id_ms > 0:
            self.remember(job.id, now_ms + job.keep_id_ms)

    def remember(self, id: str, expiry_ms: int) -> None:
        """Keep an id taken until then, whatever waits."""
        self._markers[id] = expiry_ms
        heapq.heappush(self._expiries, (expiry_ms, id))

    def marked(self, id: str, now_ms: int) -> bool:
        """Return whether a unique job with this id was recently promoted."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            expired_ms, old = heapq.heappop(self._expiries)
            if self._markers.get(old) == expired_ms:
                del self._markers[old]
        return id in self._markers

    def taken(self, id: str, now_ms: int) -> JobOutcome | None:
        """Return KEPT: a unique job with this id waits. ALREADY_PROMOTED: one was recently promoted.

        None: the id is free.
        """
        if any(job.unique for job in self.all_waiting(id)):
            return JobOutcome.KEPT
        return JobOutcome.ALREADY_PROMOTED if self.marked(id, now_ms) else None


def _stands(entry: Entry) -> bool:
    """Return whether a heap entry is that of a waiting job."""
    return not entry[2].gone and entry[1] == entry[2].place


def _number(id: str) -> tuple[int, int]:
    ms, _, sequence = id.partition("-")
    try:
        return int(ms), int(sequence)
    except ValueError:
        raise PermanentError(f"{id!r} is not an entry id, such as 1700000000000-0", code="BADID") from None


class MemoryStore:
    """The data, for any number of backends in one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.flags = ChangeFlags(self.clock)
        self.groups: dict[str, dict[str, int]] = {}  # by group: processes, and when each membership expires
        self._queues: dict[str, QueueStore] = {}

    def __getitem__(self, queue: str) -> QueueStore:
        if (store := self._queues.get(queue)) is None:
            store = self._queues[queue] = QueueStore()
        return store

    def queues(self) -> list[tuple[str, QueueStore]]:
        return list(self._queues.items())
