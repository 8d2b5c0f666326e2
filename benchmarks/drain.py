"""Drain of due jobs: ours against the reference's sequence of commands, on one embedded Valkey, in one run.

python -m benchmarks.drain [--jobs 200000] [--rounds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

from redis.asyncio import Redis

from benchmarks import reference
from benchmarks.servers import valkey
from promoter_core import Promoter, PromoterSettings, connect
from promoter_core.envelope import pack_envelope
from promoter_resp.keys import keys_of
from promoter_resp.member import encode_member

PAYLOAD = b"\xc4\x40" + b"x" * 64  # with the envelope, about 100 bytes a member


async def load(url: str, queue: str, jobs: int, *, index: bool) -> None:
    """`jobs` due jobs in a fresh server, with their cancel index if wanted."""
    client, k = Redis.from_url(url), keys_of(queue)
    await client.flushall()
    for first in range(0, jobs, 5_000):
        pipeline = client.pipeline(transaction=False)
        members = {}
        for i in range(first, min(first + 5_000, jobs)):
            id = f"01M85SFPTNPWAT758QM{i:07d}"
            member = encode_member("", pack_envelope(id, PAYLOAD, 1_795_490_831_000, 0))
            members[member] = 1_795_000_000_000 - jobs + i
            if index:
                pipeline.set(k.index + id.encode(), member, ex=86_400)
        pipeline.zadd(k.delayed, members)
        await pipeline.execute()
    await client.aclose()


async def ours(url: str, queue: str, batch: int, *, events: bool) -> int:
    async with connect(url) as backend:
        before = (await backend.stats(queue)).depth
        settings = PromoterSettings(queue=queue, promote_batch=batch, events=events)
        await Promoter(backend, settings).run(until_idle=True)
        return before - (await backend.stats(queue)).depth


async def main(jobs: int, rounds: int) -> None:
    with valkey() as url:
        print(f"drain of {jobs:,} due jobs of about 100 bytes, jobs a second (median of {rounds})")
        print(f"{'batch':>6} {'events':>7} {'reference':>10} {'promoter':>10} {'ratio':>7}")
        for events in (False, True):
            for batch in (256, 1024):
                rates: dict[str, list[float]] = {"reference": [], "promoter": []}
                for _ in range(rounds):
                    for who, drain in (("reference", reference.drain), ("promoter", ours)):
                        await load(url, "bench", jobs, index=events)
                        began = time.perf_counter()
                        promoted = await drain(url, "bench", batch, events=events)
                        rates[who].append(promoted / (time.perf_counter() - began))
                        assert promoted == jobs, f"{who} promoted {promoted} of {jobs}"
                theirs, mine = median(rates["reference"]), median(rates["promoter"])
                on = "on" if events else "off"
                print(f"{batch:>6} {on:>7} {theirs:>10,.0f} {mine:>10,.0f} {mine / theirs:>6.1f}×")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(main(args.jobs, args.rounds))
