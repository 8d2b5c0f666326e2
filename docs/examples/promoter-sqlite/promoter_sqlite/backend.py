"""`SqliteBackend` implements `promoter_core.spi.Backend`. Each method is one transaction.

The cancel index is the job's own row, and events are written in the promotion's transaction: both phases are fused, and
need no method.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

import msgpack

from promoter_core.spi import (
    BackendUrl,
    Capabilities,
    ChangeFlags,
    ChangeKind,
    Clock,
    ConfigError,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Lifecycle,
    Overflow,
    PermanentError,
    Phase,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Remove,
    Scheduled,
    StoredJob,
    StreamEntry,
    StreamName,
    SystemClock,
    Ties,
    Wake,
    chunked,
    later_than,
    to_bytes,
    to_text,
    unpack_trace,
)
from promoter_sqlite import streams
from promoter_sqlite.database import Database
from promoter_sqlite.jobs import COLUMNS, Changes, Row, mark, schedule
from promoter_sqlite.listing import PARKED_MS, counts, jobs_by_id, page_of, queues_after

CHUNK = 1_000  # jobs in one transaction
PAGE = 200  # names of queues
UNCHANGED = {JobOutcome.NOT_FOUND, JobOutcome.ALREADY_PROMOTED}
LOOK_S = 0.02  # how often a wait polls for commits of other processes


class SqliteBackend:
    capabilities = Capabilities(
        wake=Wake.ANY_WRITE,
        fused=frozenset({Phase.CLEANUP, Phase.EMIT}),
        ties=Ties.INSERTION,
        durable=True,
        shared=True,
        traces=True,
    )

    def __init__(self, path: str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()  # the store's clock: all its processes are on this machine
        self._own = ChangeFlags(self._clock)  # commits of our own connection do not show in its data_version
        self._life = Lifecycle(self._own)
        self._db = Database(path, self._life, self._clock)
        self._seen: dict[tuple[ChangeKind, str], int] = {}

    async def open(self) -> None:
        await self._life.open(self._db.open)

    async def close(self) -> None:
        await self._life.close(self._db.close)

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        await self._expect(ChangeKind.LOCK, queue)

        def work(db: sqlite3.Connection) -> Lease | LeaseHeld:
            now_ms = self._clock.time_ms()
            held = _holder(db, queue, now_ms)
            if held is not None and held[0] != to_bytes(holder):
                late = db.execute("SELECT ? - MIN(due_ms) FROM jobs WHERE queue = ?", (now_ms, queue)).fetchone()[0]
                return LeaseHeld(held[1] - now_ms, to_text(held[0]), max(late or 0, 0))
            _hold(db, queue, holder, now_ms + ttl_ms)
            return Lease(queue, holder, ttl_ms)

        return await self._db.run(work)

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        await self._expect(ChangeKind.JOBS, lease.queue)
        answer, work_ms = await self._db.timed(lambda db: _promote(db, lease, request, self._clock.time_ms()))
        return replace(answer, work_ms=work_ms) if isinstance(answer, Promotion) else answer

    async def unlock(self, lease: Lease) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            held = _holder(db, lease.queue, self._clock.time_ms())
            if held is None or held[0] != to_bytes(lease.holder):
                return False
            db.execute("DELETE FROM locks WHERE queue = ?", (lease.queue,))
            return True

        try:
            return await self._db.run(work)
        finally:  # also when cancelled: the thread continues, and its commit must wake the waiters
            self._own.set(ChangeKind.LOCK, lease.queue)

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        self._life.check()
        seen, until_s = self._seen.get((change, queue)), self._clock.monotonic() + timeout_s
        while (left_s := until_s - self._clock.monotonic()) > 0:
            if await self._life.wait(queue, change, min(left_s, LOOK_S)) or await self._db.version() != seen:
                return True
        return False

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        def work(db: sqlite3.Connection) -> list[JobOutcome]:
            return [schedule(db, queue, job, self._clock.time_ms()) for job in jobs]

        try:
            outcomes = await self._db.run(work)
        finally:  # as in `unlock`
            self._own.set(ChangeKind.JOBS, queue)
        return tuple(Scheduled(job.id, outcome) for job, outcome in zip(jobs, outcomes, strict=True))

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        return tuple(await self._change(queue, [Remove(job=id) for id in ids]))

    async def stats(self, queue: str) -> QueueStats:
        return await self._db.run(lambda db: _stats(db, queue, self._clock.time_ms()))

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        low = _sequence(after) if after else 0
        sql = "SELECT ms, seq, fields FROM entries WHERE queue = ? AND stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = await self._db.run(lambda db: db.execute(sql, (queue, stream.value, low, limit)).fetchall())
        return tuple(StreamEntry(f"{ms}-{seq}", msgpack.unpackb(fields)) for ms, seq, fields in rows)

    # ManagementSupport

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        found: list[StoredJob | None] = []
        self._life.check()
        for some in chunked(ids, CHUNK):
            found += await self._db.look(partial(jobs_by_id, queue=queue, ids=some))
        return found

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        return await self._db.look(lambda db: page_of(db, queue, query, self._clock.time_ms()))

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        """Counts in an index: O(log n + jobs before the last bound), about 0.1 s for a million."""
        return await self._db.look(lambda db: counts(db, queue, bounds_ms))

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        """Make 1,000 changes in a transaction. The first `RunNow` of each counts the stream, as a promotion does."""
        return await self._change(queue, changes)

    async def _change(self, queue: str, changes: Sequence[JobChange]) -> list[JobOutcome]:
        self._life.check()
        outcomes: list[JobOutcome] = []
        changed = True  # as in `unlock`: an interrupted call can continue
        try:
            for some in chunked(changes, CHUNK):
                outcomes += await self._db.run(partial(self._carry_out, queue, some))
            changed = any(outcome not in UNCHANGED for outcome in outcomes)
        finally:
            if changed:
                self._own.set(ChangeKind.JOBS, queue)
        return outcomes

    def _carry_out(self, queue: str, changes: Sequence[JobChange], db: sqlite3.Connection) -> list[JobOutcome]:
        at_once = Changes(db, queue, self._clock.time_ms())
        outcomes = [at_once.carry_out(change) for change in changes]
        at_once.finish()
        return outcomes

    # DiscoverySupport

    async def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        """O(log n) for each queue, however many jobs it has."""
        after: bytes | None = b""
        while after is not None:
            names, after = await self._db.look(partial(self._queues_after, after))
            yield [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]

    def _queues_after(self, after: bytes, db: sqlite3.Connection) -> tuple[list[str], bytes | None]:
        return queues_after(db, after, PAGE, self._clock.time_ms())

    async def _expect(self, change: ChangeKind, queue: str) -> None:
        """Call it before you read the set or the lock: changes from now on end the next wait."""
        self._own.expect(change, queue)
        self._seen[change, queue] = await self._db.version()


def _sequence(entry_id: str) -> int:
    """Of an entry's id, which is `milliseconds-sequence`."""
    ms, _, sequence = entry_id.partition("-")
    if not (ms.isdecimal() and sequence.isdecimal()):
        raise PermanentError(f"expected the id of an entry, such as 1700000000000-1, not {entry_id!r}", code="ID")
    return int(sequence)


def _holder(db: sqlite3.Connection, queue: str, now_ms: int) -> tuple[bytes, int] | None:
    sql = "SELECT holder, expires_ms FROM locks WHERE queue = ? AND expires_ms > ?"
    row: tuple[bytes, int] | None = db.execute(sql, (queue, now_ms)).fetchone()
    return row


def _hold(db: sqlite3.Connection, queue: str, holder: str, expires_ms: int) -> None:
    db.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, ?)", (queue, to_bytes(holder), expires_ms))


def _pending(db: sqlite3.Connection, queue: str, now_ms: int) -> tuple[int, int, int | None, int]:
    """Depth, due, next due time and lag. A job that another program put beyond the year 9999 is never due."""
    sql = (
        "SELECT count(*), coalesce(sum(due_ms <= ?), 0), min(CASE WHEN due_ms < ? THEN due_ms END) "
        "FROM jobs WHERE queue = ?"
    )
    depth, due, next_ms = db.execute(sql, (now_ms, PARKED_MS, queue)).fetchone()
    return depth, due, next_ms, max(now_ms - next_ms, 0) if next_ms is not None else 0


def _promote(db: sqlite3.Connection, lease: Lease, request: PromotionRequest, now_ms: int) -> Promotion | LeaseLost:
    queue = lease.queue
    held = _holder(db, queue, now_ms)
    if held is None or held[0] != to_bytes(lease.holder):
        return LeaseLost()
    if request.renew:
        _hold(db, queue, lease.holder, now_ms + lease.ttl_ms)
    room = request.limit
    if request.overflow is Overflow.HOLD:
        room = min(room, max(request.max_stream_len - streams.length(db, queue, StreamName.JOBS), 0))
    sql = f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND due_ms <= ? ORDER BY due_ms, seq LIMIT ?"
    jobs = []
    db.execute("DELETE FROM markers WHERE expires_ms <= ?", (now_ms,))
    for job in map(Row._make, db.execute(sql, (queue, now_ms, room)).fetchall()):
        stream_id = streams.add_job(db, queue, now_ms, job.envelope, job.name, job.trace)
        db.execute("DELETE FROM jobs WHERE seq = ?", (job.seq,))
        mark(db, queue, job, now_ms)
        if request.events:
            streams.add_event(db, queue, now_ms, job.id, job.name, job.trace)
        traceparent, tracestate = unpack_trace(to_text(job.trace))
        jobs.append(
            PromotedJob(
                to_text(job.id),
                to_text(job.name),
                due_ms=job.due_ms,
                promoted_ms=now_ms,
                stream_id=stream_id,
                traceparent=traceparent,
                tracestate=tracestate,
            )
        )
    if request.overflow is Overflow.TRIM:
        streams.trim(db, queue, StreamName.JOBS, request.max_stream_len)
    if request.events and jobs:
        streams.trim(db, queue, StreamName.EVENTS, request.events_max_stream_len)
    depth, due, next_ms, lag_ms = _pending(db, queue, now_ms)
    traced = [job for job in jobs if job.traceparent] if request.want_traces else []
    return Promotion(
        promoted=len(jobs),
        depth=depth,
        oldest_pending_lag_ms=lag_ms,
        next_due_ms=next_ms,
        now_ms=now_ms,
        held_back=due if room < request.limit else 0,
        jobs=tuple(jobs) if request.want_jobs else (),
        lateness_counts=later_than(now_ms, (job.due_ms for job in jobs)),
        traces=tuple(job.traceparent for job in traced),
        trace_ids=tuple(str(job.id) for job in traced),
    )


def _stats(db: sqlite3.Connection, queue: str, now_ms: int) -> QueueStats:
    held = _holder(db, queue, now_ms)
    depth, due, next_ms, lag_ms = _pending(db, queue, now_ms)
    return QueueStats(
        now_ms=now_ms,
        depth=depth,
        due=due,
        oldest_pending_lag_ms=lag_ms,
        next_due_ms=next_ms,
        stream_len=streams.length(db, queue, StreamName.JOBS),
        events_len=streams.length(db, queue, StreamName.EVENTS),
        dlq_len=streams.length(db, queue, StreamName.DLQ),
        holder=to_text(held[0]) if held else None,
        lease_remaining_ms=held[1] - now_ms if held else None,
        parked=depth - counts(db, queue, [PARKED_MS])[0],
    )


def open_url(url: BackendUrl) -> SqliteBackend:
    """`sqlite:///path/to/file.db`."""
    url.take()
    if url.host or not url.path.strip("/"):
        raise ConfigError(f"{url}: expected sqlite:///path/to/file.db")
    return SqliteBackend(url.path, url.clock)
