"""`Consumer`: takes promoted jobs out of the table. A job that is claimed and not acknowledged is delivered again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from promoter_core.spi import Envelope, to_text, unpack_envelope, unpack_trace

# A row that another consumer is claiming is skipped, so that no consumer waits.
CLAIM = """
    WITH free AS (
        SELECT seq FROM {schema}.stream WHERE queue = %s AND free_ms <= {schema}.now_ms()
        ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE {schema}.stream AS s SET free_ms = {schema}.now_ms() + %s::bigint, deliveries = deliveries + 1
        FROM free WHERE s.seq = free.seq RETURNING s.seq, envelope, name, deliveries, trace
    )
    SELECT * FROM claimed ORDER BY seq
"""
ACKNOWLEDGE = "DELETE FROM {schema}.stream WHERE seq = %s AND deliveries = %s"
GIVE_BACK = """
    UPDATE {schema}.stream SET free_ms = {schema}.now_ms() + %s::bigint WHERE seq = %s AND deliveries = %s
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
    """Claims, acknowledges and gives back the jobs of one queue. Any number of consumers share its stream.

    On the application's connection, `acknowledge` commits together with the work, so the work is done once.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], queue: str, schema: str = "promoter") -> None:
        self._connection = connection
        self._queue = queue
        self._schema = schema

    async def claim(self, limit: int, for_s: float) -> list[Delivery]:
        """Claim free jobs for `for_s` seconds, the oldest first. After that, others can claim them."""
        cursor = await self._execute(CLAIM, self._queue, limit, int(for_s * 1000))
        return [
            Delivery(seq, unpack_envelope(envelope), to_text(name), deliveries, *unpack_trace(to_text(trace)))
            for seq, envelope, name, deliveries, trace in await cursor.fetchall()
        ]

    async def acknowledge(self, delivery: Delivery) -> bool:
        """Remove a finished job from the stream. False if the claim has expired and another consumer has the job."""
        return (await self._execute(ACKNOWLEDGE, delivery.seq, delivery.deliveries)).rowcount == 1

    async def give_back(self, delivery: Delivery, after_s: float = 0.0) -> bool:
        """Free an unfinished job after a while. False if the claim has expired."""
        done = await self._execute(GIVE_BACK, int(after_s * 1000), delivery.seq, delivery.deliveries)
        return done.rowcount == 1

    async def _execute(self, sql: str, *arguments: object) -> psycopg.AsyncCursor[Any]:
        return await self._connection.execute(sql.format(schema=self._schema), arguments)
