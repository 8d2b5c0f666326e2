"""`promoter demo --layout`: compares a framework's own delay with Promoter's, at once, with its real consumers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from promoter_core import ConfigError, DelayedQueue, PluginError, connect
from promoter_demo.servers import embedded, promoters

JOBS, SECONDS = 60, 12.0
LATE_S = 20.0  # maximum wait after the last due time

# By layout: the class, and how to install its modules. Programs in other languages name theirs.
FRAMEWORKS = {
    "celery": ("promoter_layouts.demos.celery:CeleryDemo", "celery"),
    "docket": ("promoter_layouts.demos.docket:DocketDemo", "pydocket"),
    "faststream": ("promoter_layouts.demos.faststream:FastStreamDemo", "faststream[redis]"),
    "huey": ("promoter_layouts.demos.huey:HueyDemo", "huey"),
    "laravel": ("promoter_layouts.demos.laravel:LaravelDemo", "promoter-core[redis]"),
    "rq": ("promoter_layouts.demos.rq:RQDemo", "rq"),
    "saq": ("promoter_layouts.demos.saq:SAQDemo", "saq[redis]"),
    "sidekiq": ("promoter_layouts.demos.sidekiq:SidekiqDemo", "promoter-core[redis]"),
    "streaq": ("promoter_layouts.demos.streaq:StreaqDemo", "streaq"),
    "taskiq": ("promoter_layouts.demos.taskiq:TaskiqDemo", "taskiq-redis"),
}


class Framework(Protocol):
    """A framework to compare with. An object is for one database of the server."""

    title: str  # with the version
    layout: str  # with its options
    queue: str  # of the framework, and of Promoter
    own: str  # the framework's own way to delay a job; "" if it has none
    note: str  # a note below the table
    whole: bool  # whether its due times are whole seconds
    lead_s: float  # time until the first job is due, for its scheduler to start

    def consuming(self, arrived: Callable[[int, float], None]) -> AbstractAsyncContextManager[None]:
        """Run a consumer that calls `arrived` with a job's number and the time. It is ready on entry."""
        ...

    async def delay(self, number: int, due: datetime) -> None:
        """Schedule a job with the framework's own delay."""
        ...

    async def begin(self) -> None:
        """Start the framework's scheduler, if it runs apart from the consumer, after all jobs are scheduled."""
        ...

    async def hand_over(self, queue: DelayedQueue, number: int, due: datetime) -> None:
        """Schedule a job for Promoter. In place, this is `delay`, and the queue is not used."""
        ...


@dataclass
class Run:
    """One way to schedule, and the jobs that arrived."""

    by: str
    due_s: dict[int, float] = field(default_factory=dict)
    late_ms: dict[int, float] = field(default_factory=dict)
    seen: Counter[int] = field(default_factory=Counter)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def arrived(self, number: int, at_s: float) -> None:
        self.seen[number] += 1
        self.late_ms.setdefault(number, (at_s - self.due_s.get(number, at_s)) * 1_000)
        if not self.lost:
            self.complete.set()

    @property
    def lost(self) -> int:
        return len(self.due_s.keys() - self.seen.keys())

    @property
    def twice(self) -> int:
        return sum(1 for n in self.seen.values() if n > 1)

    @property
    def early(self) -> int:
        return sum(1 for ms in self.late_ms.values() if ms < -1)  # tolerance for two clocks on one machine

    @property
    def good(self) -> bool:
        return bool(self.due_s) and not (self.lost or self.twice or self.early)


def framework(layout: str) -> Callable[[str], Framework]:
    """Return the class for a layout.

    Raises ConfigError for a layout without a demo, PluginError for missing modules.
    """
    name, colon, _ = layout.partition(":")
    if colon and name in FRAMEWORKS:
        raise ConfigError(f"the demo chooses the options of a layout itself: use --layout {name}")
    if layout not in FRAMEWORKS:
        near = get_close_matches(name, FRAMEWORKS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(f"there is no demo of a layout {layout!r}{hint} Choices: {', '.join(sorted(FRAMEWORKS))}")
    target, install = FRAMEWORKS[layout]
    module, _, name = target.partition(":")
    try:
        found: Callable[[str], Framework] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as exc:
        raise PluginError(f"the demo of {layout} needs the module {exc.name}: pip install '{install}'") from None
    return found


async def side_by_side(layout: str, jobs: int, seconds: float, console: Console) -> bool:
    """Run the comparison, and print the table. Return False unless each of Promoter's jobs arrived once and in time."""
    make = framework(layout)
    try:
        return await _compare(make, jobs, seconds, console)
    except Exception:
        # Ctrl-C reaches all processes of the terminal, so the server may have exited before its clients.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError from None
        raise


async def _compare(make: Callable[[str], Framework], jobs: int, seconds: float, console: Console) -> bool:
    with embedded() as url:
        theirs, ours = make(f"{url}/0"), make(f"{url}/1")
        runs = [Run(theirs.own), Run("Promoter")] if theirs.own else [Run("Promoter")]
        async with AsyncExitStack() as stack:
            if theirs.own:
                await stack.enter_async_context(theirs.consuming(runs[0].arrived))
            await stack.enter_async_context(ours.consuming(runs[-1].arrived))
            await stack.enter_async_context(_promoting(f"{url}/1", ours.layout, ours.queue))
            backend = await stack.enter_async_context(connect(f"{url}/1", layout=ours.layout))
            queue = DelayedQueue(backend, ours.queue)
            console.print(f"{jobs} jobs, due over {seconds:g} s, for each of: {', '.join(run.by for run in runs)}")
            chance = random.Random(1)  # noqa: S311  # traffic, not secrets
            start_s = time.time() + ours.lead_s + jobs / 100
            for number in range(jobs):
                due_s = round(start_s + chance.random() * seconds, 3)
                due_s = float(math.ceil(due_s)) if ours.whole else due_s
                due = datetime.fromtimestamp(due_s, UTC)
                for run in runs:
                    run.due_s[number] = due_s
                await ours.hand_over(queue, number, due)
                if theirs.own:
                    await theirs.delay(number, due)
            if theirs.own:
                await theirs.begin()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(start_s + seconds + LATE_S - time.time()):
                    await asyncio.gather(*(run.complete.wait() for run in runs))
            await asyncio.sleep(1.0)  # wait for unexpected entries
    _show(console, ours, runs)
    return runs[-1].good


@contextlib.asynccontextmanager
async def _promoting(url: str, layout: str, queue: str) -> AsyncIterator[None]:
    async with promoters(url, queue, ("promoter-1",), "--layout", layout):
        yield


def _show(console: Console, demo: Framework, runs: list[Run]) -> None:
    table = Table(title=f"{demo.title}: from the due time to the consumer", title_justify="left")
    for name, justify in (("delivered by", "left"), *((n, "right") for n in _cells(runs[0]))):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for run in runs:
        table.add_row(run.by, *_cells(run).values())
    console.print(table)
    if len(runs) > 1 and (theirs := _at(runs[0], 0.5)) > 0 < _at(runs[1], 0.5):
        times = theirs / _at(runs[1], 0.5)
        if times > 1.5:
            shown = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
            console.print(f"At the median, jobs run {shown} times as late without Promoter.")
    if demo.note:
        console.print(demo.note, style="dim")


def _cells(run: Run) -> dict[str, str]:
    counts: dict[str, Any] = {"lost": run.lost, "twice": run.twice, "early": run.early}
    cells = {"ran": f"{len(run.seen):,}"}
    cells |= {name: f"[{'red' if n else 'green'}]{n}[/]" for name, n in counts.items()}
    for name, at in (("p50", 0.5), ("p90", 0.9), ("max", 1.0)):
        late_ms = _at(run, at)
        cells[name] = f"{late_ms:,.0f} ms" if late_ms >= 100 else f"{late_ms:.1f} ms"
    return cells


def _at(run: Run, quantile: float) -> float:
    late = sorted(run.late_ms.values())
    return late[min(int(len(late) * quantile), len(late) - 1)] if late else 0.0
