"""`promoter cancel`: take jobs out of a queue by id."""

from __future__ import annotations

from typing import Annotated

import typer

from promoter_core import Backend, DelayedQueue, JobOutcome
from promoter_core.cli import options, output, session
from promoter_core.cli.arguments import Argument


def cancel(
    ids: Annotated[list[str], Argument(metavar="ID…", help="The ids of the jobs.")],
    url: options.Url,
    queue: options.Queue,
) -> None:
    """Cancel delayed jobs; prints what became of each, and exits with 1 when one was not found."""

    async def go(backend: Backend) -> tuple[JobOutcome, ...]:
        return await DelayedQueue(backend, queue).cancel_many(ids)

    outcomes = session.with_backend(url, go)
    for id, outcome in zip(ids, outcomes, strict=True):
        typer.echo(f"{id}\t{outcome}")
    if JobOutcome.NOT_FOUND in outcomes:
        output.fail("not found: never scheduled, scheduled without an index, or promoted already")
        raise typer.Exit(1)
