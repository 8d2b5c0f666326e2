"""The cost of looking: the server's CPU time while a sampler reads its queues, and one snapshot of all of them.

    python -m benchmarks.monitor [--seconds 40] [--jobs 2000000]

On a Valkey 9.1 of its own, with 1, 100, 1,000 and 5,000 queues that have some jobs, a stream and two consumer groups
each; and with 5,000 queues beside one that has `--jobs` jobs, each with a key in the cancel index. A share is the
server's CPU time by the time that passed, less what it takes when nothing asks it: for an exporter, and for a
`promoter watch` that shows 12 queues and the future of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.servers import valkey
from promoter_core import Backend, Registry, connect
from promoter_core.cli.live.chart import ZOOMS
from promoter_core.cli.live.source import Source
from promoter_core.monitor import Sampler, render, snapshot
from promoter_core.spi import CHASQUIMQ, cancel_and_wait

IDLE_S = 10.0
AT_ONCE = 20_000  # jobs of one script
MANY_JOBS = """
local now = redis.call('TIME')[1] * 1000
for i = ARGV[1], ARGV[2] do
  redis.call('ZADD', KEYS[1], now + 60000 + i, 'a member of about the length of a small job, number ' .. i)
  redis.call('SET', KEYS[2] .. i, 'the same member, by which it is cancelled')
end
"""


@dataclass
class Cost:
    what: str
    first_s: float  # until every queue had been read
    steady: float  # percent of one core of the server, afterwards
    watch: float  # the same for the live view
    pass_s: float
    search_s: float
    snapshot_s: float
    snapshot_cpu_s: float  # of the server
    page_s: float
    page_kb: float


async def fill(client: Redis, first: int, last: int) -> None:
    for i in range(first, last):
        k = CHASQUIMQ.keys_of(f"queue-{i:05}")
        pipeline = client.pipeline(transaction=False)
        pipeline.zadd(k.delayed, {f"job-{n}": (time.time() + 3_600 * n) * 1000 for n in range(20)})
        for n in range(20):
            pipeline.xadd(k.stream, {"d": f"job-{n}"})
        for group in ("workers", "audit"):
            pipeline.xgroup_create(k.stream, group, "0")
            pipeline.xreadgroup(group, "one", {k.stream: ">"}, count=5)
        await pipeline.execute()


async def fill_with_jobs(client: Redis, jobs: int) -> None:
    script, k = client.register_script(MANY_JOBS), CHASQUIMQ.keys_of("large")
    for first in range(0, jobs, AT_ONCE):
        await script(keys=[k.delayed, k.index], args=[first, min(first + AT_ONCE, jobs) - 1])


async def cpu_s(client: Redis) -> float:
    info: Any = await client.info("cpu")
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


async def share(client: Redis, seconds: float) -> float:
    """Percent of a core that the server takes."""
    cpu, began_s = await cpu_s(client), time.perf_counter()
    await asyncio.sleep(seconds)
    return (await cpu_s(client) - cpu) / (time.perf_counter() - began_s) * 100


async def measure(client: Redis, url: str, backend: Backend, what: str, queues: int, seconds: float) -> Cost:
    idle = await share(client, IDLE_S)
    cpu, began_s = await cpu_s(client), time.perf_counter()
    seen = await snapshot(backend, max_queues=10_000)
    snapshot_s, snapshot_cpu_s = time.perf_counter() - began_s, await cpu_s(client) - cpu
    assert len(seen.queues) == queues, len(seen.queues)
    async with Sampler(backend, max_queues=10_000).running() as sampler:
        began_s = time.perf_counter()
        while len(state := sampler.state().queues) < queues or any(queue.stats is None for queue in state):
            await asyncio.sleep(0.1)
        first_s = time.perf_counter() - began_s
        steady = await share(client, seconds) - idle
        began_s = time.perf_counter()
        page = render(sampler.state())
        page_s = time.perf_counter() - began_s
        discovery_s = sampler.state().discovery_s or float("nan")
        pass_s = sampler.state().pass_s or 0.0
    watch = await watched(client, url, queues, seconds) - idle
    return Cost(
        what,
        first_s,
        max(steady, 0.0),
        max(watch, 0.0),
        pass_s,
        discovery_s,
        snapshot_s,
        snapshot_cpu_s,
        page_s,
        len(page) / 1024,
    )


async def watched(client: Redis, url: str, queues: int, seconds: float) -> float:
    """The server's share for a live view, once it has read every queue."""
    source = Source(Registry().backend(url), ["*"], refresh_s=2.0)
    async with source.running():
        while len(state := source.state().queues) < queues or any(queue.stats is None for queue in state):
            await asyncio.sleep(0.1)
        showing = asyncio.create_task(show(source))
        await asyncio.sleep(5)
        try:
            return await share(client, seconds)
        finally:
            await cancel_and_wait(showing)


async def show(source: Source) -> None:
    """As the screen does, which draws once a second."""
    while True:
        queues = sorted(source.state().queues, key=lambda queue: queue.name)
        source.show([queue.name for queue in queues[:12]])
        source.want_future(queues[:1], ZOOMS[0])
        await asyncio.sleep(1)


async def main(seconds: float, jobs: int) -> None:
    costs = []
    with valkey() as url:
        client = Redis.from_url(url)
        async with connect(url) as backend:
            filled = 0
            for queues in (1, 100, 1_000, 5_000):
                await fill(client, filled, queues)
                filled = queues
                costs.append(await measure(client, url, backend, f"{queues:,} queues", queues, seconds))
            await fill_with_jobs(client, jobs)
            what = f"5,001 queues, {jobs:,} jobs and keys"
            costs.append(await measure(client, url, backend, what, 5_001, seconds))
        await client.aclose()
    table = Table(
        "",
        "all read after",
        "server, steady",
        "with watch",
        "a pass",
        "last search",
        "snapshot()",
        "its server CPU",
        "page",
    )
    for c in costs:
        table.add_row(
            c.what,
            f"{c.first_s:.1f} s",
            f"{c.steady:.2f} %",
            f"{c.watch:.2f} %",
            f"{c.pass_s:.1f} s",
            f"{c.search_s:.1f} s",
            f"{c.snapshot_s * 1000:,.0f} ms",
            f"{c.snapshot_cpu_s * 1000:,.0f} ms",
            f"{c.page_s * 1000:.0f} ms, {c.page_kb:,.0f} KiB",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each measurement")
    parser.add_argument("--jobs", type=int, default=2_000_000, help="in the large queue")
    args = parser.parse_args()
    asyncio.run(main(args.seconds, args.jobs))
