"""How fast a backlog drains behind a long or unsteady link, or on a store with a dear commit.

    python -m benchmarks.latency [--jobs 20000] [--rounds 3]

Each rate stands beside that of the best fixed batch (`max_tick_ms=0`). All figures of a case are of one run, in turns,
so the ratio holds on any machine. A fixed batch counts if the server's work on a tick fits `max_tick_ms`, or four times
the fixed cost of a commit where that is more. Last, what comes out when jobs come in all the time and the link becomes
long while we lead.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ulid import ULID

from benchmarks.servers import valkey
from promoter_bench.measures import LatenessSink
from promoter_bench.store import PAYLOAD, percentiles
from promoter_core import DelayedQueue, Job, Promoter, PromoterSettings, connect
from promoter_core.engine.batch_size import PAYS
from promoter_core.spi import Lease, LeaseLost, Promotion, PromotionRequest
from promoter_core.testing import RecordingMetrics
from tests.proxy import proxy

MAX_TICK_MS = 5
FIXED = (256, 512, 1_024, 2_048, 4_096, 10_000)


@dataclass(frozen=True)
class Case:
    name: str
    way_s: Callable[[], float] = field(default=lambda: 0.0)  # in each direction
    commit_s: float = 0.0

    @property
    def allowed_ms(self) -> float:
        return max(MAX_TICK_MS, PAYS * self.commit_s * 1000)


CASES = (
    Case("a link of +100 ms", lambda: 0.050),
    Case("a link of 25 ± 10 ms", lambda: random.uniform(0.0075, 0.0175)),
    Case("a commit of 8 ms", commit_s=0.008),
)


class Measured:
    """A backend that is always asked for its work, and whose commits take longer by `commit_s`."""

    def __init__(self, backend: Any, commit_s: float) -> None:
        self._backend = backend
        self._commit_s = commit_s
        self.works_ms: list[float] = []  # of ticks that were full, or nearly: one ends after a MiB

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        answer: Promotion | LeaseLost = await self._backend.promote(lease, replace(request, want_work=True))
        if not isinstance(answer, Promotion) or answer.work_ms is None:
            return answer
        if answer.promoted and self._commit_s:
            began_s = time.perf_counter()
            await asyncio.sleep(self._commit_s)
            answer = replace(answer, work_ms=answer.work_ms + (time.perf_counter() - began_s) * 1000)
        if answer.promoted > request.limit / 2 and answer.work_ms is not None:
            self.works_ms.append(answer.work_ms)
        return answer if request.want_work else replace(answer, work_ms=None)


@asynccontextmanager
async def linked(url: str) -> Any:
    """A backend behind a proxy, one that is not, and the proxy."""
    async with (
        proxy(int(url.rpartition(":")[2])) as network,
        connect(f"redis://{network.address}") as far,
        connect(url) as near,
    ):
        yield far, near, network


async def drain(url: str, case: Case, jobs: int, batch: int, max_tick_ms: int) -> tuple[float, float]:
    """Jobs a second, and the median of the server's work on a full tick in ms."""
    name, metrics = f"latency-{ULID()}", RecordingMetrics()
    async with linked(url) as (far, near, network):
        queue = DelayedQueue(near, name)
        await queue.schedule_many([Job(data=PAYLOAD, delay=0.001, index=False) for _ in range(jobs)])
        await asyncio.sleep(0.05)
        backend: Any = Measured(far, case.commit_s)
        settings = PromoterSettings(promote_batch=batch, max_tick_ms=max_tick_ms)
        network.way_s = case.way_s
        began_s = time.perf_counter()
        async with Promoter(backend, name, settings, metrics=[metrics]).running():
            while metrics.promoted < jobs:
                await asyncio.sleep(0.005)
            took_s = time.perf_counter() - began_s
    return metrics.promoted / took_s, statistics.median(backend.works_ms)


async def beside_the_best(url: str, case: Case, jobs: int, rounds: int) -> str:
    fixed = [batch for batch in FIXED if batch <= jobs / 2]
    seen: dict[int, list[tuple[float, float]]] = {batch: [] for batch in (0, *fixed)}
    for _ in range(rounds):
        for batch, figures in seen.items():
            figures.append(await drain(url, case, jobs, batch or 256, 0 if batch else MAX_TICK_MS))
    rates = {batch: statistics.median(rate for rate, _ in figures) for batch, figures in seen.items()}
    works = {batch: statistics.median(work for _, work in figures) for batch, figures in seen.items()}
    fitting = [batch for batch in fixed if works[batch] <= case.allowed_ms] or [FIXED[0]]
    best = max(fitting, key=lambda batch: rates[batch])
    return (
        f"{case.name}: {rates[0]:,.0f} jobs/s (ticks of {works[0]:.1f} ms), best fixed batch {best} with "
        f"{rates[best]:,.0f} jobs/s (ticks of {works[best]:.1f} ms): ratio {rates[0] / rates[best]:.2f}"
    )


async def incoming(url: str, way_s: float, rate: float, seconds: float) -> str:
    """The link becomes long while we lead and jobs come in."""
    name, sink, metrics = f"latency-{ULID()}", LatenessSink(), RecordingMetrics()
    async with linked(url) as (far, near, network):
        queue = DelayedQueue(near, name)
        async with Promoter(far, name, metrics=[metrics], events=[sink]).running():
            began_s, sent = time.perf_counter(), 0
            while (now_s := time.perf_counter() - began_s) < seconds:
                if now_s > 1:
                    network.way_s = lambda: way_s
                while sent < now_s * rate:
                    await queue.schedule(PAYLOAD, delay=0.01)
                    sent += 1
                await asyncio.sleep(0.5 / rate)
            await asyncio.sleep(3 * way_s)
            out, left = metrics.promoted, (await queue.stats()).depth
    late_ms = percentiles(sink.late_ms)
    return (
        f"+{2000 * way_s:.0f} ms, {rate:.0f} jobs/s in: {out / seconds:.1f} out, {left} left, lateness in ms {late_ms}"
    )


async def main(jobs: int, rounds: int) -> None:
    with valkey() as url:
        for case in CASES:
            print(await beside_the_best(url, case, jobs, rounds), flush=True)
        for way_s, rate in ((0.050, 40), (0.008, 200)):
            print(await incoming(url, way_s, rate, 10), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    asyncio.run(main(args.jobs, args.rounds))
