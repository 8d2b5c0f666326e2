"""`promoter demo`: producers, two promoters as separate processes, a consumer group, and a summary."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from promoter_core import ConfigError, PromoterError, connect
from promoter_core.spi import Lease
from promoter_demo.servers import embedded, promoters

if TYPE_CHECKING:
    from promoter_demo.check import Checker
    from promoter_demo.report import Outcome

QUEUE = "demo"
NAMES = ("promoter-1", "promoter-2")
LEASE_MS = 1_000
LEAD_S = 1.0  # time between scheduling the last job and the first due time
IDLE_S = 3.0  # how long the idle promoter is observed
HELD_MS = 24 * 3_600_000  # longer than scheduling the jobs takes


def demo(
    jobs: Annotated[
        int | None, typer.Option(help="Jobs to schedule.", show_default="20000, or 60 with --layout")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="The time over which they become due.", show_default="5, or 12 with --layout")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare a framework's own delay with ours, with its consumers.", show_default=False
        ),
    ] = None,
) -> None:
    """Run 20,000 jobs from end to end on an embedded server, and kill a promoter halfway."""
    if layout is not None:
        from promoter_demo.side_by_side import JOBS, SECONDS, side_by_side

        jobs, seconds = JOBS if jobs is None else jobs, SECONDS if seconds is None else seconds
        if not 1 <= jobs <= 10_000 or not 1 <= seconds <= 600:
            raise ConfigError("the demo of a layout takes 1 to 10,000 jobs, due over 1 to 600 seconds")
        if not asyncio.run(side_by_side(layout, jobs, seconds, Console())):
            raise typer.Exit(1)
        return
    jobs, seconds = 20_000 if jobs is None else jobs, 5.0 if seconds is None else seconds
    if not 10 <= jobs <= 1_000_000 or not 1 <= seconds <= 600:
        raise ConfigError("the demo takes 10 to 1,000,000 jobs, due over 1 to 600 seconds")
    if not asyncio.run(_demo(jobs, seconds)):
        raise typer.Exit(1)


async def _demo(jobs: int, seconds: float) -> bool:
    from promoter_demo.check import Checker
    from promoter_demo.report import Outcome, show
    from promoter_demo.traffic import produce

    console = Console()
    with embedded() as url, _progress(console) as progress:
        outcome = Outcome(LEASE_MS)
        held = await _hold(url)
        async with promoters(url, QUEUE, NAMES, "--lock-ttl-ms", str(LEASE_MS)) as processes:
            bar = progress.add_task("scheduled", total=jobs)
            by = await produce(url, QUEUE, jobs, seconds, LEAD_S, lambda n: progress.advance(bar, n))
            checker = Checker(url, QUEUE)
            await checker.open()
            await _release(url, held)
            try:
                await _watch(checker, jobs, seconds, processes, outcome, progress)
                outcome.idle_commands = await checker.idle_commands(IDLE_S)
            finally:
                await checker.close()
    show(console, checker, by, outcome)
    return checker.good


async def _hold(url: str) -> Lease:
    """Lead the queue without promoting, so that the promoters follow and every job stays in the set."""
    async with connect(url) as backend:
        lease = await backend.lock(QUEUE, "demo", HELD_MS)
    if not isinstance(lease, Lease):
        raise PromoterError(f"{lease.holder} already leads the demo's queue")
    return lease


async def _release(url: str, lease: Lease) -> None:
    async with connect(url) as backend:
        await backend.unlock(lease)


async def _watch(
    checker: Checker,
    jobs: int,
    seconds: float,
    promoters: dict[str, asyncio.subprocess.Process],
    outcome: Outcome,
    progress: Progress,
) -> None:
    """Consume until every job has arrived, or long after it should have; halfway, kill the leader."""
    bar: TaskID = progress.add_task("arrived", total=jobs)
    deadline_s = time.monotonic() + LEAD_S + seconds + 30
    killer: asyncio.Task[None] | None = None
    while checker.arrived < jobs and time.monotonic() < deadline_s:
        await checker.consume()
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # Ctrl-C, in case a client has swallowed the cancellation
        progress.update(bar, completed=checker.arrived)
        if killer is None and checker.arrived >= jobs / 2:
            killer = asyncio.create_task(_kill_leader(checker, promoters, outcome))
    await checker.consume()  # consume unexpected entries
    if killer is not None:
        await killer


async def _kill_leader(checker: Checker, promoters: dict[str, asyncio.subprocess.Process], outcome: Outcome) -> None:
    holder, outcome.lease_left_ms = await checker.leader()
    process = promoters.get(holder)
    if process is None or process.pid is None:
        return
    outcome.killed = holder
    os.kill(process.pid, signal.SIGKILL)
    killed_s = time.monotonic()
    while time.monotonic() - killed_s < 30:
        now, _ = await checker.leader()
        if now not in ("", holder):
            outcome.takeover_ms = (time.monotonic() - killed_s) * 1000
            return
        await asyncio.sleep(0.002)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
