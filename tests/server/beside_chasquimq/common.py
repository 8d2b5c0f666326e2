"""Ids, data and looks that the tests beside ChasquiMQ share."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import msgpack
import pytest

from promoter_core import JobOutcome
from promoter_core.spi import CHASQUIMQ, StreamName
from tests.server.bench import until

chasquimq = pytest.importorskip("chasquimq")

CREATED, KEPT, REPLACED, MOVED, PROMOTED, REMOVED, ALREADY_PROMOTED, NOT_FOUND = (
    JobOutcome.CREATED,
    JobOutcome.KEPT,
    JobOutcome.REPLACED,
    JobOutcome.MOVED,
    JobOutcome.PROMOTED,
    JobOutcome.REMOVED,
    JobOutcome.ALREADY_PROMOTED,
    JobOutcome.NOT_FOUND,
)
HOUR_MS = 3_600_000
NO_KEEP = timedelta(0)
IDS = {
    "short": "my-id-1",
    "31 bytes": "x" * 31,
    "32 bytes": "x" * 32,
    "Unicode": "Jürgen-\N{SNOWMAN}-日本-\N{PILE OF POO}",
    "hostile": "\0\r\n {}:*?[a]\x7f\\",
    "512 bytes": "\N{SNOWMAN}" * 170 + "ab",
}
each_id = pytest.mark.parametrize("id", IDS.values(), ids=IDS)


async def waiting(client, name):
    """The members of the sorted set, each as a name and an envelope."""
    members = await client.zrange(CHASQUIMQ.keys_of(name).delayed, 0, -1)
    return [CHASQUIMQ.decode_member(member) for member in members]


async def left_of(client, name, id):
    """The keys that are about an id."""
    k = CHASQUIMQ.keys_of(name)
    return {key async for key in client.scan_iter(k.prefix + b"*", count=1_000) if key.endswith(b":" + id.encode())}


async def fields_of(backend, name):
    return [entry.fields for entry in await backend.read(name, StreamName.JOBS, "", 100)]


@contextlib.asynccontextmanager
async def their_promoter(server, client, name):
    """The promoter in their worker. Before Redis 8.6, that reads no jobs; its promoter does all that it does."""

    async def never(job):
        raise AssertionError(job)

    worker = chasquimq.Worker(name, never, redis_url=server.url, consumer_id="theirs")
    running = asyncio.create_task(worker.run())
    await until(lambda: client.exists(CHASQUIMQ.keys_of(name).lock))
    try:
        yield
    finally:
        await worker.close()
        await running


async def promoted_by_them(server, client, name, count=1):
    k = CHASQUIMQ.keys_of(name)

    async def done():
        return await client.xlen(k.stream) >= count and not await client.zcount(k.delayed, "-inf", 10**12)

    async with their_promoter(server, client, name):
        await until(done)
        await asyncio.sleep(0.1)  # it cleans up in a call of its own
    await client.delete(k.lock)


THEIR_DATA = {"to": "ä@b.c", "raw": b"\0\xff", "n": [2**64 - 1, 1.5, None], "long": "\N{SNOWMAN}" * 1_000}


async def plain_zadd(client, name, id, data, *, job_name="", delay_ms=60_000, extra=()):
    """A job by a plain client, as any program may write it; the id may be bytes that are no UTF-8."""
    seconds, _ = await client.time()
    packer = msgpack.Packer(unicode_errors="surrogateescape")
    envelope = packer.pack([id, msgpack.packb(data), 1, 0, *extra])
    await client.zadd(
        CHASQUIMQ.keys_of(name).delayed, {CHASQUIMQ.encode_member(job_name, envelope): seconds * 1000 + delay_ms}
    )
    return id


BINARY_ID = b"\xff\xfe\0\x80id".decode("utf-8", "surrogateescape")
BINARY_ID = b"\xff\xfe\0\x80id".decode("utf-8", "surrogateescape")
