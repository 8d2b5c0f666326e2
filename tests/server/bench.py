"""Short words for what the tests do to a queue on a server."""

from __future__ import annotations

import asyncio

import msgpack

from promoter_core.model import Lease, PromotionRequest
from promoter_resp.member import encode_member


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


def member(id, name="", data=b"\xc0"):
    return encode_member(name, msgpack.packb([id, data, 1, 0]))


async def now_ms(client):
    s, us = await client.time()
    return s * 1000 + us // 1000


async def promote(backend, name, **changes):
    await backend.lock(name, "me", 60_000)
    request = PromotionRequest(**{"limit": 256, "max_stream_len": 1_000_000} | changes)
    return await backend.promote(Lease(name, "me", 60_000), request)
