"""`SqliteBackend`: the contract of `promoter_core.spi.Backend`, a transaction a method.

The cancel index is the job's own row, and events are written in the promotion's transaction: both phases are fused, and
need no method.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgpack

from promoter_core.spi import (
    MAX_DUE_MS,
    BackendUrl,
    Capabilities,
    ChangeFlags,
    ChangeKind,
    Clock,
    ConfigError,
    JobOutcome,
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
    Scheduled,
    StreamEntry,
    StreamName,
    SystemClock,
    Ties,
    Wake,
    later_than,
    to_bytes,
    to_text,
)
from promoter_sqlite.database import Database

MARKER_GRACE_MS = 3_600_000  # a promoted job's id is remembered for an hour
LOOK_S = 0.02  # how often a wait looks for commits of other processes


class SqliteBackend:
    capabilities = Capabilities(
        wake=Wake.ANY_WRITE,
        fused=frozenset({Phase.CLEANUP, Phase.EMIT}),
        ties=Ties.INSERTION,
        durable=True,
        shared=True,
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
        finally:  # cancelled too: the thread goes on, and what it commits is to wake whoever waits
            self._own.set(ChangeKind.LOCK, lease.queue)

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        self._life.check()
        seen, until_s = self._seen.get((change, queue)), self._clock.monotonic() + timeout_s
        while (left_s := until_s - self._clock.monotonic()) > 0:
            if await self._life.wait(queue, change, min(left_s, LOOK_S)) or await self._db.version() != seen:
                return True
        return False

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        try:
            created = await self._db.run(lambda db: [_schedule(db, queue, job, self._clock.time_ms()) for job in jobs])
        finally:  # as in `unlock`
            self._own.set(ChangeKind.JOBS, queue)
        outcomes = [JobOutcome.CREATED if made else JobOutcome.KEPT for made in created]
        return tuple(Scheduled(job.id, outcome) for job, outcome in zip(jobs, outcomes, strict=True))

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        def work(db: sqlite3.Connection) -> list[bool]:
            return [_cancel(db, queue, to_bytes(id)) for id in ids]

        removed = await self._db.run(work)
        return tuple(JobOutcome.REMOVED if r else JobOutcome.NOT_FOUND for r in removed)

    async def stats(self, queue: str) -> QueueStats:
        return await self._db.run(lambda db: _stats(db, queue, self._clock.time_ms()))

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        low = _sequence(after) if after else 0
        sql = "SELECT ms, seq, fields FROM entries WHERE queue = ? AND stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = await self._db.run(lambda db: db.execute(sql, (queue, stream.value, low, limit)).fetchall())
        return tuple(StreamEntry(f"{ms}-{seq}", msgpack.unpackb(fields)) for ms, seq, fields in rows)

    async def _expect(self, change: ChangeKind, queue: str) -> None:
        """Before reading the set or the lock: changes from now on end the next wait."""
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


def _append(db: sqlite3.Connection, queue: str, stream: StreamName, now_ms: int, fields: dict[str, bytes]) -> str:
    sql = "INSERT INTO entries (queue, stream, ms, fields) VALUES (?, ?, ?, ?)"
    return f"{now_ms}-{db.execute(sql, (queue, stream.value, now_ms, msgpack.packb(fields))).lastrowid}"


def _add_job(db: sqlite3.Connection, queue: str, now_ms: int, envelope: bytes, name: bytes) -> str:
    return _append(db, queue, StreamName.JOBS, now_ms, {"d": envelope} | ({"n": name} if name else {}))


def _length(db: sqlite3.Connection, queue: str, stream: StreamName) -> int:
    sql = "SELECT count(*) FROM entries WHERE queue = ? AND stream = ?"
    return int(db.execute(sql, (queue, stream.value)).fetchone()[0])


def _trim(db: sqlite3.Connection, queue: str, stream: StreamName, length: int) -> None:
    sql = (
        "DELETE FROM entries WHERE queue = :queue AND stream = :stream AND seq <= "
        "(SELECT seq FROM entries WHERE queue = :queue AND stream = :stream ORDER BY seq DESC LIMIT 1 OFFSET :length)"
    )
    db.execute(sql, {"queue": queue, "stream": stream.value, "length": length})


def _pending(db: sqlite3.Connection, queue: str, now_ms: int) -> tuple[int, int, int | None, int]:
    """Depth, due, next due time and lag."""
    sql = "SELECT count(*), coalesce(sum(due_ms <= ?), 0), min(due_ms) FROM jobs WHERE queue = ?"
    depth, due, next_ms = db.execute(sql, (now_ms, queue)).fetchone()
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
        room = min(room, max(request.max_stream_len - _length(db, queue, StreamName.JOBS), 0))
    sql = (
        "SELECT seq, id, name, envelope, due_ms, uniq FROM jobs WHERE queue = ? AND due_ms <= ? "
        "ORDER BY due_ms, seq LIMIT ?"
    )
    jobs = []
    db.execute("DELETE FROM markers WHERE expires_ms <= ?", (now_ms,))
    for seq, id, name, envelope, due_ms, unique in db.execute(sql, (queue, now_ms, room)).fetchall():
        stream_id = _add_job(db, queue, now_ms, envelope, name)
        db.execute("DELETE FROM jobs WHERE seq = ?", (seq,))
        if unique:
            db.execute("INSERT OR REPLACE INTO markers VALUES (?, ?, ?)", (queue, id, now_ms + MARKER_GRACE_MS))
        jobs.append(PromotedJob(to_text(id), to_text(name), due_ms=due_ms, promoted_ms=now_ms, stream_id=stream_id))
    if request.overflow is Overflow.TRIM:
        _trim(db, queue, StreamName.JOBS, request.max_stream_len)
    if request.events and jobs:
        _emit(db, queue, jobs, request.events_max_stream_len)
    depth, due, next_ms, lag_ms = _pending(db, queue, now_ms)
    return Promotion(
        promoted=len(jobs),
        depth=depth,
        oldest_pending_lag_ms=lag_ms,
        next_due_ms=next_ms,
        now_ms=now_ms,
        held_back=due if room < request.limit else 0,
        jobs=tuple(jobs) if request.want_jobs else (),
        lateness_counts=later_than(now_ms, (job.due_ms for job in jobs)),
    )


def _emit(db: sqlite3.Connection, queue: str, jobs: Iterable[PromotedJob], max_stream_len: int) -> None:
    for job in jobs:
        if job.id is not None:
            fields = {"e": b"waiting", "id": to_bytes(job.id), "ts": b"%d" % job.promoted_ms}
            _append(
                db, queue, StreamName.EVENTS, job.promoted_ms, fields | ({"n": to_bytes(job.name)} if job.name else {})
            )
    _trim(db, queue, StreamName.EVENTS, max_stream_len)


def _schedule(db: sqlite3.Connection, queue: str, job: JobRequest, now_ms: int) -> bool:
    id, name = to_bytes(job.id), to_bytes(job.name)
    due_ms = job.due_ms if job.due_ms is not None else now_ms + (job.delay_ms or 0)
    if job.unique and _taken(db, queue, id, now_ms):
        return False
    due_ms = min(max(due_ms, now_ms), MAX_DUE_MS)
    sql = "INSERT INTO jobs (queue, id, name, envelope, due_ms, uniq) VALUES (?, ?, ?, ?, ?, ?)"
    db.execute(sql, (queue, id, name, job.envelope, due_ms, job.unique))
    return True


def _taken(db: sqlite3.Connection, queue: str, id: bytes, now_ms: int) -> bool:
    """Whether a unique job with this id waits, or was promoted lately."""
    waiting = "SELECT 1 FROM jobs WHERE queue = ? AND id = ? AND uniq"
    marked = "SELECT 1 FROM markers WHERE queue = ? AND id = ? AND expires_ms > ?"
    found = db.execute(waiting, (queue, id)).fetchone() or db.execute(marked, (queue, id, now_ms)).fetchone()
    return found is not None


def _cancel(db: sqlite3.Connection, queue: str, id: bytes) -> bool:
    sql = "DELETE FROM jobs WHERE seq = (SELECT max(seq) FROM jobs WHERE queue = ? AND id = ?)"
    return bool(db.execute(sql, (queue, id)).rowcount)


def _stats(db: sqlite3.Connection, queue: str, now_ms: int) -> QueueStats:
    held = _holder(db, queue, now_ms)
    depth, due, next_ms, lag_ms = _pending(db, queue, now_ms)
    return QueueStats(
        now_ms=now_ms,
        depth=depth,
        due=due,
        oldest_pending_lag_ms=lag_ms,
        next_due_ms=next_ms,
        stream_len=_length(db, queue, StreamName.JOBS),
        events_len=_length(db, queue, StreamName.EVENTS),
        dlq_len=_length(db, queue, StreamName.DLQ),
        holder=to_text(held[0]) if held else None,
        lease_remaining_ms=held[1] - now_ms if held else None,
    )


def open_url(url: BackendUrl) -> SqliteBackend:
    """`sqlite:///path/to/file.db`."""
    url.take()
    if url.host or not url.path.strip("/"):
        raise ConfigError(f"{url}: expected sqlite:///path/to/file.db")
    return SqliteBackend(url.path, url.clock)
