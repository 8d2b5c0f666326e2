"""The measured store: a backend, and for Redis-protocol servers the server behind it, filled directly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ulid import ULID

from promoter_core import Backend, DelayedQueue, Job, PluginError, connect
from promoter_core.spi import CHASQUIMQ, pack_envelope

PAYLOAD = b"\xc4\x40" + b"x" * 64  # about 100 bytes per member, with the envelope
PAGE = 5_000
LONG_AGO_MS = 1_600_000_000_000


class Store:
    """Any backend. Its queues belong to this run."""

    raw: Any = None  # a redis-py client of the server, if possible

    def __init__(self, url: str, backend: Backend) -> None:
        self.url = url
        self.backend = backend
        self.queues: list[str] = []
        self._prefix = f"promoter-bench-{ULID()}"

    def new_queue(self) -> str:
        queue = f"{self._prefix}-{len(self.queues)}"
        self.queues.append(queue)
        return queue

    async def load(self, queue: str, jobs: int, *, index: bool) -> None:
        """Schedule jobs for a moment ahead, and wait until they are due."""
        delayed = DelayedQueue(self.backend, queue)
        lead_s = 1.0 + jobs / 20_000
        for first in range(0, jobs, PAGE):
            numbers = range(first, min(first + PAGE, jobs))
            await delayed.schedule_many([Job(data=i, delay=lead_s, index=index) for i in numbers])
        while (await delayed.stats()).due < jobs:
            await asyncio.sleep(0.05)

    async def cpu_s(self) -> float | None:
        """Return the CPU seconds used by the server; None without a server."""
        return None

    async def clean(self) -> None:
        """Leave nothing of this run behind if possible; other stores keep the streams."""


class ServerStore(Store):
    """A Redis-protocol server: filled with plain ZADD, and queried for its CPU time and memory."""

    def __init__(self, url: str, backend: Backend, raw: Any, raw_url: str) -> None:
        super().__init__(url, backend)
        self.raw = raw
        self.raw_url = raw_url

    async def load(self, queue: str, jobs: int, *, index: bool, first_due_ms: int = LONG_AGO_MS) -> None:
        k = CHASQUIMQ.keys_of(queue)
        for first in range(0, jobs, PAGE):
            pipeline = self.raw.pipeline(transaction=False)
            members = {}
            for i in range(first, min(first + PAGE, jobs)):
                id = f"01M85SFPTNPWAT758QM{i:09d}"
                member = member_of(id)
                members[member] = first_due_ms + i
                if index:
                    pipeline.set(k.index + id.encode(), member, ex=86_400)
            pipeline.zadd(k.delayed, members)
            await pipeline.execute()

    async def cpu_s(self) -> float | None:
        info = await self.raw.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def memory(self) -> int:
        return int((await self.raw.info("memory"))["used_memory"])

    async def commands(self) -> int:
        """Return how many commands clients have sent, except INFO; those called by scripts are not counted."""
        stats = await self.raw.info("commandstats")
        sent = ("evalsha", "eval", "ping", "client|tracking", "subscribe")
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in sent)

    async def forget(self, queue: str) -> None:
        prefix = CHASQUIMQ.keys_of(queue).prefix.decode()
        async for page in _pages(self.raw, f"{prefix}*"):
            await self.raw.unlink(*page)

    async def clean(self) -> None:
        async for page in _pages(self.raw, f"{{chasqui:{self._prefix}*"):
            await self.raw.unlink(*page)


async def _pages(client: Any, match: str) -> Any:
    cursor = 0
    while True:
        cursor, page = await client.scan(cursor, match=match, count=5_000)
        if page:
            yield page
        if not cursor:
            return


def member_of(id: str, payload: bytes = PAYLOAD) -> bytes:
    return CHASQUIMQ.encode_member("", pack_envelope(id, payload, LONG_AGO_MS, 0))


def server_url(url: str) -> str | None:
    """Return the redis-py URL of the server behind a backend's URL; None if there is none, or more than one."""
    scheme, _, rest = url.partition("://")
    schemes = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
    schemes |= {"glide": "redis", "glides": "rediss", "unix": "unix"}
    return f"{schemes[scheme]}://{rest.partition('?')[0]}" if scheme in schemes else None


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]}


async def open_store(stack: Any, url: str) -> Store:
    """Open the store. Raises the errors of `connect`."""
    backend = await stack.enter_async_context(connect(url))
    address = server_url(url)
    if address is None:
        return Store(url, backend)
    try:
        from redis.asyncio import Redis
    except ModuleNotFoundError:
        raise PluginError(
            "promoter bench queries the server with redis-py: pip install 'promoter-core[redis]'"
        ) from None

    raw = await stack.enter_async_context(Redis.from_url(address))
    return ServerStore(url, backend, raw, address)
