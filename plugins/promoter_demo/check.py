"""The demo's consumer group: a plain redis-py client that knows the wire format and checks every arrival."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgpack
from redis.asyncio import Redis

GROUP = "demo"


class Checker:
    """Knows each job's due time from the sorted set, and reads the stream as any consumer would.

    Open it before anything is promoted: the set has the due time of a job only while the job is waiting.
    """

    def __init__(self, url: str, queue: str) -> None:
        prefix = f"{{chasqui:{queue}}}:"
        self._delayed, self._stream = prefix + "delayed", prefix + "stream"
        self._lock, self._events = prefix + "promoter:lock", prefix + "events"
        self._redis: Any = Redis.from_url(url)
        self.due: dict[str, int] = {}  # id → due time in ms, by the server's clock
        self.seen: Counter[str] = Counter()
        self.late: dict[str, int] = {}  # id → lateness in ms
        self.events = 0

    async def open(self) -> None:
        for member, score in await self._redis.zrange(self._delayed, 0, -1, withscores=True):
            start = 4 + int.from_bytes(member[:4], "little")
            self.due[msgpack.unpackb(member[start:])[0]] = int(score)
        await self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)

    async def close(self) -> None:
        self.events = await self._redis.xlen(self._events)
        await self._redis.aclose()

    async def consume(self) -> None:
        """Read and acknowledge new entries."""
        read = await self._redis.xreadgroup(GROUP, "demo-1", {self._stream: ">"}, count=1000, block=50)
        for _, entries in read or ():
            for entry_id, fields in entries:
                job_id = msgpack.unpackb(fields[b"d"])[0]
                self.seen[job_id] += 1
                if job_id in self.due:
                    self.late.setdefault(job_id, int(entry_id.split(b"-")[0]) - self.due[job_id])
            await self._redis.xack(self._stream, GROUP, *(entry_id for entry_id, _ in entries))

    async def leader(self) -> tuple[str, int]:
        """Return the holder of the lock ("" for nobody), and the rest of its lease in ms."""
        holder, left = await asyncio.gather(self._redis.get(self._lock), self._redis.pttl(self._lock))
        return (holder or b"").decode(), left

    async def idle_commands(self, seconds: float) -> float:
        """Return how many commands a second promoters send while nothing is due.

        INFO, which this sends, is not counted.
        """

        async def sent() -> int:
            stats = await self._redis.info("commandstats")
            wanted = ("cmdstat_eval", "cmdstat_ping", "cmdstat_client", "cmdstat_subscribe")
            return sum(v["calls"] for k, v in stats.items() if k.startswith(wanted))

        before = await sent()
        await asyncio.sleep(seconds)
        return (await sent() - before) / seconds

    @property
    def arrived(self) -> int:
        return len(self.seen)

    @property
    def lost(self) -> int:
        return len(self.due.keys() - self.seen.keys())

    @property
    def twice(self) -> int:
        return sum(1 for n in self.seen.values() if n > 1)

    @property
    def early(self) -> int:
        return sum(1 for ms in self.late.values() if ms < 0)

    @property
    def good(self) -> bool:
        return bool(self.due) and not (self.lost or self.twice or self.early or self.seen.keys() - self.due.keys())
