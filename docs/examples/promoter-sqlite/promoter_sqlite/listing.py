"""Waiting jobs of the file: by id, pages of jobs, counts, and the names of queues. Read-only."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from promoter_core.spi import MAX_DUE_MS, JobPage, JobQuery, PermanentError, StoredJob, to_bytes, to_text, unpack_trace
from promoter_sqlite.jobs import LARGEST, Row, latest

LOOK = 1_000  # jobs that one call examines for a name
PARKED_MS = MAX_DUE_MS + 1  # the first due time that never comes: other programs can put jobs there
PAGE_BYTES = 4_000_000  # of envelopes on a page, unless one alone is more

# Two queries, each a range of one index: jobs due in the cursor's millisecond, and jobs due later or earlier. One query
# with `(due_ms, seq) > (?, ?)` would read all jobs of that millisecond again.
JOBS = (
    "SELECT seq, id, name, CASE WHEN name = coalesce(?, name) THEN envelope END AS envelope, due_ms, uniq, keep_ms, "
    "trace FROM jobs WHERE queue = ? AND "
)
SAME_MS = {
    False: JOBS + "due_ms = ? AND seq > ? ORDER BY seq",
    True: JOBS + "due_ms = ? AND seq < ? ORDER BY seq DESC",
}
REST = {
    False: JOBS + "due_ms >= ? AND due_ms < ? ORDER BY due_ms, seq",
    True: JOBS + "due_ms >= ? AND due_ms < ? ORDER BY due_ms DESC, seq DESC",
}
# One index step for each name, however many jobs it has. `live`: more than a lock that has expired.
QUEUES = """
    WITH RECURSIVE named (queue, n) AS (
        SELECT (SELECT min(queue) FROM jobs WHERE queue > CAST(:after AS TEXT)), 1
        UNION ALL
        SELECT (SELECT min(queue) FROM jobs WHERE queue > named.queue), n + 1
        FROM named WHERE queue IS NOT NULL AND n < :most
    ), led AS (
        SELECT queue, expires_ms > :now_ms AS live FROM locks WHERE queue > CAST(:after AS TEXT)
        ORDER BY queue LIMIT :most
    )
    SELECT CAST(queue AS BLOB), max(live) FROM (
        SELECT queue, 1 AS live FROM named WHERE queue IS NOT NULL UNION ALL SELECT queue, live FROM led
    ) GROUP BY queue ORDER BY queue LIMIT :most
"""


def jobs_by_id(db: sqlite3.Connection, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
    rows = [latest(db, queue, to_bytes(id)) for id in ids]
    return [shown(row) if row is not None else None for row in rows]


def page_of(db: sqlite3.Connection, queue: str, query: JobQuery, now_ms: int) -> JobPage:
    look = query.limit if query.name is None else max(query.limit, LOOK)
    jobs: list[StoredJob] = []
    cursor, size, more = "", 0, False
    for looked, row in enumerate(map(Row._make, _rows(db, queue, query))):
        fits = row.envelope is not None
        size += len(row.envelope) if fits else 0
        if looked == look or len(jobs) == query.limit or (fits and jobs and size > PAGE_BYTES):
            more = True
            break
        if fits:
            jobs.append(shown(row))
        cursor = f"{row.due_ms}-{row.seq}"
    return JobPage(jobs=tuple(jobs), cursor=cursor if more else "", now_ms=now_ms)


def counts(db: sqlite3.Connection, queue: str, bounds_ms: Sequence[int]) -> list[int]:
    """Count each job before the last bound once, in the interval that contains it."""
    sql = "SELECT count(*) FROM jobs WHERE queue = ? AND due_ms >= ? AND due_ms < ?"
    before: dict[int, int] = {}
    total, low_ms = 0, -LARGEST
    for bound_ms in sorted(set(bounds_ms)):
        high_ms = min(bound_ms, PARKED_MS)  # a parked job is never counted
        total += db.execute(sql, (queue, low_ms, high_ms)).fetchone()[0]
        before[bound_ms], low_ms = total, high_ms
    return [before[bound_ms] for bound_ms in bounds_ms]


def queues_after(db: sqlite3.Connection, after: bytes, most: int, now_ms: int) -> tuple[list[str], bytes | None]:
    """Return some names after one, in order, and the last name that was examined; None at the end."""
    rows = db.execute(QUEUES, {"after": after, "most": most, "now_ms": now_ms}).fetchall()
    return [to_text(name) for name, live in rows if live], rows[-1][0] if len(rows) == most else None


def shown(row: Row) -> StoredJob:
    traceparent, tracestate = unpack_trace(to_text(row.trace))
    return StoredJob(
        id=to_text(row.id),
        name=to_text(row.name),
        envelope=row.envelope,
        due_ms=row.due_ms if row.due_ms <= MAX_DUE_MS else None,
        handle=b"%d" % row.seq,
        unique=bool(row.uniq),
        keep_id_ms=row.keep_ms if row.uniq else None,
        traceparent=traceparent,
        tracestate=tracestate,
    )


def _rows(db: sqlite3.Connection, queue: str, query: JobQuery) -> Iterator[tuple[Any, ...]]:
    """Yield jobs after the cursor, in order, one by one from the file, so that the caller can stop early."""
    about = (to_bytes(query.name) if query.name is not None else None, queue)
    low_ms = min(query.due_from_ms, PARKED_MS) if query.due_from_ms is not None else -LARGEST
    high_ms = min(query.due_to_ms, PARKED_MS) if query.due_to_ms is not None else LARGEST
    if query.after:
        due_ms, seq = _place(query.after)
        if low_ms <= due_ms < high_ms:
            yield from db.execute(SAME_MS[query.reverse], (*about, due_ms, seq))
        if query.reverse:
            high_ms = min(high_ms, due_ms)
        else:
            low_ms = max(low_ms, due_ms + 1)
    yield from db.execute(REST[query.reverse], (*about, low_ms, high_ms))


def _place(cursor: str) -> tuple[int, int]:
    """Of a cursor, which is `due-seq`."""
    found = re.fullmatch("(-?[0-9]{1,19})-([0-9]{1,19})", cursor)
    place = (int(found[1]), int(found[2])) if found is not None else None
    if place is None or max(map(abs, place)) > LARGEST:
        raise PermanentError(f"{cursor[:80]!r} is not a cursor of a page of jobs", code="BADCURSOR")
    return place
