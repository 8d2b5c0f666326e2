"""The cost of the web page: how long its pages take, and the CPU time of the server and of the page's own process.

    python -m benchmarks.ui [--seconds 30]

On a Valkey 9.1 of its own, with 1, 100 and 5,000 queues as in `benchmarks.monitor`, and three visitors who watch the
first page, sorted in three ways. A share is of one core, less what the server takes when nothing asks it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from statistics import median

import aiohttp
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.monitor import IDLE_S, fill, share
from benchmarks.servers import valkey

PORT = 8093
PAGES = ("", "?sort=overdue&order=desc", "?find=queue-0*9&page=2", "?state=unled", "leaders", "queue?q=queue-00000")
VISITORS = ("view=overview", "view=overview&sort=overdue&order=desc", "view=overview&sort=jobs&page=2")


def own_cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch(session: aiohttp.ClientSession, params: str) -> None:
    async with session.get(f"/ui/events?{params}", timeout=aiohttp.ClientTimeout(total=None)) as events:
        async for _ in events.content.iter_any():
            pass


async def measure(client: Redis, url: str, queues: int, seconds: float) -> list[str]:
    idle = await share(client, IDLE_S)
    command = [sys.executable, "-m", "promoter_core", "ui", "--url", url, "--port", str(PORT)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as session:
            began_s = time.perf_counter()
            while True:
                try:
                    async with session.get("/ui/") as answer:
                        text = await answer.text()
                        if f"<dt>queues</dt><dd>{queues:,}</dd>" in text and "not read yet" not in text:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
            shown_s = time.perf_counter() - began_s
            unwatched = await share(client, seconds) - idle
            own = -own_cpu_s(process.pid)
            await asyncio.sleep(seconds)
            own_idle = (own + own_cpu_s(process.pid)) / seconds * 100
            visitors = [asyncio.create_task(watch(session, params)) for params in VISITORS]
            own, began_s = own_cpu_s(process.pid), time.perf_counter()
            watched = await share(client, seconds) - idle
            own = (own_cpu_s(process.pid) - own) / (time.perf_counter() - began_s) * 100
            took_ms = []
            for page in PAGES * 5:
                began_s = time.perf_counter()
                async with session.get(f"/ui/{page}") as answer:
                    assert answer.status == 200
                    await answer.read()
                took_ms.append((time.perf_counter() - began_s) * 1000)
            for visitor in visitors:
                visitor.cancel()
    finally:
        process.terminate()
        await process.wait()
    return [
        f"{queues:,} queues",
        f"{shown_s:.1f} s",
        f"{max(unwatched, 0):.2f} %",
        f"{max(watched, 0):.2f} %",
        f"{own_idle:.1f} %",
        f"{own:.1f} %",
        f"{median(took_ms):.0f} ms, at most {max(took_ms):.0f} ms",
    ]


async def main(seconds: float) -> None:
    table = Table("", "all found after", "server", "server, 3 visitors", "process", "process, 3 visitors", "a page")
    with valkey() as url:
        client = Redis.from_url(url)
        filled = 0
        for queues in (1, 100, 5_000):
            await fill(client, filled, queues)
            filled = queues
            table.add_row(*await measure(client, url, queues, seconds))
        await client.aclose()
    Console(width=140).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    args = parser.parse_args()
    asyncio.run(main(args.seconds))
