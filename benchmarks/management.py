"""What it costs to see and change waiting jobs, by how many wait.

    python -m benchmarks.management [--depths 10,10000,10000000] [--calls 400] [--only redis-py]

For each depth: calls a second, one after another, and the server's time a call (Valkey's own count of EVALSHA). All
depths are measured on one server in one run, so the growth from the smallest to the largest holds on any machine. The
set has jobs with a cancel index, due over the coming day; what a call takes away is put back between the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from redis import Redis

from benchmarks.servers import valkey
from promoter_core import Backend, connect
from promoter_core.spi import (
    CHASQUIMQ,
    JobQuery,
    JobRequest,
    ManagementSupport,
    Replace,
    Reschedule,
    RunNow,
    pack_envelope,
)

CLIENTS = {"redis-py": "redis", "GLIDE": "glide"}
PAYLOAD = b"\xc4\x64" + b"x" * 100
DAY_MS = 86_400_000
FILLED_AT_ONCE = 10_000
FILL = """
local first, last, start = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local span, payload, index = ARGV[4], ARGV[5], ARGV[6]
for i = first, last do
  local id = string.format('job-%08d', i)
  local member = '\\0\\0\\0\\0\\148\\172' .. id .. payload
  redis.call('ZADD', KEYS[1], string.format('%.0f', start + (i * 7919) % span), member)
  redis.call('SET', index .. id, member)
end
"""


@dataclass
class Figures:
    calls_s: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


class Bench:
    """One queue of one depth."""

    def __init__(self, server: Redis, backend: Backend, queue: str, depth: int) -> None:
        assert isinstance(backend, ManagementSupport)
        self.server, self.backend, self.queue, self.depth = server, backend, queue, depth
        self.random = random.Random(depth)
        self.start_ms = int(time.time() * 1000) + DAY_MS
        self.cursor = ""

    def fill(self) -> None:
        packed = pack_envelope("job-00000000", PAYLOAD, self.start_ms, 0)
        tail = packed[packed.index(b"job-00000000") + 12 :]
        k = CHASQUIMQ.keys_of(self.queue)
        script = self.server.register_script(FILL)
        for first in range(0, self.depth, FILLED_AT_ONCE):
            last = min(first + FILLED_AT_ONCE, self.depth) - 1
            script([k.delayed], [first, last, self.start_ms, DAY_MS, tail, k.index])

    def request(self, id: str, *, unique: bool = False) -> JobRequest:
        envelope = pack_envelope(id, PAYLOAD, self.start_ms, 0)
        due_ms = self.start_ms + self.random.randrange(DAY_MS)
        return JobRequest(id, envelope, due_ms=due_ms, unique=unique)

    async def middle(self) -> None:
        """A cursor in the middle of the set."""
        at = JobQuery(limit=1, due_from_ms=self.start_ms + DAY_MS // 3)
        self.cursor = (await self.backend.list_jobs(self.queue, at)).cursor

    async def get(self, id: str) -> None:
        await self.backend.get_jobs(self.queue, [id])

    async def list_first(self, id: str) -> None:
        await self.backend.list_jobs(self.queue, JobQuery(limit=100))

    async def list_middle(self, id: str) -> None:
        await self.backend.list_jobs(self.queue, JobQuery(limit=100, after=self.cursor))

    async def list_name(self, id: str) -> None:
        await self.backend.list_jobs(self.queue, JobQuery(limit=100, name="no-such-name"))

    async def count(self, id: str) -> None:
        await self.backend.count_jobs(self.queue, [self.start_ms, self.start_ms + DAY_MS // 2])

    async def histogram(self, id: str) -> None:
        await self.backend.count_jobs(self.queue, [self.start_ms + hour * 3_600_000 for hour in range(25)])

    async def schedule(self, id: str) -> None:
        await self.backend.schedule(self.queue, [self.request(f"new-{id}", unique=True)])

    async def reschedule(self, id: str) -> None:
        due_ms = self.start_ms + self.random.randrange(DAY_MS)
        await self.backend.change_jobs(self.queue, [Reschedule(job=id, due_ms=due_ms)])

    async def replace(self, id: str) -> None:
        await self.backend.change_jobs(self.queue, [Replace(request=self.request(id), search=False)])

    async def run_now(self, id: str) -> None:
        await self.backend.change_jobs(self.queue, [RunNow(job=id)])

    async def cancel(self, id: str) -> None:
        await self.backend.cancel(self.queue, [id])

    async def round(self, call: Callable[[str], Awaitable[None]], calls: int, figures: Figures) -> None:
        ids = self.random.sample(range(self.depth), min(calls, self.depth))
        self.server.config_resetstat()
        began_s = time.perf_counter()
        for i in ids:
            await call(f"job-{i:08}")
        took_s = time.perf_counter() - began_s
        stats = self.server.info("commandstats")
        usec = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval"))
        figures.calls_s.append(len(ids) / took_s)
        figures.server_us.append(usec / len(ids))
        if call in (self.run_now, self.cancel):
            await self.backend.schedule(self.queue, [self.request(f"job-{i:08}") for i in ids])
        if call == self.schedule:
            await self.backend.cancel(self.queue, [f"new-job-{i:08}" for i in ids])


OPERATIONS = (
    ("schedule", "schedule"),
    ("get", "get"),
    ("list, first page of 100", "list_first"),
    ("list, page in the middle", "list_middle"),
    ("list by name, none found", "list_name"),
    ("count", "count"),
    ("histogram of 24 hours", "histogram"),
    ("reschedule", "reschedule"),
    ("replace", "replace"),
    ("run_now", "run_now"),
    ("cancel", "cancel"),
)


async def measure(url: str, client: str, depths: list[int], calls: int) -> None:
    server = Redis.from_url(url)
    print(f"\n{client}: calls a second, and µs of the server a call")
    print(f"{'':<28}" + "".join(f"{depth:>22,}" for depth in depths) + f"{'growth':>10}")
    async with connect(url.replace("redis", CLIENTS[client], 1)) as backend:
        benches = [Bench(server, backend, f"bench-{client}-{depth}", depth) for depth in depths]
        for bench in benches:
            bench.fill()
            await bench.middle()
        for title, name in OPERATIONS:
            found = [Figures() for _ in depths]
            rounds = max(calls // 10, 1)
            for number in range(rounds + 1):
                for bench, figures in random.sample(list(zip(benches, found, strict=True)), len(benches)):
                    await bench.round(getattr(bench, name), 10, figures if number else Figures())  # the first warms up
            cells = [(statistics.median(f.calls_s), statistics.median(f.server_us)) for f in found]
            shown = "".join(f"{calls_s:>12,.0f} {us:>6.0f} µs" for calls_s, us in cells)
            print(f"{title:<28}{shown}{cells[-1][1] / cells[0][1]:>10.2f}")
    server.flushall()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", default="10,10000,10000000")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--only", default=",".join(CLIENTS))
    args = parser.parse_args()
    for client in args.only.split(","):
        with valkey() as url:
            asyncio.run(measure(url, client, [int(depth) for depth in args.depths.split(",")], args.calls))


if __name__ == "__main__":
    main()
