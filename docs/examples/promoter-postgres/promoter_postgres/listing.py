"""Waiting jobs by id, pages of jobs, and counts. Each statement reads ranges of an index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from promoter_core.spi import MAX_DUE_MS, JobPage, JobQuery, PermanentError, StoredJob, to_bytes, to_text, unpack_trace

LOOK = 1_000  # jobs that one call examines for a name
PAGE_BYTES = 4_000_000  # of envelopes on a page, unless one alone is more
LARGEST = 2**63 - 1  # of a bigint

BY_ID = """
    SELECT job.* FROM unnest(%b::bytea[]) WITH ORDINALITY AS asked (wanted, ord) LEFT JOIN LATERAL (
        SELECT * FROM jobs WHERE queue = %s AND id = wanted ORDER BY uniq DESC, seq DESC LIMIT 1
    ) AS job ON true ORDER BY ord
"""
# The examined rows, and one more; with the envelopes of the page, unless they are too many or too large.
PAGE = """
    WITH looked AS (
        SELECT *, name = coalesce(%b::bytea, name) AS fits FROM jobs
        WHERE queue = %s AND (due_ms, seq) > (%s::bigint, %s::bigint) AND (due_ms, seq) < (%s::bigint, %s::bigint)
        ORDER BY due_ms {way}, seq {way} LIMIT %s
    ), counted AS (
        SELECT *, count(*) FILTER (WHERE fits) OVER so_far AS found,
            sum(octet_length(envelope)) FILTER (WHERE fits) OVER so_far AS size
        FROM looked WINDOW so_far AS (ORDER BY due_ms {way}, seq {way} ROWS UNBOUNDED PRECEDING)
    )
    SELECT t, seq, id, name, due_ms, uniq, trace, keep_ms, fits,
        CASE WHEN fits AND found <= %s AND (found = 1 OR size <= %s) THEN envelope END AS envelope
    FROM (SELECT now_ms() AS t OFFSET 0) AS clock LEFT JOIN counted ON true ORDER BY due_ms {way}, seq {way}
"""
# Each job before the last bound is counted once, in the interval that contains it.
COUNT = """
    SELECT ms, (sum(between_them) OVER (ORDER BY ms))::bigint AS before FROM (
        SELECT ms, (
            SELECT count(*) FROM jobs WHERE queue = %s AND due_ms >= coalesce(low_ms, -{largest}) AND due_ms < ms
        ) AS between_them
        FROM (SELECT ms, lag(ms) OVER (ORDER BY ms) AS low_ms FROM unnest(%s::bigint[]) AS ms) AS bounds
    ) AS counted
""".replace("{largest}", str(LARGEST))

Place = tuple[int, int]  # a job's due time and seq


def page_arguments(queue: str, query: JobQuery) -> tuple[str, tuple[object, ...]]:
    """The statement for a page, and its arguments."""
    low: Place = (-LARGEST, 0) if query.due_from_ms is None else (query.due_from_ms, 0)  # before the first that counts
    high: Place = (LARGEST, 0) if query.due_to_ms is None else (query.due_to_ms, 0)  # after the last one
    if query.after and query.reverse:
        high = min(high, _place(query.after))
    elif query.after:
        low = max(low, _place(query.after))
    name = to_bytes(query.name) if query.name is not None else None
    sql = PAGE.format(way="DESC" if query.reverse else "ASC")
    return sql, (name, queue, *low, *high, _look(query) + 1, query.limit, PAGE_BYTES)


def page_of(rows: Sequence[Any], query: JobQuery) -> JobPage:
    jobs: list[StoredJob] = []
    cursor, more = "", False
    for looked, row in enumerate(row for row in rows if row.seq is not None):
        if looked == _look(query) or len(jobs) == query.limit or (row.fits and row.envelope is None):
            more = True
            break
        if row.fits:
            jobs.append(shown(row))
        cursor = f"{row.due_ms}-{row.seq}"
    return JobPage(jobs=tuple(jobs), cursor=cursor if more else "", now_ms=rows[0].t)


def count_bounds(bounds_ms: Sequence[int]) -> list[int]:
    return sorted({min(bound_ms, MAX_DUE_MS + 1) for bound_ms in bounds_ms})


def counts(rows: Sequence[Any], bounds_ms: Sequence[int]) -> list[int]:
    before: Mapping[int, int] = {row.ms: row.before for row in rows}
    return [before[min(bound_ms, MAX_DUE_MS + 1)] for bound_ms in bounds_ms]


def shown(row: Any) -> StoredJob:
    traceparent, tracestate = unpack_trace(to_text(row.trace))
    return StoredJob(
        id=to_text(row.id),
        name=to_text(row.name),
        envelope=row.envelope,
        due_ms=row.due_ms,
        handle=b"%d" % row.seq,
        unique=row.uniq,
        keep_id_ms=row.keep_ms if row.uniq else None,
        traceparent=traceparent,
        tracestate=tracestate,
    )


def _look(query: JobQuery) -> int:
    return query.limit if query.name is None else max(query.limit, LOOK)


def _place(cursor: str) -> Place:
    """Of a cursor, which is `due-seq`."""
    found = re.fullmatch("(-?[0-9]{1,18})-([0-9]{1,18})", cursor)
    if found is None:
        raise PermanentError(f"{cursor[:80]!r} is not a cursor of a page of jobs", code="BADCURSOR")
    return int(found[1]), int(found[2])
