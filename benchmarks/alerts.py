"""Provoke failures under real Prometheus servers: how many seconds until an alert fires?

    python -m benchmarks.alerts [--quiet 600] [--intervals 5,15,60]

Two promoters with a queue each, an exporter, and a Prometheus for each scrape interval, all on one server of its own.
After a time in which nothing may fire, the only process of a queue is killed, and then jobs come for a queue that no
process serves. Then several at once, each on a queue of its kind: malformed members, a full stream, a webhook that is
refused, a process that starts again every few seconds. Needs `prometheus` on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis

from benchmarks.servers import valkey
from promoter_core import DelayedQueue, Job, connect
from tests.servers import free_port

RULES = Path(__file__).parents[1] / "docs/how-to/monitor"
WARM_UP_S = 75  # each Prometheus has scraped everything once
GIVE_UP_S = 330


def start(stack: ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def promoter(stack: ExitStack, *words: str) -> subprocess.Popen[bytes]:
    return start(stack, sys.executable, "-m", "promoter_core", *words)


def prometheus(stack: ExitStack, folder: Path, interval_s: int, promoters: list[int], exporter: int) -> int:
    """Its port."""
    config, port = folder / f"{interval_s}.json", free_port()
    jobs = [("promoter", promoters), ("exporter", [exporter])]
    config.write_text(
        json.dumps(
            {
                "global": {
                    "scrape_interval": f"{interval_s}s",
                    "scrape_timeout": f"{min(interval_s, 10)}s",
                    "evaluation_interval": "15s",
                },
                "rule_files": [str(path) for path in sorted(RULES.glob("alerts*.yml"))],
                "scrape_configs": [
                    {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in ports]}]}
                    for name, ports in jobs
                ],
            }
        )
    )
    data = f"--storage.tsdb.path={folder / f'data-{interval_s}'}"
    start(stack, "prometheus", f"--config.file={config}", data, f"--web.listen-address=127.0.0.1:{port}")
    return port


def firing(port: int) -> set[tuple[str, str]]:
    """Names of alerts, and the queue of each."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    return {(a["labels"]["alertname"], a["labels"].get("queue", "")) for a in alerts if a["state"] == "firing"}


async def watch(ports: dict[int, int], queue: str | None, until: set[str]) -> dict[int, dict[str, float]]:
    """Seconds until each alert on the queue fires, or with None each of `until`, by scrape interval; until all have."""
    began_s, found = time.monotonic(), dict[int, dict[str, float]]({interval_s: {} for interval_s in ports})
    while time.monotonic() - began_s < GIVE_UP_S and any(until - seen.keys() for seen in found.values()):
        for interval_s, port in ports.items():
            for name, of in firing(port):
                if of == queue or (queue is None and name in until):
                    found[interval_s].setdefault(name, time.monotonic() - began_s)
        await asyncio.sleep(0.5)
    return found


async def keep_busy(url: str, queues: list[str]) -> None:
    async with connect(url) as backend:
        for i in range(1_000_000):
            for queue in queues:
                await DelayedQueue(backend, queue).schedule_many([Job(data=i, delay=1 + n / 10) for n in range(10)])
                await DelayedQueue(backend, queue).schedule(i, delay=600)
            await asyncio.sleep(1)


async def main(quiet_s: float, intervals: list[int]) -> None:
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not on the PATH: on Debian, apt-get install prometheus")
    with valkey() as url, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ports, extra, exporter = [free_port(), free_port()], [free_port() for _ in range(3)], free_port()
        emails, _ = (
            promoter(stack, "run", "--url", url, "--queue", name, "--http", str(port))
            for name, port in zip(("emails-*", "bills-*"), ports, strict=True)
        )
        promoter(stack, "exporter", "--url", url, "--listen", str(exporter))
        scraped = [*ports, *extra]
        servers = {
            interval_s: prometheus(stack, Path(folder), interval_s, scraped, exporter) for interval_s in intervals
        }
        busy = asyncio.create_task(keep_busy(url, ["emails-1", "bills-1"]))
        await asyncio.sleep(WARM_UP_S)
        fired, until_s = set[tuple[str, str]](), time.monotonic() + quiet_s
        while time.monotonic() < until_s:
            for port in servers.values():
                fired |= firing(port)
            await asyncio.sleep(5)
        print(f"healthy for {quiet_s:g} s: {sorted(fired) or 'nothing fires'}", flush=True)
        emails.kill()
        seen = await watch(servers, "emails-1", {"PromoterUnserved", "PromoterQueueLost"})
        print("the only process of a queue is killed:", shown(seen), sep="\n", flush=True)
        async with connect(url) as backend:
            await DelayedQueue(backend, "nobodys").schedule_many([Job(data=i, delay=3600) for i in range(10)])
            seen = await watch(servers, "nobodys", {"PromoterUnserved"})
        print("a queue that nobody serves:", shown(seen), sep="\n", flush=True)
        async with several(url, extra):
            seen = await watch(servers, None, TOGETHER)
        print("several failures at once:", shown(seen), sep="\n", flush=True)
        busy.cancel()
        with suppress(asyncio.CancelledError):
            await busy


TOGETHER = {"PromoterMalformed", "PromoterDeadLetters", "PromoterHeldBack", "PromoterSinkFailure", "PromoterRestarts"}


@asynccontextmanager
async def several(url: str, ports: list[int]) -> AsyncIterator[None]:
    """Malformed members, a full stream, a refused webhook, and restarts, for as long as it is entered."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as nobody:
        hook = f"webhook:url=http://127.0.0.1:{nobody.getsockname()[1]}/,buffer=1"
        refusing = await asyncio.start_server(refuse, sock=nobody)
        more = (["--max-stream-len", "5"], ["--event-sink", hook])
        for name, words, port in zip(("full-*", "hooks-*"), more, ports, strict=False):
            promoter(stack, "run", "--url", url, "--queue", name, "--http", str(port), *words)
        restarts = asyncio.create_task(restart(url, ports[2]))
        async with connect(url) as backend, Redis.from_url(url) as client:
            await client.zadd("{chasqui:bills-1}:delayed", {"x": 1, "y": 2})
            for queue in ("full-1", "hooks-1"):
                await DelayedQueue(backend, queue).schedule_many([Job(data=i) for i in range(100)])
            try:
                yield
            finally:
                restarts.cancel()
                refusing.close()
                with suppress(asyncio.CancelledError):
                    await restarts


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A receiver that says: never."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def restart(url: str, port: int) -> None:
    """A process that ends and starts again."""
    while True:
        with ExitStack() as stack:
            promoter(stack, "run", "--url", url, "--queue", "again-*", "--http", str(port))
            await asyncio.sleep(12)


def shown(seen: dict[int, dict[str, float]]) -> str:
    return "\n".join(
        f"  scrapes of {interval_s:2} s: "
        + ", ".join(f"{name} {after_s:.0f} s" for name, after_s in sorted(by.items()))
        for interval_s, by in seen.items()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet", type=float, default=600.0, help="seconds in which nothing may fire")
    parser.add_argument("--intervals", default="5,15,60", help="scrape intervals, in seconds")
    args = parser.parse_args()
    asyncio.run(main(args.quiet, [int(interval) for interval in args.intervals.split(",")]))
