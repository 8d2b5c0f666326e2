"""Short words for what the tests do to a queue on a server."""

from __future__ import annotations

import asyncio
import contextlib

import msgpack

from promoter_core import TransientError, connect
from promoter_core.spi import CHASQUIMQ, Lease, PromotionRequest


async def until(condition, timeout_s=10.0):
    """Wait until the (possibly async) condition holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.005)


async def patiently(call):
    """The answer of a call that prepares a test: a busy machine may need longer than the test's short time-out."""

    async def answered():
        with contextlib.suppress(TransientError):
            return [await call()]

    (answer,) = await until(answered, 30)
    return answer


@contextlib.asynccontextmanager
async def connected(url):
    """As `connect`, patiently."""
    async with contextlib.AsyncExitStack() as stack:
        yield await patiently(lambda: stack.enter_async_context(connect(url)))


TICKS, WATCHES = "t", "P"  # what CLIENT LIST marks our connections with: they are tracked, or subscribe


async def the_one(client, flag):
    """The id of the connection with that flag; waits until there is just one."""

    async def found():
        lines = (await client.execute_command("CLIENT", "LIST")).decode().splitlines()
        fields = [dict(field.split("=", 1) for field in line.split(" ")) for line in lines]
        ids = [connection["id"] for connection in fields if flag in connection["flags"]]
        return ids[0] if len(ids) == 1 else None

    return await until(found)


def member(id, name="", data=b"\xc0"):
    return CHASQUIMQ.encode_member(name, msgpack.packb([id, data, 1, 0]))


async def now_ms(client):
    s, us = await client.time()
    return s * 1000 + us // 1000


async def promote(backend, name, **changes):
    await backend.lock(name, "me", 60_000)
    request = PromotionRequest(**{"limit": 256, "max_stream_len": 1_000_000} | changes)
    return await backend.promote(Lease(name, "me", 60_000), request)
