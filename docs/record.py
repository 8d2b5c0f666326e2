"""Record the live view and the demo again, as SVG, 80 columns wide.

    python -m docs.record [watch | demo]

Starts an embedded server and fills it; the demo's recording needs tmux.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
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
from docs.film import film
from promoter_core import Backend, DelayedQueue, Job, connect
from promoter_core.cli.live.app import WatchApp
from promoter_core.cli.live.source import Source
from promoter_core.spi import CHASQUIMQ, cancel_and_wait

DOCS = Path(__file__).parent
QUEUES = {"billing": 40, "mail-eu": 380, "mail-us": 310, "reports": 12, "sms": 90, "thumbnails": 700}
ALONE = "reports"  # has no leader
SIZE = (80, 24)
START_S = 5.0  # until the promoters lead
LIVE_S = 20.0  # before the first picture
LONGEST_S = 2.5  # that a frame of the demo stays
# Of the live view: keys, and for how many seconds a picture is taken then. The third queue, its hour, its jobs.
KEYS: list[tuple[list[str], int]] = [
    ([], 3),
    (["down"], 4),
    (["down"], 2),
    (["z"], 3),
    (["enter"], 4),
    (["down"], 1),
    (["down"], 1),
]
STILL = 6


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
        frames: list[tuple[str, float]] = []
        async with source.running(), app.run_test(size=SIZE) as pilot:
            await asyncio.sleep(LIVE_S)
            for keys, pictures in KEYS:
                await pilot.press(*keys)
                for _ in range(pictures):
                    await asyncio.sleep(1)
                    await pilot.pause()
                    frames.append((app.export_screenshot(title="promoter watch"), 1.0))
                if keys == ["enter"]:
                    write(frames[-1][0], "how-to/monitor/watch-queue.svg")
            write(film(frames, still=STILL), "how-to/monitor/watch.svg")


def demo() -> None:
    screens: list[tuple[str, float]] = [("", time.monotonic())]
    with tempfile.TemporaryDirectory() as folder:
        tmux = ["tmux", "-S", f"{folder}/tmux"]
        command = f"{sys.executable} -m promoter_core demo && touch {folder}/good; touch {folder}/done; cat"
        subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "28", command], check=True)
        try:
            ended = False
            while not ended:
                ended = (Path(folder) / "done").exists()
                time.sleep(0.5 if ended else 0.2)
                capture = [*tmux, "capture-pane", "-pe"]
                screen = subprocess.run(capture, capture_output=True, text=True, check=True).stdout.rstrip()
                if screen != screens[-1][0]:
                    screens.append((screen, time.monotonic()))
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)
        if not (Path(folder) / "good").exists():
            sys.exit("the demo has failed: its machine is too busy for a recording")
    lines = max(screen.count("\n") for screen, _ in screens) + 1
    frames = []
    for (screen, at_s), (_, until_s) in itertools.pairwise([*screens, ("", screens[-1][1] + 3 * LONGEST_S)]):
        console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
        console.print("[bold]$ make demo[/]", highlight=False)
        console.print(Text.from_ansi(screen + "\n" * (lines - screen.count("\n") - 1) + " "))
        stays_s = until_s - at_s if screen == screens[-1][0] else min(until_s - at_s, LONGEST_S)
        frames.append((console.export_svg(title="promoter demo"), round(stays_s, 1)))
    write(film(frames, still=len(frames) - 1), "tutorial/demo.svg")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["watch", "demo"]
    if "watch" in wanted:
        asyncio.run(watch())
    if "demo" in wanted:
        demo()
