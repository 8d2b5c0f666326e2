"""`promoter bench`."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

QUICK = 10  # factor by which --quick reduces all numbers


def bench(
    url: Annotated[str, typer.Option(envvar="PROMOTER_URL", help="The backend to measure on.", show_default=False)],
    jobs: Annotated[int, typer.Option(min=2_000, max=10_000_000, help="Jobs in a backlog.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Of jobs becoming due, for lateness.")] = 10.0,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of everything, for a first look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Measure drain rate, lateness and cost on a backend, on temporary queues, which are deleted afterwards.

    It loads the server for about a minute: not for one that others depend on.
    """
    if quick:
        jobs, seconds = max(jobs // QUICK, 2_000), max(seconds / QUICK, 0.5)
    figures = asyncio.run(_bench(url, jobs, seconds))
    if as_json:
        typer.echo(json.dumps(figures))
        return
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, value if isinstance(value, str) else f"{value:,.2f}".removesuffix(".00"))
    Console().print(table)


async def _bench(url: str, jobs: int, seconds: float) -> dict[str, Any]:
    from promoter_bench.store import open_store

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=Console(stderr=True))
    async with AsyncExitStack() as stack:
        store = await open_store(stack, url)
        stack.enter_context(progress)
        task = progress.add_task("…", total=None)
        try:
            figures: dict[str, Any] = {}
            async for name, figure in _figures(store, jobs, seconds):
                if figure is None:
                    progress.update(task, description=name)
                else:
                    figures[name] = figure
            return figures
        finally:
            await store.clean()


async def _figures(store: Any, jobs: int, seconds: float) -> Any:
    """Yield each figure by name, each after its name with None, for the progress bar."""
    from promoter_bench import limits, measures
    from promoter_bench.store import ServerStore

    name = "round trip of a tick, ms"
    yield name, None
    yield name, await measures.round_trip(store)
    for events in (False, True):
        what = f"drain, events {'on' if events else 'off'}"
        yield what, None
        drained = await measures.drain(store, jobs, events=events)
        yield f"{what}, jobs/s", drained.rate
        yield f"{what}: CPU of the promoter, µs/job", drained.client_us
        if drained.server_us is not None:
            yield f"{what}: CPU of the server, µs/job", drained.server_us
        if isinstance(store, ServerStore):
            name = f"{what}: of the script's limit"
            yield name, None
            us = await limits.limits(store, jobs, events=events)
            yield name, f"{us['constant'] / us['promote']:.2f} (constant entry), {us['passed'] / us['promote']:.2f}"
    for plain in (False, True) if isinstance(store, ServerStore) else (False,):
        name = f"lateness, {'plain ZADD' if plain else 'our producer'}, ms"
        yield name, None
        late = await measures.lateness(store, int(seconds * 200), seconds, plain=plain)
        yield name, "p50 {p50:.0f}, p99 {p99:.0f}, max {max:.0f}".format(**late)
    name = "scheduling with index, jobs/s"
    yield name, None
    rate = await measures.scheduling(store, jobs)
    yield name, rate
    if not isinstance(store, ServerStore):
        return
    yield "scheduling with index: of a bare pipelined loop", rate / await measures.bare_scheduling(store, jobs)
    name = "commands of an idle leader, 1/s"
    yield name, None
    yield name, await measures.idle_commands(store, seconds * 2)
    for index in (False, True):
        name = f"memory of a delayed job {'with' if index else 'without'} index, bytes"
        yield name, None
        yield name, await measures.memory(store, jobs, index=index)
