"""How fast waiting jobs are exported, imported and copied, beside bare loops of `list_jobs` and `schedule`.

    python -m benchmarks.transfer [--jobs 50000] [--rounds 5] [--url redis://…]

All run on one server, in turns and in random order; ratios are medians of those of each round. The bare loops move the
same pages of 1,000 jobs, make no lines of JSON, and do not look whether a job is there. With --url, the queues
`transfer-*` of that server are used and emptied.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.servers import valkey
from promoter_core import DelayedQueue, Job, connect, copy_jobs, export_jobs, import_jobs
from promoter_core.spi import JobQuery, JobRequest, ManagementSupport

SOURCE, TARGET = "transfer-source", "transfer-target"
PAGE = 1_000


async def empty(backend: Any) -> None:
    await DelayedQueue(backend, TARGET).cancel_where()


async def bare_list(backend: ManagementSupport) -> list[JobRequest]:
    """What an export would have to read, as requests."""
    found, cursor = list[JobRequest](), ""
    while True:
        page = await backend.list_jobs(SOURCE, JobQuery(limit=PAGE, after=cursor, want_details=True))
        for job in page.jobs:
            found.append(
                JobRequest(job.id or "", job.envelope, name=job.name, due_ms=job.due_ms, unique=bool(job.unique))
            )
        if not (cursor := page.cursor):
            return found


async def bare_schedule(backend: Any, requests: list[JobRequest]) -> None:
    for first in range(0, len(requests), PAGE):
        await backend.schedule(TARGET, requests[first : first + PAGE])


async def exported(backend: Any) -> bytes:
    return b"".join([page.lines async for page in export_jobs(backend, SOURCE)])


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def measure(url: str, jobs: int, rounds: int, *, unique: bool) -> dict[str, list[float]]:
    """Seconds of each part in each round."""
    took: dict[str, list[float]] = {}
    async with connect(url) as backend:
        source: Any = backend
        await DelayedQueue(source, SOURCE).cancel_where()
        await empty(source)
        made = [
            Job(data={"to": f"user-{i}@example.com"}, delay=86_400 + i, job_id=f"job-{i}" if unique else None)
            for i in range(jobs)
        ]
        await DelayedQueue(source, SOURCE).schedule_many(made)
        requests, data = await bare_list(source), await exported(source)
        parts: dict[str, Callable[[], Awaitable[object]]] = {
            "bare list": lambda: bare_list(source),
            "export": lambda: exported(source),
            "bare schedule": lambda: bare_schedule(source, requests),
            "import": lambda: import_jobs(source, io.BytesIO(data), queue=TARGET),
            "import again": lambda: import_jobs(source, io.BytesIO(data), queue=TARGET),
            "copy": lambda: copy_jobs(source, SOURCE, source, to_queue=TARGET),
        }
        for _ in range(rounds):
            for name in random.sample(list(parts), len(parts)):
                await empty(source)
                if name == "import again":
                    await import_jobs(source, io.BytesIO(data), queue=TARGET)
                took.setdefault(name, []).append(await timed(parts[name]))
        await empty(source)
        await DelayedQueue(source, SOURCE).cancel_where()
    return took


def ratio(took: dict[str, list[float]], name: str) -> str:
    """The rate as a part of that of the bare loops for the same work."""
    bare = {
        "export": took["bare list"],
        "import": took["bare schedule"],
        "import again": took["bare schedule"],
        "copy": [a + b for a, b in zip(took["bare list"], took["bare schedule"], strict=True)],
    }.get(name)
    if bare is None:
        return ""
    return f"{statistics.median(b / t for b, t in zip(bare, took[name], strict=True)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url")
    args = parser.parse_args()
    with ExitStack() as stack:
        url = args.url or stack.enter_context(valkey())
        for unique in (False, True):
            took = asyncio.run(measure(url, args.jobs, args.rounds, unique=unique))
            kind = "unique jobs" if unique else "jobs without an id of their own"
            table = Table(title=f"{args.jobs:,} {kind}", title_justify="left")
            for column in ("", "jobs a second", "of the bare loop"):
                table.add_column(column, justify="right" if column else "left")
            for name, seconds in took.items():
                table.add_row(name, f"{args.jobs / statistics.median(seconds):,.0f}", ratio(took, name))
            Console().print(table)


if __name__ == "__main__":
    main()
