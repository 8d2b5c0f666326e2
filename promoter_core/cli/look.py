"""`promoter list`, `show` and `count`: the waiting jobs of a queue."""

from __future__ import annotations

import shlex
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any

import typer
from rich.bar import Bar
from rich.table import Table

from promoter_core import Backend, DelayedJob, DelayedQueue, JobError, Page
from promoter_core.cli import jobs, near, options, output, session
from promoter_core.cli.arguments import Argument, Option
from promoter_core.cli.times import parse_when

PAGE = 500  # jobs per call, for --all
WIDE = 100  # terminals with at least this many columns show more
EDGES = "now,1m,10m,1h,6h,1d,1w,4w"
NEVER = 253_402_300_800_000  # ms; later than any job's due time


def list_(
    url: options.Url,
    queue: options.Queue,
    limit: Annotated[int, Option("--limit", "-n", help="Maximum number of jobs on a page.")] = 50,
    after: Annotated[str, Option("--after", help="The cursor of the previous page.")] = "",
    all_: Annotated[bool, Option("--all", help="List all pages.")] = False,
    where: options.Where = None,
    due_from: options.DueFrom = None,
    due_before: options.DueBefore = None,
    reverse: Annotated[bool, Option("--reverse", help="Latest first.")] = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """List waiting jobs, earliest first. With --json, print one line per page, with its jobs and cursor."""
    chosen = jobs.Filter(where, due_from, due_before)

    async def go(backend: Backend) -> None:
        q = DelayedQueue(backend, queue)
        asked: dict[str, Any] = (await chosen.range(backend, queue)).asked() | {"reverse": reverse}
        cursor, shown = after, 0
        while True:
            page = await q.jobs(limit=PAGE if all_ else limit - shown, after=cursor, **asked)
            cursor = page.cursor
            shown += len(page.jobs)
            _print_page(page, queue, json=json)
            if not cursor or (not all_ and shown >= limit):
                break
        if not shown and not json:
            output.note("no waiting job" + (" matches" if chosen or after else ""))
        if not shown:
            await near.say_if_unknown(backend, queue)
        if cursor and not json:
            output.note(f"there are more: --after {shlex.quote(cursor)}")

    session.with_backend(url, go, layout)


def _print_page(page: Page, queue: str, *, json: bool) -> None:
    if json:
        rows = [jobs.json_of(job) for job in page.jobs]
        output.print_json({"queue": queue, "jobs": rows, "cursor": page.cursor})
    elif page.jobs:
        _print_table(page, queue)


def _print_table(page: Page, queue: str) -> None:
    """Print a table as wide as the terminal: ids are complete, long names wrap, and data is cut."""
    wide = output.out.width >= WIDE
    name = 24 if wide else 12
    data = max(8, output.out.width - name - (61 if wide else 53))
    table = Table(title=output.plain(f"Waiting jobs of {queue}"), title_justify="left")
    table.add_column("id", overflow="fold", width=26)
    table.add_column("name", overflow="fold", max_width=name)
    table.add_column("due", width=14)
    if wide:
        table.add_column("tries", justify="right")
    table.add_column("data", overflow="ellipsis", no_wrap=True, max_width=data)
    for job in page.jobs:
        id = "malformed" if job.malformed else "cannot be read" if job.id is None else output.plain(job.id)
        cells = [id, output.plain(job.name), jobs.due_of(job, page.now)]
        cells += [str(job.attempt)] if wide else []
        table.add_row(*cells, output.plain(jobs.data_of(job)[:500]))
    output.out.print(table)


def show(
    ids: Annotated[list[str], Argument(metavar="ID…", help="The ids of the jobs.")],
    url: options.Url,
    queue: options.Queue,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Show all details of waiting jobs. Exits with 1 if one does not exist."""

    async def go(backend: Backend) -> tuple[tuple[DelayedJob | None, ...], Page]:
        q = DelayedQueue(backend, queue)
        found = await q.get_many(ids)
        await jobs.say_if_none(backend, queue, found)
        return found, await q.jobs(limit=1)

    found, page = session.with_backend(url, go, layout)
    if json:
        output.print_json([jobs.json_of(job) for job in found if job is not None])
    for id, job in zip(ids, found, strict=True):
        if job is None:
            output.fail(f"{id}: no job with this id is waiting: it was promoted, cancelled or never scheduled")
        elif not json:
            _print_job(job, page)
    if None in found:
        raise typer.Exit(1)


def _print_job(job: DelayedJob, page: Page) -> None:
    if job.unique:
        taken = f"yes; for {output.show_ms((job.keep_id_for or timedelta()) / timedelta(milliseconds=1))} after it ran"
    else:
        taken = "no"
    at = "" if job.due is None else f"{job.due.isoformat(sep=' ', timespec='milliseconds')}, "
    rows = [
        ("id", job.id or ""),
        ("name", job.name or "–"),
        ("due", at + jobs.due_of(job, page.now)),
        ("created", "–" if job.created is None else job.created.isoformat(sep=" ", timespec="milliseconds")),
        ("tries", str(job.attempt)),
        ("id is taken", taken),
        ("traceparent", job.traceparent or "–"),
        ("data", jobs.data_of(job)),
    ]
    for label, value in rows:
        typer.echo(f"{label + ':':<13}{output.shown(value)}")


def count(
    url: options.Url,
    queue: options.Queues,
    due_from: options.DueFrom = None,
    due_before: options.DueBefore = None,
    histogram: Annotated[bool, Option("--histogram", help=f"How many between each two of these: {EDGES}.")] = False,
    edges: Annotated[
        str | None, Option("--edges", metavar="TIME,TIME…", help="For a histogram between other times.")
    ] = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Count waiting jobs by due time, without parked jobs."""
    chosen = jobs.Filter(None, due_from, due_before)
    if (histogram or edges is not None) and chosen:
        raise JobError("a histogram goes by --edges; leave --due-from and --due-before out")
    times = [parse_when(text) for text in (edges or EDGES).split(",")] if histogram or edges is not None else []

    async def go(backend: Backend) -> None:
        for name in await near.matching(backend, queue):
            q = DelayedQueue(backend, name)
            stats = await q.stats()
            if near.is_unknown(stats):
                await near.say(backend, name)
            if times:
                moments = [time.moment(stats.now_ms) for time in times]
                counts = await q.histogram(moments)
                outside = await q.count(due_to=moments[0]), await q.count(due_from=moments[-1])
                labels = (edges or EDGES).split(",")
                rows = [
                    (f"{left} – {right}", *bounds, n)
                    for (left, right), bounds, n in zip(pairwise(labels), pairwise(moments), counts, strict=True)
                ]
                _print_histogram(name, rows, *outside, json=json)
                continue
            bounds = await chosen.range(backend, name)
            n = await q.count(bounds.due_from, bounds.due_to)
            if json:
                output.print_json({"queue": name, "count": n})
            else:
                typer.echo(f"{n}" if name == queue else f"{output.shown(name)}\t{n}")

    session.with_backend(url, go, layout)


def _print_histogram(name: str, rows: list[tuple[Any, ...]], before: int, after: int, *, json: bool) -> None:
    """Print counts. `before` and `after` are the jobs that are due outside the edges."""
    if json:
        parts = [{"from": left.isoformat(), "to": right.isoformat(), "count": n} for _, left, right, n in rows]
        output.print_json({"queue": name, "before": before, "histogram": parts, "after": after})
        return
    table = Table(title=output.plain(f"Due times of {name}"), title_justify="left")
    table.add_column("due")
    table.add_column("jobs", justify="right")
    table.add_column("", width=30)
    most = max([row[-1] for row in rows] + [1])
    for label, _, _, n in rows:
        table.add_row(output.plain(label), f"{n:,}", Bar(most, 0, n, width=30))
    output.out.print(table)
    if before or after:
        output.note(f"outside of these times: {before:,} due earlier, {after:,} due later")
