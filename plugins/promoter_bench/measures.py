"""One function for each figure. Each uses a new queue and returns plain numbers."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from promoter_bench.store import ServerStore, Store, member_of, percentiles
from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings
from promoter_core.spi import CHASQUIMQ, BackendError, Lease, LockOutcome, PromotionRequest, Tick

Drain = Callable[[str, int, bool], Awaitable[None]]  # queue, jobs, events


@dataclass
class Drained:
    """A promoted backlog: jobs a second, and the CPU time of this process and of the server, in microseconds a job."""

    rate: float
    client_us: float
    server_us: float | None


class LatenessSink:
    """Collects lateness in milliseconds, by the store's clock."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    async def emit(self, queue: str, jobs: Any) -> None:
        self.late_ms += [job.promoted_ms - job.due_ms for job in jobs]

    async def close(self) -> None: ...


class TickSink:
    """Collects the ticks that promoted jobs."""

    wants_jobs = False

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.promoted = 0

    def on_tick(self, queue: str, tick: Tick) -> None:
        if tick.promotion.promoted:
            self.ticks.append(tick)
            self.promoted += tick.promotion.promoted

    def on_lock(self, queue: str, outcome: LockOutcome) -> None: ...

    def on_error(self, queue: str, error: BackendError) -> None: ...

    def on_forget(self, queue: str) -> None: ...


async def drain(store: Store, jobs: int, *, events: bool, by: Drain | None = None) -> Drained:
    """Promote a backlog of due jobs, with cancel indexes if `events`, by Promoter or `by` another."""
    queue = store.new_queue()
    await store.load(queue, jobs, index=events)

    async def ours(queue: str, jobs: int, events: bool) -> None:
        await Promoter(store.backend, queue, PromoterSettings(events=events)).run(until_idle=True)

    server, client, began = await store.cpu_s(), time.process_time(), time.perf_counter()
    await (by or ours)(queue, jobs, events)
    took, used = time.perf_counter() - began, time.process_time() - client
    after = await store.cpu_s()
    stats = await store.backend.stats(queue)
    if stats.depth:
        raise RuntimeError(f"{stats.depth} of {jobs} jobs were not promoted")
    if isinstance(store, ServerStore):
        await store.forget(queue)
    us = None if server is None or after is None else (after - server) / jobs * 1e6
    return Drained(jobs / took, used / jobs * 1e6, us)


async def lateness(store: Store, jobs: int, seconds: float, *, plain: bool) -> dict[str, float]:
    """Measure jobs that become due over some seconds while a plain ZADD client or this library schedules them."""
    queue, sink = store.new_queue(), LatenessSink()
    async with Promoter(store.backend, queue, events=[sink]).running():
        await asyncio.sleep(0.2)
        if plain:
            await plain_producer(store.raw_url, queue, jobs, seconds)  # type: ignore[attr-defined]
        else:
            await _our_producer(store, queue, jobs, seconds)
        async with asyncio.timeout(60):
            while len(sink.late_ms) < jobs:  # filled by the promoter
                await asyncio.sleep(0.02)
    return percentiles(sink.late_ms)


async def _our_producer(store: Store, queue: str, jobs: int, seconds: float) -> None:
    delayed, chance, start = DelayedQueue(store.backend, queue), random.Random(1), time.perf_counter()
    for i in range(jobs):
        await asyncio.sleep(max(start + seconds * i / jobs - time.perf_counter(), 0))
        await delayed.schedule(i, delay=0.001 + chance.random())


async def plain_producer(url: str, queue: str, jobs: int, seconds: float) -> None:
    command = [sys.executable, "-m", "promoter_bench.producer", url, queue, str(jobs), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError("the producer failed")


async def same_instant(store: ServerStore, jobs: int) -> tuple[float, float]:
    """Return the seconds until the last of many jobs due at once is promoted, and those of a bare drain."""
    queue, sink = store.new_queue(), TickSink()
    due_ms = int((time.time() + 1.5 + jobs / 50_000) * 1000)
    members = {member_of(f"01M85SFPTNPWAT758QM{i:09d}"): due_ms for i in range(jobs)}
    await store.raw.zadd(CHASQUIMQ.keys_of(queue).delayed, members)
    async with Promoter(store.backend, queue, metrics=[sink]).running():
        while sink.promoted < jobs:  # counted by the promoter
            await asyncio.sleep(0.005)
    last_ms = max(tick.promotion.now_ms for tick in sink.ticks)
    duration_s = sink.ticks[-1].duration_s
    bare = await drain(store, jobs, events=True)
    return (last_ms - due_ms) / 1000 + duration_s, jobs / bare.rate


async def idle_commands(store: ServerStore, seconds: float) -> float:
    """Return how many commands a second an idle leader sends."""
    queue = store.new_queue()
    async with Promoter(store.backend, queue).running():
        await asyncio.sleep(1)
        before = await store.commands()
        await asyncio.sleep(seconds)
        return (await store.commands() - before) / seconds


async def scheduling(store: Store, jobs: int) -> float:
    """Return how many jobs a second `schedule_many` adds, with a cancel index."""
    queue = store.new_queue()
    delayed = DelayedQueue(store.backend, queue)
    at = datetime.fromtimestamp(time.time() + 86_400, UTC)
    batches = [[Job(data="x" * 64, at=at) for _ in range(1_000)] for _ in range(jobs // 1_000)]
    began = time.perf_counter()
    for batch in batches:
        await delayed.schedule_many(batch)
    took = time.perf_counter() - began
    if isinstance(store, ServerStore):
        await store.forget(queue)
    return jobs / took


async def bare_scheduling(store: ServerStore, jobs: int) -> float:
    """Return how many jobs a second a pipelined loop adds with the same writes: a ZADD and a SET with a TTL each."""
    k = CHASQUIMQ.keys_of(store.new_queue())
    due_ms = int((time.time() + 86_400) * 1000)
    began = time.perf_counter()
    for first in range(0, jobs, 1_000):
        pipeline = store.raw.pipeline(transaction=False)
        for i in range(first, first + 1_000):
            id = f"01M85SFPTNPWAT758QM{i:09d}"
            member = member_of(id)
            pipeline.zadd(k.delayed, {member: due_ms})
            pipeline.set(k.index + id.encode(), member, px=86_400_000)
        await pipeline.execute()
    took = time.perf_counter() - began
    await store.forget(store.queues[-1])
    return jobs / took


async def memory(store: ServerStore, jobs: int, *, index: bool) -> float:
    """Return how many bytes of the server's memory a delayed job of about 100 bytes takes."""
    queue = store.new_queue()
    before = await store.memory()
    await store.load(queue, jobs, index=index)
    used = await store.memory() - before
    await store.forget(queue)
    return used / jobs


async def growth(store: ServerStore, waiting: int, due: int) -> float:
    """Return the drain rate of some due jobs while many more wait."""
    queue = store.new_queue()
    await store.load(queue, waiting, index=False, first_due_ms=int((time.time() + 86_400) * 1000))
    await store.load(queue, due, index=False)
    began = time.perf_counter()
    await Promoter(store.backend, queue, PromoterSettings(events=False)).run(until_idle=True)
    rate = due / (time.perf_counter() - began)
    await store.forget(queue)
    return rate


async def round_trip(store: Store) -> float:
    """Return the milliseconds of a tick that finds nothing due."""
    queue = store.new_queue()
    lease = await store.backend.lock(queue, "bench", 60_000)
    assert isinstance(lease, Lease)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        await store.backend.promote(lease, PromotionRequest(limit=1, max_stream_len=1_000_000))
        times.append((time.perf_counter() - began) * 1000)
    return percentiles(times)["p50"]
