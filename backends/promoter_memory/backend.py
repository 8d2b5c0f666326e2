"""`MemoryBackend`: every obligation of `promoter_core.spi.Backend` in plain Python, all four phases unfused.

No method awaits between reading and writing, so each is atomic among the tasks of one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from weakref import WeakValueDictionary

from promoter_core.spi import (
    BackendUrl,
    Capabilities,
    ChangeFeed,
    ChangeKind,
    Clock,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Lifecycle,
    Members,
    Overflow,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Remove,
    Renewal,
    Scheduled,
    StoredJob,
    StreamEntry,
    StreamName,
    Ties,
    Wake,
    chunked,
    closed_error,
    later_than,
)
from promoter_memory.jobs import add, add_event, carry_out, entry_of, page_of, shown
from promoter_memory.store import MemoryStore, QueueStore

PAGE = 100  # queues per page of a search


class MemoryBackend:
    """A backend on a `MemoryStore`. Backends on the same store see the same queues."""

    capabilities = Capabilities(wake=Wake.ANY_WRITE, ties=Ties.INSERTION, traces=True)

    def __init__(self, store: MemoryStore | None = None, *, clock: Clock | None = None) -> None:
        self._store = store or MemoryStore(clock)
        self._clock = self._store.clock
        self._life = Lifecycle(self._store.flags)

    async def open(self) -> None:
        await self._life.open()

    async def close(self) -> None:
        await self._life.close()

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        q, now_ms = self._queue(queue)
        self._store.flags.expect(ChangeKind.LOCK, queue)
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
        self._store.flags.expect(ChangeKind.JOBS, lease.queue)
        if q.holder(now_ms) != lease.holder:
            return LeaseLost()
        if request.renew:
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
        stream, room = q.streams[StreamName.JOBS], request.limit
        if request.overflow is Overflow.HOLD:
            room = min(room, max(request.max_stream_len - len(stream.entries), 0))
        jobs: list[PromotedJob] = []
        while len(jobs) < room and (head := q.head()) and head.due_ms <= now_ms:
            stream_id = stream.add(now_ms, entry_of(head))
            jobs.append(
                PromotedJob(
                    head.id,
                    head.name,
                    due_ms=head.due_ms,
                    promoted_ms=now_ms,
                    stream_id=stream_id,
                    traceparent=head.traceparent,
                    tracestate=head.tracestate,
                )
            )
            q.pop()
            q.mark(head, now_ms)
        if request.overflow is Overflow.TRIM:
            stream.trim(request.max_stream_len)
        next_ms = head.due_ms if (head := q.head()) else None
        traced = [job for job in jobs if job.traceparent] if request.want_traces else []
        return Promotion(
            promoted=len(jobs),
            depth=q.depth,
            oldest_pending_lag_ms=_lag(next_ms, now_ms),
            next_due_ms=next_ms,
            now_ms=now_ms,
            held_back=q.due(now_ms) if room < request.limit and _lag(next_ms, now_ms + 1) else 0,
            jobs=tuple(jobs) if request.want_jobs else (),
            lateness_counts=later_than(now_ms, [job.due_ms for job in jobs]),
            traces=tuple(job.traceparent for job in traced),
            trace_ids=tuple(job.id for job in traced),
            work_ms=(self._clock.monotonic() - began_s) * 1000,
        )

    async def cleanup(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        q, _ = self._queue(queue)
        for job in jobs:
            if job.id is not None:
                q.forget(job.id)  # unless a job with this id was scheduled since

    async def emit(self, queue: str, jobs: Sequence[PromotedJob], max_stream_len: int) -> None:
        q, now_ms = self._queue(queue)
        for job in jobs:
            if job.id is not None:
                add_event(q, job.id, job.name, job.promoted_ms, now_ms, job.traceparent, job.tracestate)
        q.streams[StreamName.EVENTS].trim(max_stream_len)

    async def unlock(self, lease: Lease) -> bool:
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return False
        q.lock = None
        self._store.flags.set(ChangeKind.LOCK, lease.queue)
        return True

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        return await self._life.wait(queue, change, timeout_s)

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        q, now_ms = self._queue(queue)
        return tuple(Scheduled(job.id, self._schedule(q, queue, job, now_ms)) for job in jobs)

    def _schedule(self, q: QueueStore, queue: str, job: JobRequest, now_ms: int) -> JobOutcome:
        if job.unique and (taken := q.taken(job.id, now_ms)) is not None:
            return taken
        if add(q, job, now_ms):
            self._store.flags.set(ChangeKind.JOBS, queue)
        return JobOutcome.CREATED

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        return tuple(self._change(queue, [Remove(job=id) for id in ids]))

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        q, _ = self._queue(queue)
        return [shown(job) if (job := q.waiting(id)) is not None else None for id in ids]

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        """Sort the whole set if it has changed since the last call: O(n log n) in this process."""
        return page_of(*self._queue(queue), query)

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        q, _ = self._queue(queue)
        return [q.before(bound_ms) for bound_ms in bounds_ms]

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        return self._change(queue, changes)

    def _change(self, queue: str, changes: Sequence[JobChange]) -> list[JobOutcome]:
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            head = q.head_place()
            outcomes.append(carry_out(q, change, now_ms))
            if q.head_place() != head:
                self._store.flags.set(ChangeKind.JOBS, queue)
        return outcomes

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
            stream_added=q.streams[StreamName.JOBS].added,
        )

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        q, _ = self._queue(queue)
        return q.streams[stream].after(after, limit)

    async def lock_many(self, queues: Sequence[str], holder: str, ttl_ms: int) -> Sequence[Lease | LeaseHeld]:
        return [await self.lock(queue, holder, ttl_ms) for queue in queues]

    async def promote_many(self, requests: Sequence[tuple[Lease, PromotionRequest]]) -> Sequence[Promotion | LeaseLost]:
        return [await self.promote(lease, request) for lease, request in requests]

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost]:
        now_ms = self._now_ms()
        answers: list[Renewal | LeaseLost] = []
        for lease in leases:
            q = self._store[lease.queue]
            if q.holder(now_ms) != lease.holder:
                answers.append(LeaseLost())
                continue
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
            next_ms = head.due_ms if (head := q.head()) else None
            answers.append(Renewal(now_ms, next_ms is not None and next_ms <= now_ms, next_ms))
        return answers

    async def subscribe(self) -> ChangeFeed:
        self._now_ms()
        return self._store.flags.subscribe()

    async def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        now_ms = self._now_ms()
        found = [
            name
            for name, q in self._store.queues()
            if (q.depth or q.holder(now_ms) is not None) and any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        for page in chunked(found, PAGE):
            yield page

    async def announce(self, queues: Sequence[str]) -> None:
        self._now_ms()
        for queue in queues:
            self._store.flags.set(ChangeKind.JOBS, queue)

    async def join_group(self, group: str, member: str, ttl_ms: int) -> Members:
        now_ms = self._now_ms()
        members = self._store.groups.setdefault(group, {})
        for name in [n for n, expiry_ms in members.items() if expiry_ms <= now_ms]:
            del members[name]
        new = member not in members
        members[member] = now_ms + ttl_ms
        if new:
            self._store.flags.set(ChangeKind.MEMBERS, group)
        others = [expiry_ms for name, expiry_ms in members.items() if name != member]
        return Members(frozenset(members), min(others) - now_ms if others else None)

    async def leave_group(self, group: str, member: str) -> None:
        self._now_ms()
        if self._store.groups.get(group, {}).pop(member, None) is not None:
            self._store.flags.set(ChangeKind.MEMBERS, group)

    def _now_ms(self) -> int:
        if not self._life.is_open:
            raise closed_error()
        return self._clock.time_ms()

    def _queue(self, queue: str) -> tuple[QueueStore, int]:
        now_ms = self._now_ms()
        return self._store[queue], now_ms


def _lag(next_ms: int | None, now_ms: int) -> int:
    return max(now_ms - next_ms, 0) if next_ms is not None else 0


_named: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()  # an entry lives as long as a backend uses it


def open_url(url: BackendUrl) -> MemoryBackend:
    """Open `memory://`, private to this backend, or `memory://NAME`, a store that backends of this name share."""
    url.take()
    if not url.host:
        return MemoryBackend(clock=url.clock)
    return MemoryBackend(_named.setdefault(url.host, MemoryStore(url.clock)))
