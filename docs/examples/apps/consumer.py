"""Bill orders from the queue `orders`, with redis-py alone: `python consumer.py`. You can kill it at any moment."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from opentelemetry import trace
from redis import exceptions
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import Backoff, DelayedQueue, Envelope, PromoterError, RetriesExhausted, connect, unpack_envelope
from promoter_core.spi import CHASQUIMQ
from promoter_opentelemetry import extract

URL = os.environ.get("PROMOTER_URL", "redis://localhost:6379")
DATABASE = os.environ.get("DATABASE", "bills.db")
QUEUE, GROUP = "orders", "billing"
STREAM, DLQ = (key.decode() for key in (CHASQUIMQ.keys_of(QUEUE).stream, CHASQUIMQ.keys_of(QUEUE).dlq))
ME = f"{socket.gethostname()}-{os.getpid()}-{ULID()}"  # unique: no earlier consumer had this name

JOBS = 8  # concurrent jobs
IDLE_S = 30.0  # another consumer takes over an entry that was not renewed for this long
DELIVERIES = 5  # after this many unfinished deliveries, an entry is considered poison
GRACE_S = 10.0  # for running jobs, after SIGTERM
FORGET_S = 3600.0  # a consumer without pending entries leaves the group after this idle time
BACKOFF = Backoff.exponential(1, factor=2, max=300, jitter=1, max_attempts=5)

AWAY = (exceptions.ConnectionError, exceptions.TimeoutError)
LOST = ("NOGROUP", "no such key")  # how an error begins after the server lost its data
log = logging.getLogger("consumer")
tracer = trace.get_tracer("consumer")


class Hopeless(Exception):
    """A job that fails the same way on every run."""


async def work(job: Envelope, order: dict[str, Any]) -> None:
    """Replace this with your work. It must be idempotent, because it can run twice for one job."""
    if order["total"] <= 0:
        raise Hopeless(f"order {order['order']} has nothing to pay")
    await asyncio.to_thread(bill, job.id, order)


def bill(job_id: str, order: dict[str, Any]) -> None:
    """Write the effect and the job's id in one transaction: a second run finds the id and writes nothing."""
    with contextlib.closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS bills (job_id TEXT PRIMARY KEY, number INTEGER, total INTEGER)")
        database.execute("INSERT OR IGNORE INTO bills VALUES (?, ?, ?)", (job_id, order["order"], order["total"]))


class Consumer:
    def __init__(self, client: Redis, orders: DelayedQueue) -> None:
        self.client, self.orders = client, orders
        self.running: set[asyncio.Task[None]] = set()
        self.cursor, self.look_at = "0-0", 0.0  # to find entries of dead consumers

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`; then finish the running jobs, and leave the rest to other consumers."""
        reading, stopping = asyncio.create_task(self.read(stop)), asyncio.create_task(stop.wait())
        await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.wait((reading,), timeout=2)
        if self.running:
            await asyncio.wait(self.running, timeout=GRACE_S)
        for task in (reading, *self.running):
            task.cancel()  # another consumer gets the unacknowledged entries
        await asyncio.gather(reading, *self.running, return_exceptions=True)
        with contextlib.suppress(exceptions.ResponseError):  # NOGROUP: the server lost its data
            if not await self.client.xpending_range(STREAM, GROUP, "-", "+", 1, consumername=ME):
                await self.client.xgroup_delconsumer(STREAM, GROUP, ME)  # with pending entries, this would lose them
        if not reading.cancelled():
            reading.result()  # raises its error, if any

    async def read(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.step()
            except AWAY as error:
                log.warning("the server is away: %s", error)
                await asyncio.sleep(1)
            except exceptions.ResponseError as error:
                if not str(error).startswith(LOST):
                    raise
                await self.make_group()  # at the start, and after the server lost its data

    async def make_group(self) -> None:
        with contextlib.suppress(exceptions.ResponseError):  # BUSYGROUP: it exists
            await self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)  # "0": includes earlier jobs

    async def step(self) -> None:
        if time.monotonic() >= self.look_at:
            await self.take_over()
        while len(self.running) >= JOBS:
            await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        read = await self.client.xreadgroup(GROUP, ME, {STREAM: ">"}, count=JOBS - len(self.running), block=1000)
        for entry_id, fields in entries_of(read):
            self.start(entry_id, fields)

    def start(self, entry_id: bytes, fields: dict[bytes, bytes]) -> asyncio.Task[None]:
        task = asyncio.create_task(self.deliver(entry_id, fields))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    async def take_over(self) -> None:
        """Take over an entry of a dead consumer. Run it alone: if it kills this one too, no other job dies with it."""
        self.cursor, entries, *_ = await self.client.xautoclaim(
            STREAM, GROUP, ME, int(IDLE_S * 1000), self.cursor, count=1
        )
        for entry_id, fields in entries:
            if self.running:
                await asyncio.wait(self.running)
            pending = await self.client.xpending_range(STREAM, GROUP, entry_id, entry_id, 1)
            if pending and pending[0]["times_delivered"] > DELIVERIES:
                await self.dead_letter(entry_id, fields, "poison", f"delivered {DELIVERIES} times, never finished")
            else:
                await asyncio.wait((self.start(entry_id, fields),))
        if not entries and self.cursor in (b"0-0", "0-0"):  # end of the pending entries
            self.look_at = time.monotonic() + IDLE_S / 4
            await self.forget_the_dead()

    async def forget_the_dead(self) -> None:
        """Each process has a new name, so the group would accumulate them."""
        for consumer in await self.client.xinfo_consumers(STREAM, GROUP):
            if not consumer["pending"] and consumer["idle"] > FORGET_S * 1000:
                await self.client.xgroup_delconsumer(STREAM, GROUP, consumer["name"])

    async def deliver(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        """Run the job of an entry. Afterwards the entry is gone, or stays pending for another consumer."""
        try:
            async with self.kept(entry_id):
                try:
                    job = unpack_envelope(fields[b"d"])
                    order = job.data()
                    if not isinstance(order, dict):
                        raise ValueError(f"an order is a mapping, not {type(order).__name__}")
                except (KeyError, ValueError) as error:
                    await self.dead_letter(entry_id, fields, "malformed", str(error))
                    return
                await self.perform(entry_id, fields, job, order)
        except Exception:
            log.exception("entry %s stays pending, and comes again in %g s", entry_id.decode(), IDLE_S)

    async def perform(self, entry_id: bytes, fields: dict[bytes, bytes], job: Envelope, order: dict[str, Any]) -> None:
        with tracer.start_as_current_span(f"process {QUEUE}", extract(fields), kind=trace.SpanKind.CONSUMER) as span:
            try:
                await work(job, order)
            except Hopeless as error:
                span.record_exception(error)
                await self.dead_letter(entry_id, fields, "hopeless", str(error))
            except Exception as error:
                span.record_exception(error)
                await self.retry(entry_id, fields, job, error)
            else:
                await self.done(entry_id)

    async def retry(self, entry_id: bytes, fields: dict[bytes, bytes], job: Envelope, error: Exception) -> None:
        """Schedule it again, then acknowledge. A consumer that dies in between leaves both, and loses no job."""
        name = fields.get(b"n", b"").decode()
        try:
            await self.orders.retry(job, name=name, backoff=BACKOFF)  # in the trace of the current span
        except RetriesExhausted as exhausted:
            await self.dead_letter(entry_id, fields, "retries_exhausted", f"{exhausted}: {error}")
        else:
            log.warning("job %s failed, and comes again: %s", job.id, error)
            await self.done(entry_id)

    async def dead_letter(self, entry_id: bytes, fields: dict[bytes, bytes], reason: str, detail: str) -> None:
        log.error("entry %s goes to the dead letters: %s: %s", entry_id.decode(), reason, detail)
        letter = {b"source_id": entry_id, b"reason": reason.encode(), b"detail": detail.encode(), **fields}
        async with self.client.pipeline(transaction=True) as pipe:
            await pipe.xadd(DLQ, letter).xack(STREAM, GROUP, entry_id).xdel(STREAM, entry_id).execute()

    async def done(self, entry_id: bytes) -> None:
        async with self.client.pipeline(transaction=True) as pipe:
            await pipe.xack(STREAM, GROUP, entry_id).xdel(STREAM, entry_id).execute()

    @contextlib.asynccontextmanager
    async def kept(self, entry_id: bytes) -> AsyncIterator[None]:
        """Renew the claim on an entry while its job runs, however long that takes."""
        beat = asyncio.create_task(self.keep(entry_id))
        try:
            yield
        finally:
            beat.cancel()

    async def keep(self, entry_id: bytes) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 3)
            with contextlib.suppress(*AWAY):
                pending = await self.client.xpending_range(STREAM, GROUP, entry_id, entry_id, 1)
                if not pending or pending[0]["consumer"] != ME.encode():
                    return  # we stalled for too long, and another consumer has it
                await self.client.xclaim(STREAM, GROUP, ME, 0, [entry_id], justid=True)  # does not count as a delivery


def entries_of(read: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Entries of an XREADGROUP reply: a list in RESP2, a dict in RESP3."""
    for _, entries in read.items() if isinstance(read, dict) else read or ():
        for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
            yield entry[0], entry[1]


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect(URL) as backend, Redis.from_url(URL, socket_timeout=10) as client:
        log.info("consuming %s as %s", QUEUE, ME)
        await Consumer(client, DelayedQueue(backend, QUEUE)).run(stop)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (PromoterError, exceptions.RedisError) as error:
        sys.exit(f"consumer: {error}")
