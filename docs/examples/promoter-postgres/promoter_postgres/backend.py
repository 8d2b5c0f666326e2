"""`PostgresBackend` implements `promoter_core.spi.Backend`. Most methods call one function of the files *.sql.

There is no DLQ: the table refuses a row that is not a job, so no job can be malformed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from promoter_core.spi import (
    BackendError,
    BackendUrl,
    Capabilities,
    ChangeFeed,
    ChangeFlags,
    ChangeKind,
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
    Members,
    Overflow,
    PermanentError,
    Phase,
    PromotedJob,
    Promotion,
    PromotionRequest,
    PushChannel,
    QueueStats,
    Remove,
    Renewal,
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
    url_options,
)
from promoter_postgres.database import ERRORS, Database, Target
from promoter_postgres.jobs import CHUNK, Statement, to_change, to_schedule
from promoter_postgres.listing import BY_ID, COUNT, count_bounds, counts, page_arguments, page_of, shown

PAGE = 500  # names of queues

PROMOTE = "SELECT * FROM promote_all(%s, %b::bytea[], %s, %s, %s, %s, %s, %s, %s, %s, %s) ORDER BY ord"
READ = {
    StreamName.JOBS: "SELECT * FROM stream WHERE queue = %s AND seq > %s ORDER BY seq LIMIT %s",
    StreamName.EVENTS: "SELECT * FROM events WHERE queue = %s AND seq > %s ORDER BY seq LIMIT %s",
}
STATS = """
    SELECT t, count(j.queue) AS depth, count(j.queue) FILTER (WHERE j.due_ms <= t) AS due, min(j.due_ms) AS next_ms,
        (SELECT count(*) FROM stream WHERE queue = q) AS stream_len,
        (SELECT count(*) FROM events WHERE queue = q) AS events_len,
        (SELECT holder FROM locks WHERE queue = q AND expires_ms > t) AS holder,
        (SELECT expires_ms - t FROM locks WHERE queue = q AND expires_ms > t) AS left_ms
    FROM (SELECT now_ms() AS t, %s::text AS q OFFSET 0) AS asked LEFT JOIN jobs AS j ON j.queue = q GROUP BY t, q
"""


class PostgresBackend:
    def __init__(self, target: Target) -> None:
        self._flags = ChangeFlags(SystemClock())
        self._life = Lifecycle(self._flags)
        self._db = Database(target, self._life)
        self._target = target
        self._channel = PushChannel(self._listen, self._flags.set_all, name=f"listening to {target.name}")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            wake=Wake.ANY_WRITE if self._channel.hears else Wake.POLL,
            fused=frozenset({Phase.CLEANUP, Phase.EMIT}),
            ties=Ties.INSERTION,
            durable=True,
            shared=True,
            traces=True,
        )

    async def open(self) -> None:
        async def start() -> None:
            await self._db.open()
            await self._channel.start()

        await self._life.open(start)

    async def close(self) -> None:
        async def stop() -> None:
            await self._channel.stop()
            await self._db.close()

        await self._life.close(stop)

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        self._flags.expect(ChangeKind.LOCK, queue)
        (row,) = await self._db.rows("SELECT * FROM take_lock(%s, %b, %s)", queue, to_bytes(holder), ttl_ms)
        return _lock_answer(row, Lease(queue, holder, ttl_ms))

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        (answer,) = await self.promote_many([(lease, request)])
        if isinstance(answer, BackendError):
            raise answer
        return answer

    async def unlock(self, lease: Lease) -> bool:
        (row,) = await self._db.rows("SELECT release_lock(%s, %b) AS released", lease.queue, to_bytes(lease.holder))
        return bool(row.released)

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        return await self._life.wait(queue, change, timeout_s)

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        self._life.check()
        outcomes = await self._carry_out(to_schedule(queue, jobs))
        return tuple(Scheduled(job.id, outcome) for job, outcome in zip(jobs, outcomes, strict=True))

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        self._life.check()
        return tuple(await self._carry_out(to_change(queue, [Remove(job=id) for id in ids])))

    async def _carry_out(self, statements: Iterable[Statement]) -> list[JobOutcome]:
        outcomes: list[JobOutcome] = []
        for sql, arguments in statements:
            (row,) = await self._db.rows(sql, *arguments)
            outcomes += map(JobOutcome, row.outcomes)
        return outcomes

    async def stats(self, queue: str) -> QueueStats:
        (row,) = await self._db.rows(STATS, queue)
        return QueueStats(
            now_ms=row.t,
            depth=row.depth,
            due=row.due,
            oldest_pending_lag_ms=_lag_ms(row),
            next_due_ms=row.next_ms,
            stream_len=row.stream_len,
            events_len=row.events_len,
            dlq_len=0,
            holder=to_text(row.holder) if row.holder is not None else None,
            lease_remaining_ms=row.left_ms,
        )

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        self._life.check()
        low = _entry_number(after) if after else 0
        rows = await self._db.rows(READ[stream], queue, low, limit) if stream in READ else []
        return tuple(StreamEntry(str(row.seq), _fields(stream, row)) for row in rows)

    # ManagementSupport

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        self._life.check()
        found: list[StoredJob | None] = []
        for some in chunked(ids, CHUNK):
            rows = await self._db.rows(BY_ID, [to_bytes(id) for id in some], queue)
            found += [shown(row) if row.seq is not None else None for row in rows]
        return found

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        self._life.check()
        sql, arguments = page_arguments(queue, query)
        return page_of(await self._db.rows(sql, *arguments), query)

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        """Counts in an index: O(log n + jobs before the last bound), about 0.4 s for a million."""
        return counts(await self._db.rows(COUNT, queue, count_bounds(bounds_ms)), bounds_ms)

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        """Make 500 changes of one kind in a transaction. With `RunNow` it counts the stream, as a promotion does."""
        self._life.check()
        return await self._carry_out(to_change(queue, changes))

    # FleetSupport

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        for queue in queues:
            self._flags.expect(ChangeKind.LOCK, queue)
        sql = "SELECT * FROM take_locks(%s, %b, %s) ORDER BY ord"
        rows = await self._db.rows(sql, list(queues), to_bytes(holder), ttl_ms)
        return [_lock_answer(row, Lease(queue, holder, ttl_ms)) for queue, row in zip(queues, rows, strict=True)]

    async def promote_many(
        self, requests: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        for lease, _ in requests:
            self._flags.expect(ChangeKind.JOBS, lease.queue)
        columns = zip(*(_promote_arguments(*asked) for asked in requests), strict=True)
        rows = await self._db.rows(PROMOTE, *map(list, columns)) if requests else []
        return [self._promotion(row, request) for row, (_, request) in zip(rows, requests, strict=True)]

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost | BackendError]:
        rows = await self._db.rows(
            "SELECT * FROM renew_locks(%s, %b::bytea[], %s)",
            [lease.queue for lease in leases],
            [to_bytes(lease.holder) for lease in leases],
            [lease.ttl_ms for lease in leases],
        )
        answers: list[Renewal | LeaseLost] = [LeaseLost()] * len(leases)
        for row in rows:
            answers[row.ord - 1] = Renewal(row.t, row.next_ms is not None and row.next_ms <= row.t, row.next_ms)
        return answers

    async def subscribe(self) -> ChangeFeed:
        self._life.check()
        return self._flags.subscribe()

    async def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        after = ""
        while True:
            (row,) = await self._db.rows("SELECT queues_after(%s, %s) AS names", after, PAGE)
            if not row.names:
                return
            after = row.names[-1]
            yield [name for name in row.names if any(fnmatchcase(name, pattern) for pattern in patterns)]

    async def announce(self, queues: Sequence[str]) -> None:
        sql = "SELECT pg_notify(%s, 'j' || q) FROM unnest(%s::text[]) AS q"
        await self._db.rows(sql, self._target.channel, list(queues))

    async def join_group(self, group: str, member: str, ttl_ms: int) -> Members:
        sql = "SELECT * FROM join_team(%b, %b, %s)"
        (row,) = await self._db.rows(sql, to_bytes(group), to_bytes(member), ttl_ms)
        return Members(frozenset(map(to_text, row.everybody)), row.next_ms)

    async def leave_group(self, group: str, member: str) -> None:
        await self._db.rows("SELECT leave_team(%b, %b)", to_bytes(group), to_bytes(member))

    def _promotion(self, row: Any, request: PromotionRequest) -> Promotion | LeaseLost | BackendError:
        if row.code is not None:
            return ERRORS.error(f"{self._target.name}: {row.message}", row.code)
        if row.t is None:
            return LeaseLost()
        traces = [unpack_trace(to_text(trace)) for trace in row.traces or ()]
        told = zip(row.ids or (), row.names or (), row.dues or (), row.entries or (), traces, strict=False)
        traced = [(id, trace) for id, (trace, _) in zip(row.ids or (), traces, strict=True) if trace]
        if not request.want_traces:
            traced = []
        return Promotion(
            row.moved,
            depth=row.depth,
            oldest_pending_lag_ms=_lag_ms(row),
            next_due_ms=row.next_ms,
            now_ms=row.t,
            held_back=row.held_back,
            jobs=tuple(
                PromotedJob(
                    to_text(id),
                    to_text(name),
                    due_ms=due_ms,
                    promoted_ms=row.t,
                    stream_id=str(entry),
                    traceparent=trace[0],
                    tracestate=trace[1],
                )
                for id, name, due_ms, entry, trace in told
            ),
            lateness_counts=later_than(row.t, row.dues or ()),
            traces=tuple(trace for _, trace in traced),
            trace_ids=tuple(to_text(id) for id, _ in traced),
            work_ms=row.work_ms if request.want_work else None,
        )

    async def _listen(self, connected: Callable[[], None]) -> None:
        """Listen on one connection until it ends, and set a flag for each notification."""
        try:
            connection = await self._target.connect()
        except Exception as exc:
            raise self._target.translate(exc) from exc
        try:
            await connection.execute(f"LISTEN {self._target.channel}")
            connected()
            async for message in connection.notifies():
                kind = {"j": ChangeKind.JOBS, "l": ChangeKind.LOCK, "m": ChangeKind.MEMBERS}[message.payload[0]]
                self._flags.set(kind, message.payload[1:])
        finally:
            await connection.close()


def _lock_answer(row: Any, lease: Lease) -> Lease | LeaseHeld:
    return lease if row.other is None else LeaseHeld(row.left_ms, to_text(row.other), row.lag_ms or 0)


def _promote_arguments(lease: Lease, request: PromotionRequest) -> tuple[object, ...]:
    hold = request.overflow is Overflow.HOLD
    bounds = (request.limit, request.max_stream_len, hold, request.events, request.events_max_stream_len)
    wanted = (request.renew, request.want_jobs, request.want_traces)
    return (lease.queue, to_bytes(lease.holder), lease.ttl_ms, *bounds, *wanted)


def _lag_ms(row: Any) -> int:
    return max(row.t - row.next_ms, 0) if row.next_ms is not None else 0


def _fields(stream: StreamName, row: Any) -> dict[str, bytes]:
    traceparent, _, tracestate = row.trace.partition(b"\n")
    optional = {"n": row.name, "traceparent": traceparent, "tracestate": tracestate}
    more: dict[str, bytes] = {field: value for field, value in optional.items() if value}
    if stream is StreamName.JOBS:
        return {"d": row.envelope, **more}
    return {"e": b"waiting", "id": row.id, "ts": b"%d" % row.ms, **more}


def _entry_number(entry_id: str) -> int:
    if re.fullmatch("[0-9]{1,18}", entry_id):
        return int(entry_id)
    raise PermanentError(f"expected the id of an entry, such as 17, not {entry_id!r}", code="ID")


def open_url(url: BackendUrl) -> PostgresBackend:
    """`postgres://user:password@host:5432/database?schema=promoter`."""
    options: dict[str, Any] = url.take(
        schema=str,
        socket=str,
        sslmode=url_options.choice("disable", "prefer", "require", "verify-ca", "verify-full"),
        sslrootcert=str,
        pool_size=url_options.whole(1, 100),
        timeout=url_options.duration_ms(100, 600_000),
    )
    schema = options.get("schema", "promoter")
    if not re.fullmatch("[a-z_][a-z0-9_]{0,49}", schema):
        raise ConfigError(f"{url}: the schema must be up to 50 small letters, digits and _, not {schema!r}")
    if not url.path.strip("/"):
        raise ConfigError(f"{url}: expected postgres://user:password@host:5432/database")
    timeout_s = options.get("timeout", 10_000) / 1000
    hosts = url.addresses(5432)
    conninfo: dict[str, str] = {
        "host": options.get("socket") or ",".join(host for host, _ in hosts),
        "port": ",".join(str(port) for _, port in hosts),
        "dbname": url.path.removeprefix("/"),
        "options": f"-c search_path={schema} -c statement_timeout={int(timeout_s * 1000)}",
        "client_encoding": "UTF8",
        "application_name": "promoter",
        "target_session_attrs": "read-write",
        "connect_timeout": "5",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
        **{name: options[name] for name in ("sslmode", "sslrootcert") if name in options},
    }

    async def fixed() -> tuple[str | None, str]:
        return url.username, url.password or ""

    credentials = url.credentials or fixed
    pool_size = options.get("pool_size", 4)
    return PostgresBackend(
        Target(conninfo=conninfo, credentials=credentials, schema=schema, pool_size=pool_size, timeout_s=timeout_s)
    )
