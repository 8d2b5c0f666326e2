"""`promoter schedule`: put one job into a queue."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from promoter_core import Backend, DelayedQueue, JobError, JobExistsError, JobOutcome, Scheduled
from promoter_core.cli import options, output, session
from promoter_core.cli.arguments import Argument, Option
from promoter_core.cli.data import read_data
from promoter_core.cli.times import due_time, parse_duration

SAID = {
    JobOutcome.KEPT: "already scheduled: nothing was changed",
    JobOutcome.ALREADY_PROMOTED: "already promoted, and its id is still taken: nothing was changed",
    JobOutcome.REPLACED: "the waiting job with this id was replaced",
    JobOutcome.MOVED: "the waiting job with this id has the new due time",
}


class OnRepeat(StrEnum):
    KEEP = "keep"
    REPLACE = "replace"
    EXTEND = "extend"
    ERROR = "error"


def schedule(
    data: Annotated[str, Argument(metavar="JSON", help="The job's data as JSON; - reads it from stdin.")],
    url: options.Url,
    queue: options.Queue,
    delay: options.Delay = None,
    at: options.At = None,
    name: Annotated[str, Option("--name", help="The job's name, which tells consumers what to run.")] = "",
    id: Annotated[str | None, Option("--id", help="The job's id: scheduling it again does nothing.")] = None,
    on_repeat: Annotated[OnRepeat, Option("--on-repeat", help="What to do if the id is taken.")] = OnRepeat.KEEP,
    keep_id_for: options.KeepIdFor = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Schedule a job and print its id."""
    if id is None and (on_repeat is not OnRepeat.KEEP or keep_id_for is not None):
        raise JobError("--on-repeat and --keep-id-for need an id: give --id as well")
    more: dict[str, Any] = due_time(delay, at)
    if keep_id_for is not None:
        more["keep_id_for"] = parse_duration(keep_id_for)
    value = read_data(data, as_text=session.sends_text(layout))

    async def go(backend: Backend) -> Scheduled:
        scheduled = await DelayedQueue(backend, queue).schedule(
            value, name=name, job_id=id, on_repeat=on_repeat.value, **more
        )
        session.check_lasting(backend, url)
        return scheduled

    try:
        scheduled = session.with_backend(url, go, layout)
    except JobExistsError as exc:
        output.fail(str(exc))
        raise typer.Exit(1) from None
    if json:
        output.print_json({"id": scheduled.id, "outcome": scheduled.outcome})
        return
    typer.echo(output.shown(scheduled.id))
    if scheduled.outcome in SAID:
        output.note(SAID[scheduled.outcome])
