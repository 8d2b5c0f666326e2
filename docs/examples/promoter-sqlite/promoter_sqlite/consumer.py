"""`Consumer`: takes promoted jobs out of the file. A job that is claimed and not acknowledged is delivered again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import msgpack

from promoter_core.spi import Envelope, to_text, unpack_envelope

T = TypeVar("T")

# A row for each claimed entry of a stream: when its claim expires, and how often it was claimed.
CLAIMS = """
CREATE TABLE IF NOT EXISTS claims (
    seq INTEGER PRIMARY KEY, until_ms INTEGER NOT NULL, deliveries INTEGER NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed job."""

    seq: int
    envelope: Envelope
    name: str
    deliveries: int  # 1 the first time; also identifies the claim
    traceparent: str = ""  # the producer's trace context
    tracestate: str = ""


class Consumer:
    """Claims, acknowledges and gives back the jobs of one queue. Any number of consumers share its stream."""

    def __init__(self, path: str, queue: str) -> None:
        self._path = path
        self._queue = queue

    async def claim(self, limit: int, for_s: float) -> list[Delivery]:
        """Claim free jobs for `for_s` seconds, the oldest first. After that, others can claim them."""

        def work(db: sqlite3.Connection) -> list[Delivery]:
            now_ms = _now_ms()
            sql = (
                "SELECT entries.seq, fields, coalesce(deliveries, 0) + 1 FROM entries LEFT JOIN claims USING (seq) "
                "WHERE queue = ? AND stream = 'stream' AND coalesce(until_ms, 0) <= ? ORDER BY entries.seq LIMIT ?"
            )
            rows = db.execute(sql, (self._queue, now_ms, limit)).fetchall()
            until_ms = now_ms + int(for_s * 1000)
            db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", [(r[0], until_ms, r[2]) for r in rows])
            return [_delivery(*row) for row in rows]

        return await asyncio.to_thread(self._transaction, work)

    async def acknowledge(self, delivery: Delivery) -> bool:
        """Remove a finished job from the stream. False if the claim has expired and another consumer has the job."""

        def work(db: sqlite3.Connection) -> bool:
            ours = (delivery.seq, delivery.deliveries)
            if not db.execute("DELETE FROM claims WHERE seq = ? AND deliveries = ?", ours).rowcount:
                return False
            return bool(db.execute("DELETE FROM entries WHERE seq = ?", (delivery.seq,)).rowcount)

        return await asyncio.to_thread(self._transaction, work)

    async def give_back(self, delivery: Delivery, after_s: float = 0.0) -> bool:
        """Free an unfinished job after a while. False if the claim has expired."""

        def work(db: sqlite3.Connection) -> bool:
            sql = "UPDATE claims SET until_ms = ? WHERE seq = ? AND deliveries = ?"
            until_ms = _now_ms() + int(after_s * 1000)
            return bool(db.execute(sql, (until_ms, delivery.seq, delivery.deliveries)).rowcount)

        return await asyncio.to_thread(self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run in a thread, with a separate connection, so that a cancelled call still completes."""
        with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as db, db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            db.execute(CLAIMS)
            return work(db)


def _delivery(seq: int, packed: bytes, deliveries: int) -> Delivery:
    fields = msgpack.unpackb(packed)
    name, *trace = (to_text(fields.get(field, b"")) for field in ("n", "traceparent", "tracestate"))
    return Delivery(seq, unpack_envelope(fields["d"]), name, deliveries, *trace)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
