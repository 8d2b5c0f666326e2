"""GLIDE against redis-py: drain and lateness, on one embedded Valkey, in one run.

    python -m benchmarks.clients [--jobs 100000] [--rounds 3]

Lateness under a producer that announces (ours), and under a plain ZADD client, for which a GLIDE leader polls.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

from benchmarks.drain import load
from benchmarks.lateness import Lateness, measure
from benchmarks.servers import valkey
from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings, connect
from promoter_core.testing import RecordingEvents

CLIENTS = ("redis", "glide")


async def drain(url: str, jobs: int, *, events: bool) -> float:
    async with connect(url) as backend:
        settings = PromoterSettings(queue="bench", promote_batch=1024, events=events)
        began = time.perf_counter()
        await Promoter(backend, settings).run(until_idle=True)
        return jobs / (time.perf_counter() - began)


async def announced(url: str, queue: str, jobs: int, seconds: float) -> Lateness:
    """Lateness of jobs that this library schedules while they become due."""
    events = RecordingEvents()
    async with connect(url) as backend, connect(url) as producing:
        delayed = DelayedQueue(producing, queue)
        async with Promoter(backend, PromoterSettings(queue=queue), events=[events]).running():
            for i in range(jobs):
                await delayed.schedule_many([Job(data=i, delay=0.05 + (i * 37 % 200) / 1000)])
                await asyncio.sleep(seconds / jobs)
            while len(events.jobs) < jobs:  # filled by the promoter
                await asyncio.sleep(0.02)
    return Lateness.of([job.promoted_ms - job.due_ms for job in events.jobs])


async def main(jobs: int, rounds: int) -> None:
    with valkey() as server:
        urls = {client: server.replace("redis://", f"{client}://") for client in CLIENTS}
        print(f"drain of {jobs:,} due jobs, batch 1024, jobs a second (median of {rounds})")
        for events in (False, True):
            rates: dict[str, list[float]] = {client: [] for client in CLIENTS}
            for _ in range(rounds):
                for client, url in urls.items():
                    await load(server, "bench", jobs, index=events)
                    rates[client].append(await drain(url, jobs, events=events))
            ours, theirs = (median(rates[client]) for client in CLIENTS)
            on = "on" if events else "off"
            print(f"  events {on:<4} redis-py {ours:>9,.0f}  GLIDE {theirs:>9,.0f}  ratio {theirs / ours:.2f}")
        for client, url in urls.items():
            print(f"lateness, {client:<5}, announced:  {await announced(url, f'a-{client}', 1000, 5)}")
        for client, url in urls.items():
            print(f"lateness, {client:<5}, plain ZADD: {await measure(url, f'z-{client}', 1000, 5, None, server)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    asyncio.run(main(args.jobs, args.rounds))
