"""Provoke failures under real Prometheus servers: how many seconds until an alert fires?

    python -m benchmarks.alerts [--quiet 600] [--intervals 5,15,60] [--only together]

Two promoters with a queue each, an exporter, and a Prometheus for each scrape interval, all on one server of its own.
After a time in which nothing may fire, the only process of a queue is killed, and then jobs come for a queue that no
process serves. Then the failures of `benchmarks/alert_causes.py` at once, each on a queue of its kind; `--only
together` makes only these. Needs `prometheus` on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.alert_causes import BEFORE, PORTS, TOGETHER, before, promoter, start, together
from benchmarks.servers import valkey
from promoter_core import DelayedQueue, Job, connect
from tests.servers import free_port

RULES = Path(__file__).parents[1] / "docs/how-to/monitor/mixin/rules"
WARM_UP_S = 75  # each Prometheus has scraped everything once
GIVE_UP_S = 600


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
                "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
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
    """Names of alerts, and the queue of each, or what failed of a sink."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    labels = [a["labels"] for a in alerts if a["state"] == "firing"]
    return {(of["alertname"], of.get("queue", of.get("failure", ""))) for of in labels}


async def watch(ports: dict[int, int], until: dict[tuple[str, str], int]) -> dict[int, dict[tuple[str, str], float]]:
    """Seconds until each of these alerts fires, by scrape interval; until all have, or it gives up.

    `until` has for each the seconds from now to its failure.
    """
    began_s = time.monotonic()
    found: dict[int, dict[tuple[str, str], float]] = {interval_s: {} for interval_s in ports}
    while time.monotonic() - began_s < GIVE_UP_S and any(until.keys() - seen.keys() for seen in found.values()):
        for interval_s, port in ports.items():
            for alert in firing(port) & until.keys():
                found[interval_s].setdefault(alert, time.monotonic() - began_s - until[alert])
        await asyncio.sleep(0.5)
    return found


async def keep_busy(url: str, queues: list[str]) -> None:
    async with connect(url) as backend:
        for i in range(1_000_000):
            for queue in queues:
                await DelayedQueue(backend, queue).schedule_many([Job(data=i, delay=1 + n / 10) for n in range(10)])
                await DelayedQueue(backend, queue).schedule(i, delay=600)
            await asyncio.sleep(1)


async def alone(url: str, servers: dict[int, int], emails: subprocess.Popen[bytes], quiet_s: float) -> None:
    fired, until_s = set[tuple[str, str]](), time.monotonic() + quiet_s
    while time.monotonic() < until_s:
        for port in servers.values():
            fired |= firing(port)
        await asyncio.sleep(5)
    print(f"healthy for {quiet_s:g} s: {sorted(fired) or 'nothing fires'}", flush=True)
    emails.kill()
    seen = await watch(servers, {("PromoterUnserved", "emails-1"): 0, ("PromoterQueueLost", "emails-1"): 0})
    print("the only process of a queue is killed:", shown(seen), sep="\n", flush=True)
    async with connect(url) as backend:
        await DelayedQueue(backend, "nobodys").schedule_many([Job(data=i, delay=3600) for i in range(10)])
        seen = await watch(servers, {("PromoterUnserved", "nobodys"): 0})
    print("a queue that nobody serves:", shown(seen), sep="\n", flush=True)


async def main(quiet_s: float, intervals: list[int], only: str | None) -> None:
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not on the PATH: on Debian, apt-get install prometheus")
    with valkey() as url, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ports, extra, exporter = [free_port(), free_port()], [free_port() for _ in range(PORTS)], free_port()
        emails, _ = (
            promoter(stack, "run", "--url", url, "--queue", name, "--http", str(port))
            for name, port in zip(("emails-*", "bills-*"), ports, strict=True)
        )
        promoter(stack, "exporter", "--url", url, "--listen", str(exporter))
        async with before(stack, url, extra) as ready:
            servers = {
                interval_s: prometheus(stack, Path(folder), interval_s, [*ports, *extra], exporter)
                for interval_s in intervals
            }
            busy = asyncio.create_task(keep_busy(url, ["emails-1", "bills-1", *BEFORE]))
            await asyncio.sleep(WARM_UP_S)
            if only != "together":
                await alone(url, servers, emails, quiet_s)
            async with together(url, ready, extra):
                seen = await watch(servers, TOGETHER)
            print("several failures at once:", shown(seen), sep="\n", flush=True)
            busy.cancel()
            with suppress(asyncio.CancelledError):
                await busy


def shown(seen: dict[int, dict[tuple[str, str], float]]) -> str:
    return "\n".join(
        f"  scrapes of {interval_s:2} s: "
        + ", ".join(f"{' '.join(alert).strip()} {after_s:.0f} s" for alert, after_s in sorted(by.items()))
        for interval_s, by in seen.items()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet", type=float, default=600.0, help="seconds in which nothing may fire")
    parser.add_argument("--intervals", default="5,15,60", help="scrape intervals, in seconds")
    parser.add_argument("--only", choices=["together"], help="the failures that are made at once, without the others")
    args = parser.parse_args()
    asyncio.run(main(args.quiet, [int(interval) for interval in args.intervals.split(",")], args.only))
