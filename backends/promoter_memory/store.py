"""The data of one queue in memory: a sorted set as a heap, streams as lists, a lock, an index and markers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from promoter_core.spi import ChangeFlags, Clock, PermanentError, StreamEntry, StreamName, SystemClock

FEW = 64  # cancelled jobs that stay in the heap in any case


@dataclass(slots=True)
class Pending:
    """A job in the sorted set. `gone` once cancelled: the heap drops it when it comes up, or with many like it."""

    id: str
    name: str
    envelope: bytes
    due_ms: int
    unique: bool = False
    gone: bool = False
    traceparent: str = ""
    earlier: Pending | None = None  # another job with this id that was there before


@dataclass(slots=True)
class Stream:
    """An append-only list with ids that only grow, as `ms-sequence`."""

    entries: list[StreamEntry] = field(default_factory=list)
    last: tuple[int, int] = (0, 0)

    def add(self, now_ms: int, fields: Mapping[str, bytes]) -> str:
        """Append an entry that keeps `fields`, and return its id."""
        ms, sequence = self.last
        self.last = ms, sequence = (now_ms, 0) if now_ms > ms else (ms, sequence + 1)
        id = f"{ms}-{sequence}"
        self.entries.append(StreamEntry(id, fields))
        return id

    def trim(self, length: int) -> None:
        del self.entries[: max(len(self.entries) - length, 0)]

    def after(self, id: str, limit: int) -> tuple[StreamEntry, ...]:
        low = _number(id) if id else (-1, 0)
        return tuple(e for e in self.entries if _number(e.id) > low)[:limit]


class QueueStore:
    """One queue. Every method takes O(log n) at most, but for `due`; `cancel` on average."""

    def __init__(self) -> None:
        self.depth = 0
        self._index: dict[str, Pending] = {}
        self.streams = {name: Stream() for name in StreamName}
        self.lock: tuple[str, int] | None = None  # holder, expiry
        self._heap: list[tuple[int, int, Pending]] = []
        self._sequence = 0
        self._markers: dict[str, int] = {}  # id → expiry
        self._expiries: list[tuple[int, str]] = []

    def holder(self, now_ms: int) -> str | None:
        """Who holds the lock at `now_ms`."""
        return self.lock[0] if self.lock and now_ms < self.lock[1] else None

    def add(self, job: Pending) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (job.due_ms, self._sequence, job))
        self.depth += 1
        job.earlier = before = self.waiting(job.id)
        while before is not None and before.earlier is not None and before.earlier.gone:
            before.earlier = before.earlier.earlier
        self._index[job.id] = job

    def waiting(self, id: str) -> Pending | None:
        """The latest job with this id that is still in the set."""
        job = self._index.get(id)
        while job is not None and job.gone:
            job = job.earlier
        return job

    def forget(self, id: str) -> None:
        """Drop what the index says of jobs that have gone."""
        if (job := self.waiting(id)) is not None:
            self._index[id] = job
        else:
            self._index.pop(id, None)

    def head(self) -> Pending | None:
        heap = self._heap
        while heap and heap[0][2].gone:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def pop(self) -> None:
        """Remove the head."""
        while self._heap:
            job = heapq.heappop(self._heap)[2]
            if not job.gone:
                job.gone = True
                self.depth -= 1
                break

    def cancel(self, job: Pending) -> None:
        job.gone = True
        self.depth -= 1
        self.forget(job.id)
        if len(self._heap) > 2 * self.depth + FEW:  # most of them have gone
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapq.heapify(self._heap)

    def due(self, now_ms: int) -> int:
        return sum(1 for due_ms, _, job in self._heap if due_ms <= now_ms and not job.gone)

    def mark(self, id: str, expiry_ms: int) -> None:
        """Remember the id of a promoted job."""
        self._markers[id] = expiry_ms
        heapq.heappush(self._expiries, (expiry_ms, id))

    def taken(self, id: str, now_ms: int) -> bool:
        """Whether a unique job with this id waits, or was promoted lately."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            expired_ms, old = heapq.heappop(self._expiries)
            if self._markers.get(old) == expired_ms:
                del self._markers[old]
        job = self.waiting(id)
        while job is not None and not (job.unique and not job.gone):
            job = job.earlier
        return job is not None or id in self._markers


def _number(id: str) -> tuple[int, int]:
    ms, _, sequence = id.partition("-")
    try:
        return int(ms), int(sequence)
    except ValueError:
        raise PermanentError(f"{id!r} is no id of an entry, such as 1700000000000-0", code="BADID") from None


class MemoryStore:
    """The data, for any number of backends in one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.flags = ChangeFlags(self.clock)
        self.groups: dict[str, dict[str, int]] = {}  # of processes: when each is a member no longer
        self._queues: dict[str, QueueStore] = {}

    def __getitem__(self, queue: str) -> QueueStore:
        if (store := self._queues.get(queue)) is None:
            store = self._queues[queue] = QueueStore()
        return store

    def queues(self) -> list[tuple[str, QueueStore]]:
        return list(self._queues.items())
