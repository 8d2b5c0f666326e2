"""The cost of each sink in a drain: the drain rate with it against the rate without, turn by turn on one server.

    python -m benchmarks.sinks [--jobs 100000] [--rounds 5]

Event sinks are fed as fast as they go and drop the rest; the share that they took is shown. The webhook posts to a
receiver in a separate process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any

from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from benchmarks.servers import valkey
from promoter_bench.store import ServerStore, open_store
from promoter_core import Promoter, Registry
from promoter_opentelemetry.sink import OpenTelemetryMetrics
from promoter_prometheus.sink import PrometheusMetrics
from tests.servers import free_port

METRICS = ("prometheus", "opentelemetry", "statsd", "logging metrics")
EVENTS = ("logging events", "webhook", "pubsub")


class Counting:
    """Counts the jobs that get through to a sink."""

    def __init__(self, sink: Any) -> None:
        self.sink, self.jobs, self.close = sink, 0, sink.close

    async def emit(self, queue: str, jobs: tuple[Any, ...]) -> None:
        await self.sink.emit(queue, jobs)
        self.jobs += len(jobs)


def make(name: str, url: str, hook: str) -> dict[str, list[Any]]:
    """The promoter's arguments."""
    registry = Registry()
    match name:
        case "prometheus":
            return {"metrics": [PrometheusMetrics(registry=CollectorRegistry())]}
        case "opentelemetry":
            provider = MeterProvider([InMemoryMetricReader()])
            return {"metrics": [OpenTelemetryMetrics(meter_provider=provider, tracer_provider=TracerProvider())]}
        case "statsd":
            return {"metrics": [registry.metrics_sink("statsd")]}
        case "logging metrics":
            return {"metrics": [registry.metrics_sink("logging")]}
        case "logging events":
            return {"events": [Counting(registry.event_sink("logging"))]}
        case "webhook":
            return {"events": [Counting(registry.event_sink(f"webhook:url={hook}"))]}
        case "pubsub":
            return {"events": [Counting(registry.event_sink(f"pubsub:url={url}"))]}
    return {}


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """A process that takes what is posted."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.sinks", "--receive", str(port))
    await asyncio.sleep(1.5)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        await process.wait()


async def receive(port: int) -> None:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def drain(store: ServerStore, jobs: int, sinks: dict[str, Any]) -> float:
    """Jobs a second, until the last is promoted; what event sinks still have in their queues is not waited for."""
    queue = store.new_queue()
    await store.load(queue, jobs, index=True)
    promoter = Promoter(store.backend, queue, **sinks)
    began = time.perf_counter()
    async with promoter.running():
        while (await store.raw.zcard(f"{{chasqui:{queue}}}:delayed")) > 0:
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
    await store.forget(queue)
    return jobs / took


async def measure(jobs: int, rounds: int) -> dict[str, tuple[float, float | None]]:
    """By sink: the drain rate as a part of that without sinks, and the part of the jobs that an event sink took."""
    logging.basicConfig(level=logging.INFO, filename="/dev/null")
    logging.getLogger("promoter").setLevel(logging.INFO)
    ratios: dict[str, list[float]] = {name: [] for name in (*METRICS, *EVENTS)}
    took: dict[str, float | None] = {}
    with valkey() as url:
        async with receiver() as hook, AsyncExitStack() as stack:
            store = await open_store(stack, url)
            assert isinstance(store, ServerStore)
            for _ in range(rounds):
                for name, seen in ratios.items():
                    without = await drain(store, jobs, {})
                    sinks = make(name, url, hook)
                    seen.append(await drain(store, jobs, sinks) / without)
                    counted = sinks.get("events", [None])[0]
                    took[name] = None if counted is None else counted.jobs / jobs
    return {name: (median(seen), took[name]) for name, seen in ratios.items()}


async def main(jobs: int, rounds: int) -> None:
    print(f"drain of {jobs:,} jobs with each sink against none, median of {rounds}")
    for name, (ratio, took) in (await measure(jobs, rounds)).items():
        print(f"  {name:<16} {ratio:.2f}" + (f"  it took {took:.0%} of the jobs" if took is not None else ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--receive", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    asyncio.run(receive(args.receive) if args.receive else main(args.jobs, args.rounds))
