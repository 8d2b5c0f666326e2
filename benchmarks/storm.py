"""A producer that adds 20,000 future jobs a second, one in a hundred of them due within a second.

    python -m benchmarks.storm [--rate 20000] [--seconds 10]

Each of its writes touches the set that the leader sleeps on: how often does the leader wake, what does that cost the
server, and how late are the jobs that become due?
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from benchmarks.servers import valkey
from promoter_bench.measures import LatenessSink
from promoter_bench.store import member_of, percentiles
from promoter_core import Promoter, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingMetrics

BURST = 100  # jobs in one pipeline


@dataclass
class Storm:
    ticks_a_second: float
    server_share: float  # of the server's time that our scripts took, in percent
    late_ms: dict[str, float]
    rate: float  # jobs a second that were really added


async def produce(url: str, queue: str, rate: int, seconds: float) -> None:
    client, key, chance = Redis.from_url(url), CHASQUIMQ.keys_of(queue).delayed, random.Random(1)
    start, sent = time.perf_counter(), 0
    while sent < rate * seconds:
        await asyncio.sleep(max(start + sent / rate - time.perf_counter(), 0))
        now_ms = int(time.time() * 1000)
        pipeline = client.pipeline(transaction=False)
        for i in range(BURST):
            due_ms = now_ms + (chance.randrange(20, 1_000) if i == 0 else 86_400_000 + chance.randrange(1_000_000))
            pipeline.zadd(key, {member_of(f"storm-{sent + i}"): due_ms})
        await pipeline.execute()
        sent += BURST
    await client.aclose()


async def storm(url: str, rate: int, seconds: float) -> Storm:
    queue, sink, metrics = "storm", LatenessSink(), RecordingMetrics()
    async with Redis.from_url(url) as client, connect(url) as backend:
        async with Promoter(backend, queue, events=[sink], metrics=[metrics]).running():
            await asyncio.sleep(0.3)
            before = (await client.info("commandstats"))["cmdstat_evalsha"]["usec"]
            ticks, began = len(metrics.ticks), time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.storm", "--produce", url, queue]
            producer = await asyncio.create_subprocess_exec(*command, str(rate), str(seconds))
            await producer.wait()
            took = time.perf_counter() - began
            after = (await client.info("commandstats"))["cmdstat_evalsha"]["usec"]
            ticks = len(metrics.ticks) - ticks
            await asyncio.sleep(1.2)
        depth = await client.zcard(CHASQUIMQ.keys_of(queue).delayed)
        await client.unlink(CHASQUIMQ.keys_of(queue).delayed)
    added = depth + len(sink.late_ms)
    return Storm(ticks / took, (after - before) / took / 1e4, percentiles(sink.late_ms), added / took)


async def main(rate: int, seconds: float) -> None:
    with valkey() as url:
        result = await storm(url, rate, seconds)
    print(
        f"{result.rate:,.0f} jobs added a second: {result.ticks_a_second:.0f} ticks a second, "
        f"{result.server_share:.1f}% of the server's time, lateness of due jobs {result.late_ms}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--produce", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.produce:
        asyncio.run(produce(args.produce[0], args.produce[1], int(args.produce[2]), float(args.produce[3])))
    else:
        asyncio.run(main(args.rate, args.seconds))
