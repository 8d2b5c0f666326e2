"""Make the pictures of the live view and of the demo anew: SVG, 80 columns wide.

    python -m docs.record [watch | demo]

Starts an embedded server and fills it; the demo's picture needs tmux.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.text import Text

from benchmarks.servers import valkey
from promoter_core import Backend, DelayedQueue, Job, connect
from promoter_core.cli.live.app import WatchApp
from promoter_core.cli.live.source import Source
from promoter_core.spi import CHASQUIMQ, cancel_and_wait

DOCS = Path(__file__).parent
QUEUES = {"billing": 40, "mail-eu": 380, "mail-us": 310, "reports": 12, "sms": 90, "thumbnails": 700}
ALONE = "reports"  # nobody leads it
SIZE = (80, 24)
START_S = 5.0  # until the promoters lead
LIVE_S = 20.0  # before the picture


def write(svg: str, path: str) -> None:
    """Without the fonts of another site."""
    (DOCS / path).write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S))
    print(DOCS / path)


async def fill(backend: Backend) -> None:
    chance = random.Random(7)
    for name, count in QUEUES.items():
        jobs = [
            Job(
                data={"to": f"user-{chance.randrange(1000)}@example.com", "template": "welcome"},
                name=name.partition("-")[0],
                job_id=f"{name}-{i}",
                delay=chance.choice((chance.expovariate(1 / 40), chance.uniform(0, 90), chance.uniform(0, 4_000))),
            )
            for i in range(count)
        ]
        await DelayedQueue(backend, name).schedule_many(jobs)


async def consume(client: Any) -> None:
    """A consumer that is a little behind."""
    for name in QUEUES:
        with contextlib.suppress(Exception):
            await client.xgroup_create(CHASQUIMQ.keys_of(name).stream, "workers", "0", mkstream=True)
    while True:
        for name in QUEUES:
            stream = CHASQUIMQ.keys_of(name).stream
            for _, entries in await client.xreadgroup("workers", "worker-1", {stream: ">"}, count=20):
                await client.xack(stream, "workers", *(id for id, _ in entries[: len(entries) - 1]))
        await asyncio.sleep(0.7)


@contextlib.asynccontextmanager
async def fleet() -> AsyncIterator[Backend]:
    with valkey() as url:
        async with connect(url) as backend, Redis.from_url(url) as client:
            command = [sys.executable, "-m", "promoter_core", "run", "--url", url, "--holder-id", "worker-eu-1"]
            command += [word for name in QUEUES if name != ALONE for word in ("--queue", name)]
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            await asyncio.sleep(START_S)
            await fill(backend)
            consuming = asyncio.create_task(consume(client))
            try:
                yield backend
            finally:
                await cancel_and_wait(consuming)
                process.terminate()
                await process.wait()


async def watch() -> None:
    async with fleet() as backend:
        source = Source(backend, ["*"], refresh_s=1.0)
        app = WatchApp(source, "redis://localhost:6379", read_only=False)
        async with source.running(), app.run_test(size=SIZE) as pilot:
            await asyncio.sleep(LIVE_S)
            await pilot.press("down")
            await asyncio.sleep(2)
            await pilot.pause()
            write(app.export_screenshot(title="promoter watch"), "how-to/monitor/watch.svg")
            await pilot.press("enter")
            await asyncio.sleep(3)
            await pilot.pause()
            write(app.export_screenshot(title="promoter watch"), "how-to/monitor/watch-queue.svg")


def demo() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tmux = ["tmux", "-S", f"{folder}/tmux"]
        command = f"{sys.executable} -m promoter_core demo; touch {folder}/done; cat"
        subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "28", command], check=True)
        try:
            while not (Path(folder) / "done").exists():
                time.sleep(0.2)
            time.sleep(0.5)
            screen = subprocess.run([*tmux, "capture-pane", "-pe"], capture_output=True, text=True, check=True).stdout
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ make demo[/]", highlight=False)
    console.print(Text.from_ansi(screen.rstrip()))
    write(console.export_svg(title="promoter demo"), "tutorial/demo.svg")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["watch", "demo"]
    if "watch" in wanted:
        asyncio.run(watch())
    if "demo" in wanted:
        demo()
