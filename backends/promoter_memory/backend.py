"""`MemoryBackend`: every obligation of `promoter_core.contracts.Backend` in plain Python, all four phases unfused.

No method awaits between reading and writing, so each is atomic among the tasks of one event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from promoter_core.clock import SystemClock
from promoter_core.contracts import Clock
from promoter_core.envelope import pack_envelope
from promoter_core.lateness import later_than
from promoter_core.model import (
    MAX_DUE_MS,
    CancelOutcome,
    Capabilities,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Overflow,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    StreamEntry,
    StreamName,
    Ties,
    Wake,
)
from promoter_core.signals import Signals, What
from promoter_core.urls import BackendUrl
from promoter_memory.many import MemoryQueues
from promoter_memory.store import Pending, QueueStore

MARKER_GRACE_MS = 3_600_000  # a promoted job's id is remembered for an hour


class MemoryStore:
    """The data, for any number of backends in one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.signals = Signals(self.clock)
        self.groups: dict[str, dict[str, int]] = {}  # of processes: when each is a member no longer
        self._queues: dict[str, QueueStore] = {}

    def __getitem__(self, queue: str) -> QueueStore:
        if (store := self._queues.get(queue)) is None:
            store = self._queues[queue] = QueueStore()
        return store

    def queues(self) -> list[tuple[str, QueueStore]]:
        return list(self._queues.items())


class MemoryBackend(MemoryQueues):
    """A backend on a `MemoryStore`. Backends on the same store see the same queues."""

    capabilities = Capabilities(wake=Wake.ANY_WRITE, ties=Ties.INSERTION, traces=True)

    def __init__(self, store: MemoryStore | None = None, *, clock: Clock | None = None) -> None:
        self._store = store or MemoryStore(clock)
        self._clock = self._store.clock
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False
        self._store.signals.set_all()

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        q, now_ms = self._queue(queue)
        self._store.signals.expect((queue, What.LOCK))
        other = q.holder(now_ms)
        if other not in (None, holder):
            assert q.lock is not None
            next_ms = head.due_ms if (head := q.head()) else None
            return LeaseHeld(q.lock[1] - now_ms, other, _lag(next_ms, now_ms))
        q.lock = (holder, now_ms + ttl_ms)
        return Lease(queue, holder, ttl_ms)

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        q, now_ms = self._queue(lease.queue)
        began_s = self._clock.monotonic()
        self._store.signals.expect((lease.queue, What.SET))
        if q.holder(now_ms) != lease.holder:
            return LeaseLost()
        if request.renew:
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
        stream, room = q.streams[StreamName.JOBS], request.limit
        if request.overflow is Overflow.HOLD:
            room = min(room, max(request.max_stream_len - len(stream.entries), 0))
        jobs: list[PromotedJob] = []
        traces: list[str] = []
        while len(jobs) < room and (head := q.head()) and head.due_ms <= now_ms:
            stream_id = stream.add(now_ms, _stream_fields(head.envelope, head.name))
            jobs.append(PromotedJob(head.id, head.name, head.due_ms, now_ms, stream_id))
            if request.want_traces and head.traceparent:
                traces.append(head.traceparent)
            q.pop()
            if head.unique:
                q.mark(head.id, max(head.due_ms, now_ms) + MARKER_GRACE_MS)
        if request.overflow is Overflow.TRIM:
            stream.trim(request.max_stream_len)
        next_ms = head.due_ms if (head := q.head()) else None
        return Promotion(
            promoted=len(jobs),
            depth=q.depth,
            oldest_pending_lag_ms=_lag(next_ms, now_ms),
            next_due_ms=next_ms,
            now_ms=now_ms,
            held_back=q.due(now_ms) if room < request.limit and _lag(next_ms, now_ms + 1) else 0,
            jobs=tuple(jobs) if request.want_jobs else (),
            late=later_than(now_ms, (job.due_ms for job in jobs)),
            traces=tuple(traces),
            work_ms=(self._clock.monotonic() - began_s) * 1000,
        )

    async def cleanup(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        q, _ = self._queue(queue)
        for job in jobs:
            if job.id is not None:
                q.forget(job.id)  # but not a job with this id that has been scheduled since

    async def emit(self, queue: str, jobs: Sequence[PromotedJob], max_stream_len: int) -> None:
        q, now_ms = self._queue(queue)
        events = q.streams[StreamName.EVENTS]
        for job in jobs:
            if job.id is not None:
                fields = {"e": b"waiting", "id": _bytes(job.id), "ts": b"%d" % job.promoted_ms}
                events.add(now_ms, fields | ({"n": _bytes(job.name)} if job.name else {}))
        events.trim(max_stream_len)

    async def unlock(self, lease: Lease) -> bool:
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return False
        q.lock = None
        self._store.signals.set((lease.queue, What.LOCK))
        return True

    async def wait(self, queue: str, timeout_s: float, lease: Lease | None) -> bool:
        self._queue(queue)
        changed = await self._store.signals.wait((queue, What.SET if lease else What.LOCK), timeout_s)
        self._queue(queue)  # closed while waiting
        return changed

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        q, now_ms = self._queue(queue)
        return tuple(Scheduled(job.id, self._schedule(q, queue, job, now_ms)) for job in jobs)

    def _schedule(self, q: QueueStore, queue: str, job: JobRequest, now_ms: int) -> bool:
        if job.unique and q.taken(job.id, now_ms):
            return False
        due_ms = job.due_ms if job.due_ms is not None else now_ms + (job.delay_ms or 0)
        due_ms = min(max(due_ms, now_ms), MAX_DUE_MS)
        envelope = pack_envelope(job.id, job.payload, job.created_at_ms, job.attempt)
        pending = Pending(job.id, job.name, envelope, due_ms, unique=job.unique, traceparent=job.traceparent)
        q.add(pending)
        if q.head() is pending:
            self._store.signals.set((queue, What.SET))
        return True

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[CancelOutcome, ...]:
        q, _ = self._queue(queue)
        outcomes = []
        for id in ids:
            job = q.waiting(id)
            if job is None:
                outcomes.append(CancelOutcome.NOT_FOUND)
                continue
            q.cancel(job)
            self._store.signals.set((queue, What.SET))
            outcomes.append(CancelOutcome.REMOVED)
        return tuple(outcomes)

    async def stats(self, queue: str) -> QueueStats:
        q, now_ms = self._queue(queue)
        next_ms = head.due_ms if (head := q.head()) else None
        held = q.lock if q.holder(now_ms) is not None else None
        return QueueStats(
            now_ms=now_ms,
            depth=q.depth,
            due=q.due(now_ms),
            oldest_pending_lag_ms=_lag(next_ms, now_ms),
            next_due_ms=next_ms,
            stream_len=len(q.streams[StreamName.JOBS].entries),
            events_len=len(q.streams[StreamName.EVENTS].entries),
            dlq_len=len(q.streams[StreamName.DLQ].entries),
            holder=held[0] if held else None,
            lease_remaining_ms=held[1] - now_ms if held else None,
        )

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        q, _ = self._queue(queue)
        return q.streams[stream].after(after, limit)

    def _queue(self, queue: str) -> tuple[QueueStore, int]:
        now_ms = self._now_ms()
        return self._store[queue], now_ms


def _lag(next_ms: int | None, now_ms: int) -> int:
    return max(now_ms - next_ms, 0) if next_ms is not None else 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _stream_fields(envelope: bytes, name: str) -> dict[str, bytes]:
    return {"d": envelope, "n": _bytes(name)} if name else {"d": envelope}


_named: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()  # lives as long as a backend uses it


def open_url(url: BackendUrl) -> MemoryBackend:
    """`memory://` is private to this backend; backends of `memory://NAME` share one store."""
    url.take()
    if not url.host:
        return MemoryBackend()
    return MemoryBackend(_named.setdefault(url.host, MemoryStore()))
