"""The streams of a queue in the file: entries are added at the end and removed from the beginning."""

from __future__ import annotations

import sqlite3

import msgpack

from promoter_core.spi import StreamName, to_bytes, to_text, unpack_trace


def append(db: sqlite3.Connection, queue: str, stream: StreamName, now_ms: int, fields: dict[str, bytes]) -> str:
    """Add an entry, and return its id: `milliseconds-sequence`."""
    sql = "INSERT INTO entries (queue, stream, ms, fields) VALUES (?, ?, ?, ?)"
    return f"{now_ms}-{db.execute(sql, (queue, stream.value, now_ms, msgpack.packb(fields))).lastrowid}"


def add_job(db: sqlite3.Connection, queue: str, now_ms: int, envelope: bytes, name: bytes, trace: bytes) -> str:
    return append(db, queue, StreamName.JOBS, now_ms, {"d": envelope} | _present(name, trace))


def add_event(db: sqlite3.Connection, queue: str, now_ms: int, id: bytes, name: bytes, trace: bytes) -> None:
    fields = {"e": b"waiting", "id": id, "ts": b"%d" % now_ms}
    append(db, queue, StreamName.EVENTS, now_ms, fields | _present(name, trace))


def length(db: sqlite3.Connection, queue: str, stream: StreamName) -> int:
    """Count the entries with the index: O(length)."""
    sql = "SELECT count(*) FROM entries WHERE queue = ? AND stream = ?"
    return int(db.execute(sql, (queue, stream.value)).fetchone()[0])


def trim(db: sqlite3.Connection, queue: str, stream: StreamName, most: int) -> None:
    """Keep the last `most` entries."""
    sql = (
        "DELETE FROM entries WHERE queue = :queue AND stream = :stream AND seq <= "
        "(SELECT seq FROM entries WHERE queue = :queue AND stream = :stream ORDER BY seq DESC LIMIT 1 OFFSET :most)"
    )
    db.execute(sql, {"queue": queue, "stream": stream.value, "most": most})


def _present(name: bytes, trace: bytes) -> dict[str, bytes]:
    """Return the optional fields of an entry, without the empty ones."""
    traceparent, tracestate = map(to_bytes, unpack_trace(to_text(trace)))
    optional = {"n": name, "traceparent": traceparent, "tracestate": tracestate}
    return {field: value for field, value in optional.items() if value}
