"""`promoter cancel`, `reschedule`, `run-now` and `replace`: change named or matching waiting jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from promoter_core import Backend, BulkInterrupted, BulkResult, ConfigError, DelayedQueue, JobError, JobOutcome
from promoter_core.cli import jobs, near, options, output, session
from promoter_core.cli.arguments import Argument, Option
from promoter_core.cli.data import read_data
from promoter_core.cli.progress import bar
from promoter_core.cli.times import due_time, parse_duration, parse_step

BY_AGAIN = ": repeating it with --by moves those again, so select the rest, for example with --due-before or --due-from"
Ids = Annotated[list[str] | None, Argument(metavar="[ID…]", help="The ids of the jobs.", show_default=False)]
DUE = "--where, --due-from and --due-before"
STEP = 500  # jobs per step of a sweep

Sweep = Callable[[DelayedQueue, jobs.Range, dict[str, Any]], Awaitable[BulkResult]]
Named = Callable[[DelayedQueue], Awaitable[Sequence[JobOutcome]]]


def cancel(
    url: options.Url,
    queue: options.Queue,
    ids: Ids = None,
    where: options.Where = None,
    due_from: options.DueFrom = None,
    due_before: options.DueBefore = None,
    all_: options.All = False,
    dry_run: options.DryRun = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Cancel waiting jobs and print the outcome of each. Exits with 1 if one was not found."""
    chosen = jobs.Filter(where, due_from, due_before)
    jobs.check_chosen(ids, chosen, all_, by=DUE)
    if ids:
        _named(url, queue, ids, lambda q: q.cancel_many(ids), dry_run=dry_run, json=json, layout=layout)
        return
    _all_that_fit(
        url,
        queue,
        chosen,
        lambda q, r, more: q.cancel_where(**r.asked(), **more),
        "cancel",
        dry_run=dry_run,
        json=json,
        layout=layout,
    )


def reschedule(
    url: options.Url,
    queue: options.Queue,
    ids: Ids = None,
    delay: options.Delay = None,
    at: options.At = None,
    by: Annotated[
        str | None, Option("--by", help="Move by this much, later or earlier: 1h, -30m; not with ids.")
    ] = None,
    where: options.Where = None,
    due_from: options.DueFrom = None,
    due_before: options.DueBefore = None,
    all_: options.All = False,
    dry_run: options.DryRun = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Change the due time of waiting jobs. Exits with 1 if one was not found."""
    chosen = jobs.Filter(where, due_from, due_before)
    jobs.check_chosen(ids, chosen, all_, by=DUE)
    if sum(value is not None for value in (delay, at, by)) != 1:
        raise JobError("give one of --delay, --at and --by, such as --delay 1h")
    if ids and by is not None:
        raise JobError(f"--by needs {DUE} or --all; for ids, give --delay or --at")
    due: dict[str, Any] = {"by": parse_step(by)} if by is not None else due_time(delay, at)
    if ids:
        _named(url, queue, ids, lambda q: q.reschedule_many(ids, **due), dry_run=dry_run, json=json, layout=layout)
        return
    _all_that_fit(
        url,
        queue,
        chosen,
        lambda q, r, more: q.reschedule_where(**due, **r.asked(), **more),
        "reschedule",
        again=BY_AGAIN if "by" in due else "",
        dry_run=dry_run,
        json=json,
        layout=layout,
    )


def run_now(
    url: options.Url,
    queue: options.Queue,
    ids: Ids = None,
    where: options.Where = None,
    due_before: options.DueBefore = None,
    all_: options.All = False,
    max_stream_len: Annotated[
        int,
        Option("--max-stream-len", envvar="PROMOTER_MAX_STREAM_LEN", help="Maximum number of entries in the stream."),
    ] = 1_000_000,
    events: Annotated[
        bool, Option("--events/--no-events", envvar="PROMOTER_EVENTS", help="Write waiting events.")
    ] = True,
    dry_run: options.DryRun = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Promote waiting jobs at once, with or without a promoter. Exits with 1 if one was not found."""
    chosen = jobs.Filter(where, None, due_before)
    jobs.check_chosen(ids, chosen, all_, by="--where and --due-before")
    limits: dict[str, Any] = {"max_stream_len": max_stream_len, "events": events}
    if ids:
        said = "moved: the stream is full or the job is malformed; it is due now and left to the promoter"
        _named(
            url,
            queue,
            ids,
            lambda q: q.run_now_many(ids, **limits),
            dry_run=dry_run,
            json=json,
            layout=layout,
            moved=said,
        )
        return

    async def sweep(q: DelayedQueue, r: jobs.Range, more: dict[str, Any]) -> BulkResult:
        return await q.run_due_before(r.due_to or datetime.max.replace(tzinfo=UTC), name=r.name, **limits, **more)

    _all_that_fit(url, queue, chosen, sweep, "run now", dry_run=dry_run, json=json, layout=layout)


def replace(
    id: Annotated[str, Argument(metavar="ID", help="The id of the job.")],
    data: Annotated[str, Argument(metavar="JSON", help="The new data as JSON; - reads it from stdin.")],
    url: options.Url,
    queue: options.Queue,
    name: Annotated[str | None, Option("--name", help="A new name; by default the old one stays.")] = None,
    delay: options.Delay = None,
    at: options.At = None,
    keep_id_for: options.KeepIdFor = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Replace the data of a waiting job. With --delay or --at, create the job if none is waiting."""
    value = read_data(data, as_text=session.sends_text(layout))
    more: dict[str, Any] = due_time(delay, at) if delay is not None or at is not None else {}
    if keep_id_for is not None:
        more["keep_id_for"] = parse_duration(keep_id_for)

    async def change(q: DelayedQueue) -> Sequence[JobOutcome]:
        return [await q.replace(id, value, name=name, **more)]

    _named(url, queue, [id], change, dry_run=False, json=json, layout=layout)


def _named(
    url: str,
    queue: str,
    ids: Sequence[str],
    change: Named,
    *,
    dry_run: bool,
    json: bool,
    layout: str | None,
    moved: str = "",
) -> None:
    if dry_run:
        raise ConfigError("--dry-run needs a filter or --all, not ids: `promoter show` shows whether they are waiting")

    async def go(backend: Backend) -> Sequence[JobOutcome]:
        outcomes = await change(DelayedQueue(backend, queue))
        await jobs.say_if_none(backend, queue, outcomes)
        return outcomes

    outcomes = session.with_backend(url, go, layout)
    if moved and JobOutcome.MOVED in outcomes:
        output.note(moved)
    jobs.tell(ids, outcomes, json=json)


def _all_that_fit(
    url: str,
    queue: str,
    chosen: jobs.Filter,
    sweep: Sweep,
    what: str,
    *,
    again: str = "",
    dry_run: bool,
    json: bool,
    layout: str | None,
) -> None:
    so_far: BulkResult | None = None

    async def go(backend: Backend) -> BulkResult:
        q, wanted = DelayedQueue(backend, queue), await chosen.range(backend, queue)
        stats = await q.stats()
        if near.is_unknown(stats):
            await near.say(backend, queue)
        with bar(f"{what} in {queue}", stats.depth if not chosen else None) as update:

            def progress(result: BulkResult) -> None:
                nonlocal so_far
                so_far = result
                update(result.matched, f"{result.matched:,} jobs")

            try:
                return await sweep(q, wanted, {"dry_run": dry_run, "progress": progress})
            except BulkInterrupted as exc:
                output.note(f"{_done(exc.result)}{again}")
                raise

    try:
        result = session.with_backend(url, go, layout)
    except KeyboardInterrupt:
        if so_far is not None and not dry_run:
            output.note(f"ended by Ctrl-C: {_done(so_far)}{again}")
        raise
    jobs.tell_bulk(result, dry_run=dry_run, json=json)


def _done(result: BulkResult) -> str:
    return f"{result.matched:,} jobs are done, and perhaps some of the next {STEP}"
