"""The sections of the report: what is measured, on which server, and which aims it is held to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from redis import Redis as SyncRedis
from redis.asyncio import Redis

from benchmarks import faster, fleet, reference, storm, takeover
from benchmarks.peers import run as peers
from benchmarks.report import Report
from benchmarks.servers import redis_server, valkey
from promoter_bench import limits as limit
from promoter_bench import measures
from promoter_bench.store import open_store

CLIENTS = {"redis-py": "redis", "GLIDE": "glide"}
REFERENCE_BATCH = 256  # ChasquiMQ's own


@dataclass
class Scale:
    """How much of everything."""

    jobs: int
    rounds: int
    seconds: float
    waiting: int
    peers: int
    url: str | None = None  # of a server for the peers, in place of one of our own

    @classmethod
    def of(cls, *, quick: bool) -> Scale:
        return cls(20_000, 1, 2, 200_000, 200) if quick else cls(200_000, 3, 10, 10_000_000, 2_000)


@asynccontextmanager
async def on(url: str, scheme: str = "redis") -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        yield await open_store(stack, url.replace("redis://", f"{scheme}://"))


async def drain(report: Report, scale: Scale) -> None:
    """Ours by each client, and the reference's sequence of commands, turn by turn on one server."""
    table = report.section(
        f"Drain of {scale.jobs:,} due jobs of about 100 bytes",
        *("", "events", "jobs/s", "of the reference", "client µs/job", "server µs/job"),
        note=f"Median of {scale.rounds}. Events on: with `waiting` events and cancel indexes. Reference: the commands "
        f"of ChasquiMQ's promoter in their order, batch {REFERENCE_BATCH}; ours: the default settings.",
    )
    for events in (False, True):
        seen: dict[str, list[measures.Drained]] = {}
        jobs = scale.jobs
        with valkey() as url:
            by = partial(_by_reference, url)
            for _ in range(scale.rounds):
                async with on(url) as store:
                    fewer = jobs // 10 if events else jobs  # one awaited XADD an event
                    seen.setdefault("reference", []).append(await measures.drain(store, fewer, events=events, by=by))
                for name, scheme in CLIENTS.items():
                    async with on(url, scheme) as store:
                        seen.setdefault(name, []).append(await measures.drain(store, jobs, events=events))
        async with AsyncExitStack() as stack:
            store = await open_store(stack, "memory://")
            seen["memory"] = [await measures.drain(store, jobs, events=events)]
        rates = {name: median(d.rate for d in all) for name, all in seen.items()}
        for name, all in seen.items():
            client, server = median(d.client_us for d in all), [d.server_us for d in all if d.server_us is not None]
            ratio = rates[name] / rates["reference"]
            table.add(name, "on" if events else "off", rates[name], ratio, client, median(server) if server else "–")
        ratio, aim = rates["redis-py"] / rates["reference"], 15.0 if events else 2.0
        what = f"drain, events {'on with cleanup' if events else 'off'}, against the reference"
        report.aim(what, f"≥ {aim:.1f}×", f"{ratio:.1f}×", ratio >= aim)
        report.bars[f"drain-{'on' if events else 'off'}"] = (
            f"Drain, events {'on' if events else 'off'}, jobs a second",
            rates,
        )


async def _by_reference(url: str, queue: str, jobs: int, events: bool) -> None:
    await reference.drain(url, queue, REFERENCE_BATCH, events=events)


async def limits(report: Report, scale: Scale) -> None:
    """The promote script against scripts that do nothing but its XADDs, on two servers."""
    table = report.section(
        "The script against its limit, µs of the server a job, batch 1,024",
        *("server", "events", "XADD of a constant", "XADD of entries passed in", "promote", "ratios"),
    )
    for name, start in (("Valkey 9.1", valkey), ("Redis 8.2", redis_server)):
        with start() as url:
            for events, aim in ((False, 0.80), (True, 0.90)):
                async with on(url) as store:
                    runs = [await limit.limits(store, scale.jobs // 2, events=events) for _ in range(scale.rounds)]
                us = {key: min(run[key] for run in runs) for key in runs[0]}
                ratios = us["constant"] / us["promote"], us["passed"] / us["promote"]
                shown = f"{ratios[0]:.2f}, {ratios[1]:.2f}"
                on_off = "on" if events else "off"
                table.add(name, on_off, us["constant"], us["passed"], us["promote"], shown)
                report.aim(f"script's limit, events {on_off}, {name}", f"≥ {aim:.2f}", shown, max(ratios) >= aim)


async def lateness(report: Report, scale: Scale) -> None:
    jobs = int(scale.seconds * 200)
    table = report.section(
        f"Lateness of {jobs:,} jobs due over {scale.seconds:g} s, ms", "", "producer", "p50", "p99", "max"
    )
    bars = {}
    with valkey() as url:
        for name, scheme in CLIENTS.items():
            for producer in ("plain ZADD", "ours"):
                async with on(url, scheme) as store:
                    late = await measures.lateness(store, jobs, scale.seconds, plain=producer == "plain ZADD")
                table.add(name, producer, *late.values())
                bars[f"{name}, {producer}"] = late["p99"]
                if name == "redis-py":
                    report.aim(f"lateness p99, {producer}", "≤ 3 ms", f"{late['p99']:g} ms", late["p99"] <= 3)
        async with on(url) as store:
            late = await reference.lateness(store, jobs, scale.seconds)
        table.add("reference (polls every 100 ms)", "plain ZADD", *late.values())
        bars["reference"] = late["p99"]
        async with AsyncExitStack() as stack:
            store = await open_store(stack, "memory://")
            table.add("memory", "ours", *(await measures.lateness(store, jobs, scale.seconds, plain=False)).values())
        async with on(url) as store:
            last_s, bare_s = await measures.same_instant(store, 10_000)
        seen = f"last after {last_s * 1000:.0f} ms, bare drain {bare_s * 1000:.0f} ms"
        report.aim("10,000 jobs due at the same instant", "≤ 2× a bare drain", seen, last_s <= 2 * bare_s)
        result = await storm.storm(url, 20_000, scale.seconds)
        seen = f"{result.ticks_a_second:.0f} ticks/s, {result.server_share:.1f}%, p99 {result.late_ms['p99']:g} ms"
        kept = result.ticks_a_second <= 500 and result.server_share <= 5 and result.late_ms["p99"] <= 12
        what = f"a producer of {result.rate:,.0f} future jobs/s"
        report.aim(what, "≤ 500 ticks/s, ≤ 5% of the server, p99 ≤ 12 ms", seen, kept)
    report.bars["lateness"] = ("Lateness, p99, ms", bars)


async def idle(report: Report, scale: Scale) -> None:
    table = report.section("Idle", "", "commands/s", "promoter, % of a core", "server, % of a core")
    with valkey() as url:
        async with on(url) as store:
            commands = await measures.idle_commands(store, scale.seconds * 2)
        table.add("1 queue", commands, "–", "–")
        report.aim("commands on an idle queue", "≤ 1 a second", f"{commands:.2f}", commands <= 1)
        async with Redis.from_url(url) as client:
            ours, theirs, calls = await fleet.idle(url, client, 1_000, scale.seconds * 2)
        table.add("1,000 queues", calls, ours, theirs)
        seen = f"{ours:.2f}% and {theirs:.2f}%"
        report.aim("1,000 idle queues, each side", "≤ 1% of a core", seen, max(ours, theirs) <= 1)


async def scheduling(report: Report, scale: Scale) -> None:
    table = report.section("Scheduling in bulk, with index", "", "jobs/s", "of a bare pipelined loop")
    memory = report.section("Memory of a delayed job of about 100 bytes, bytes", "", "without index", "with index")
    with valkey() as url:
        for name, scheme in CLIENTS.items():
            async with on(url, scheme) as store:
                pairs = [
                    (await measures.scheduling(store, scale.jobs // 2), await measures.bare_scheduling(store, 50_000))
                    for _ in range(scale.rounds)
                ]
            rate, ratio = median(a for a, _ in pairs), median(a / b for a, b in pairs)
            table.add(name, rate, ratio)
            if name == "redis-py":
                seen = f"{rate:,.0f} a second, {ratio:.2f}"
                report.aim(
                    "scheduling, bulk", "≥ 75,000/s and ≥ 1.5 of a bare loop", seen, rate >= 75e3 and ratio >= 1.5
                )
        async with on(url) as store:
            memory.add("Valkey 9.1", *[await measures.memory(store, scale.jobs, index=i) for i in (False, True)])
        async with AsyncExitStack() as stack:
            table.add("memory", await measures.scheduling(await open_store(stack, "memory://"), scale.jobs // 2), "–")


async def growth(report: Report, scale: Scale) -> None:
    few, many = scale.waiting // 100, scale.waiting
    table = report.section("Drain rate while many more jobs wait", "waiting", "jobs/s")
    with valkey() as url:
        rates = {}
        for waiting in (few, many):
            async with on(url) as store:
                rates[waiting] = await measures.growth(store, waiting, min(scale.jobs, 100_000))
            table.add(waiting, rates[waiting])
    ratio = rates[many] / rates[few]
    report.aim(f"drain with {many:,} waiting against {few:,}", "≥ 0.85", f"{ratio:.2f}", ratio >= 0.85)


async def failover(report: Report, scale: Scale) -> None:
    table = report.section("Takeover by a standby, ms", "", "median", "max")
    rounds = 3 * scale.rounds
    with valkey() as url:
        async with Redis.from_url(url) as client:
            for what, sign, aim in takeover.ENDS:
                took = sorted([await takeover.one(url, client, i, sign) for i in range(rounds)])
                table.add(what, took[len(took) // 2], took[-1])
                report.aim(f"takeover: {what}", f"≤ {aim:g} ms", f"max {took[-1]:.0f} ms", took[-1] <= aim)


async def others(report: Report, scale: Scale) -> None:
    """Each peer with its own worker and a no-op job."""
    instant, spread = scale.peers, max(scale.peers // 5, 100)
    table = report.section(
        f"Delayed jobs in other task queues: {spread} due over {scale.seconds:g} s, and {instant} at one instant",
        *("", "version", "late p50, ms", "p99", "max", "all started after, s"),
        note="Each with its own worker and a no-op job, one process, default settings; ours is the promoter and a "
        "plain consumer of the stream. Lateness is from the due time to the start of the job; the last column is for "
        "those due at one instant. A negative value is a start before the due time.",
    )
    bars = {}
    with nullcontext(scale.url) if scale.url else valkey() as url:
        flush = SyncRedis.from_url(url).flushall
        for peer in peers.PEERS:
            flush()
            late = await asyncio.to_thread(peers.run, peer, url, spread, 3.0, scale.seconds)
            flush()
            burst = await asyncio.to_thread(peers.run, peer, url, instant, 4.0, 0.0)
            if late.error or burst.error:
                table.add(peer, late.version or burst.version, f"failed: {late.error or burst.error}", "", "", "")
                continue
            shown = [f"{late.percentile(part):,.0f}" for part in (0.5, 0.99, 1.0)]
            table.add(peer, late.version, *shown, burst.took_s)
            bars[peer] = max(late.percentile(0.99), 1.0)
    report.bars["peers"] = ("Delayed jobs: lateness, p99, ms", bars)


Measure = Callable[[Report, Scale], Awaitable[None]]


async def faster_than_before(report: Report, scale: Scale) -> None:
    await faster.measure(report, 3 if scale.rounds == 1 else 12)


SECTIONS: dict[str, Measure] = {
    "drain": drain,
    "limits": limits,
    "lateness": lateness,
    "idle": idle,
    "scheduling": scheduling,
    "growth": growth,
    "takeover": failover,
    "peers": others,
    "faster": faster_than_before,
}
