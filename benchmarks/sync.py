"""What `promoter_core.sync` costs a call, beside the asynchronous queue.

    python -m benchmarks.sync [--calls 2000] [--rounds 7] [--url URL]

Both schedule the same jobs on one server, in turns, so the ratios hold on any machine: one call at a time, and sixteen
at a time, in threads beside tasks. `memory://` shows the cost of a call alone. The rates are medians of those of each
round, in calls a second; so are the ratios, sync to async.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

from benchmarks.servers import valkey
from promoter_core import DelayedQueue, connect, sync

AT_ONCE = 16
Measure = Callable[[str, int], float]


def async_alone(url: str, calls: int) -> float:
    return asyncio.run(_async(url, calls, 1))


def async_together(url: str, calls: int) -> float:
    return asyncio.run(_async(url, calls, AT_ONCE))


async def _async(url: str, calls: int, at_once: int) -> float:
    async with connect(url) as backend:
        queue = DelayedQueue(backend, "sync")

        async def work() -> None:
            for n in range(calls // at_once):
                await queue.schedule(n, delay=3600)

        await queue.stats()
        return await _rate(calls, lambda: asyncio.gather(*(work() for _ in range(at_once))))


async def _rate(calls: int, work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return calls / (time.perf_counter() - begun)


def sync_alone(url: str, calls: int) -> float:
    return _sync(url, calls, 1)


def sync_together(url: str, calls: int) -> float:
    return _sync(url, calls, AT_ONCE)


def _sync(url: str, calls: int, at_once: int) -> float:
    with sync.connect(url) as backend, ThreadPoolExecutor(at_once) as pool:
        queue = sync.DelayedQueue(backend, "sync")

        def work(_: int) -> None:
            for n in range(calls // at_once):
                queue.schedule(n, delay=3600)

        queue.stats()
        begun = time.perf_counter()
        for _ in pool.map(work, range(at_once)):
            pass
        return calls / (time.perf_counter() - begun)


CASES: dict[str, tuple[Measure, Measure]] = {
    "one at a time": (async_alone, sync_alone),
    f"{AT_ONCE} at a time": (async_together, sync_together),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--url", help="instead of memory:// and a server of its own")
    options = parser.parse_args()
    print(f"{'store':<10} {'calls':<14} {'async/s':>9} {'sync/s':>9} {'ratio':>6}")
    for store, url in _stores(options.url):
        with url as address:
            for name, measures in CASES.items():
                rounds = [[measure(address, options.calls) for measure in measures] for _ in range(options.rounds)]
                theirs, ours = (statistics.median(rates) for rates in zip(*rounds, strict=True))
                ratio = statistics.median(ours / theirs for theirs, ours in rounds)
                print(f"{store:<10} {name:<14} {theirs:>9,.0f} {ours:>9,.0f} {ratio:>6.2f}")


def _stores(url: str | None) -> Iterator[tuple[str, AbstractContextManager[str]]]:
    if url is not None:
        yield url.partition(":")[0], nullcontext(url)
        return
    yield "memory", nullcontext("memory://")
    yield "valkey", valkey()


if __name__ == "__main__":
    main()
