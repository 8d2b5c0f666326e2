"""Lateness of jobs scheduled by a plain ZADD client, and commands sent while idle.

    python -m benchmarks.lateness [--jobs 2000] [--seconds 10]

The producer is another process that knows nothing of Promoter: it sends ZADD, spread over the run, with delays of
0 to 1 s. The comparison is the same promoter held to the reference's polling of 100 ms, in the same run on the same
server. Lateness is by the server's clock: due time to the stream entry's id.
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
from promoter_core import Promoter, PromoterSettings, connect
from promoter_core.envelope import pack_envelope
from promoter_resp.keys import keys_of
from promoter_resp.member import encode_member


@dataclass
class Lateness:
    p50: int
    p99: int
    max: int

    @classmethod
    def of(cls, values: list[int]) -> Lateness:
        ordered = sorted(values)
        return cls(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])

    def __str__(self) -> str:
        return f"p50 {self.p50} ms, p99 {self.p99} ms, max {self.max} ms"


async def produce(url: str, queue: str, jobs: int, seconds: float) -> None:
    """A plain ZADD client: `jobs` jobs over `seconds`, each due 0 to 1 s after it is written."""
    client, chance, start = Redis.from_url(url), random.Random(1), time.time()
    for i in range(jobs):
        at = start + seconds * i / jobs
        await asyncio.sleep(max(at - time.time(), 0))
        due_ms = int((time.time() + chance.random()) * 1000)
        member = encode_member("bench", pack_envelope(f"job-{i}", b"\x93" + b"\x01\x02\x03" * 20, due_ms, 0))
        await client.zadd(keys_of(queue).delayed, {member: due_ms})
    await client.aclose()


async def measure(
    url: str, queue: str, jobs: int, seconds: float, poll_ms: int | None, producer_url: str | None = None
) -> Lateness:
    """Lateness of a run; `poll_ms` holds the promoter to polling."""
    late: list[int] = []

    class Sink:
        async def emit(self, queue: str, batch: tuple) -> None:  # type: ignore[type-arg]
            late.extend(job.promoted_ms - job.due_ms for job in batch)

        async def close(self) -> None: ...

    async with connect(url) as backend:
        if poll_ms is not None:
            backend._driver._ticker._tracks = False  # type: ignore[attr-defined]  # what a server without tracking comes to
        settings = PromoterSettings(queue=queue, poll_interval_ms=poll_ms or 100)
        command = [
            sys.executable,
            "-m",
            "benchmarks.lateness",
            "--produce",
            producer_url or url,
            queue,
            str(jobs),
            str(seconds),
        ]
        producer = await asyncio.create_subprocess_exec(*command)
        if poll_ms is None:
            async with Promoter(backend, settings, events=[Sink()]).running():
                await _all(late, jobs, producer)
        else:
            await _polling(backend, settings, late, jobs, producer)
    return Lateness.of(late)


async def _all(late: list[int], jobs: int, producer: asyncio.subprocess.Process) -> None:
    await producer.wait()
    while len(late) < jobs:  # filled by the sink
        await asyncio.sleep(0.05)


async def _polling(backend, settings, late, jobs, producer) -> None:  # type: ignore[no-untyped-def]
    """The reference's loop: lock and promote every 100 ms, whatever is known of the next due time."""
    from promoter_core.model import PromotionRequest

    waiter = asyncio.create_task(_all(late, jobs, producer))
    while not waiter.done():
        lease = await backend.lock(settings.queue, settings.holder_id, settings.lock_ttl_ms)
        promotion = await backend.promote(lease, PromotionRequest(256, 1_000_000))
        late.extend(job.promoted_ms - job.due_ms for job in promotion.jobs)
        if promotion.promoted < 256:
            await asyncio.sleep(settings.poll_interval_ms / 1000)


async def idle_commands(url: str, seconds: float) -> float:
    """Commands a second that an idle leader sends, the probes of its watching connection included."""
    client = Redis.from_url(url)
    async with connect(url) as backend, Promoter(backend, PromoterSettings(queue="idle")).running():
        await asyncio.sleep(1)
        before = (await client.info("stats"))["total_commands_processed"]
        scripts = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await asyncio.sleep(seconds)
        after = (await client.info("stats"))["total_commands_processed"]
        runs = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] - scripts
    await client.aclose()
    print(f"  ({after - before - 2} by the server's count, which counts a script's own commands; {runs} round trips)")
    inner = 7  # of the promote script on an empty queue: GET, PEXPIRE, TIME, XLEN, ZRANGEBYSCORE, ZCARD, ZRANGE
    return (after - before - 2 - runs * inner) / seconds


async def main(jobs: int, seconds: float, idle_s: float) -> None:
    with valkey() as url:
        ours = await measure(url, "ours", jobs, seconds, None)
        polled = await measure(url, "polled", jobs, seconds, 100)
        print(f"{jobs} jobs due over {seconds:g} s, producer: plain ZADD")
        print(f"  promoter          {ours}")
        print(f"  polling at 100 ms {polled}")
        print(f"  ratio p99         1/{polled.p99 / max(ours.p99, 1):.0f}")
        print(
            f"idle leader: {await idle_commands(url, idle_s):.2f} commands a second over {idle_s:g} s (reference: 20)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--produce", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.produce:
        url, queue, jobs, seconds = args.produce
        asyncio.run(produce(url, queue, int(jobs), float(seconds)))
    else:
        asyncio.run(main(args.jobs, args.seconds, args.idle_seconds))
