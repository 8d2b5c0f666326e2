"""`promoter schedule`: put one job into a queue."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from promoter_core import Backend, ConfigError, DelayedQueue, JobError, Scheduled
from promoter_core.cli import options, output, session
from promoter_core.cli.arguments import Argument, Option


def schedule(
    data: Annotated[str, Argument(metavar="JSON", help="The job's data as JSON; - reads it from stdin.")],
    url: options.Url,
    queue: options.Queue,
    delay: Annotated[str | None, Option("--delay", help="From now: 500ms, 5s, 1h30m, 2d.")] = None,
    at: Annotated[str | None, Option("--at", help="An ISO 8601 time with its zone: 2030-01-31T09:00:00Z.")] = None,
    name: Annotated[str, Option("--name", help="What consumers are to run.")] = "",
    id: Annotated[str | None, Option("--id", help="The job's id: scheduling it again does nothing.")] = None,
) -> None:
    """Schedule a job; prints its id."""
    if (delay is None) == (at is None):
        raise JobError("give either --delay or --at, such as --delay 5s")
    value = _parse(sys.stdin.read() if data == "-" else data)
    when: dict[str, Any] = {"delay": options.parse_duration(delay)} if delay is not None else {}
    if at is not None:
        when = {"at": options.parse_time(at)}

    async def go(backend: Backend) -> Scheduled:
        scheduled = await DelayedQueue(backend, queue).schedule(value, name=name, job_id=id, **when)
        if not (backend.capabilities.durable or backend.capabilities.shared):
            raise ConfigError(
                f"{url.partition(':')[0]}:// keeps its jobs in this process, which ends here: give the URL of a server"
            )
        return scheduled

    scheduled = session.with_backend(url, go)
    typer.echo(scheduled.id)
    if not scheduled.created:
        output.note("already scheduled: nothing was changed")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise JobError(f"the job's data has the key {twice!r} twice in one object")
    return value


def _constant(name: str) -> Any:
    raise JobError(f"the job's data is not valid JSON: {name} is no JSON number")


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as exc:
        raise JobError(
            f"the job's data is not valid JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}; "
            """quote it for the shell, as '{"to": "ada@example.com"}'"""
        ) from None
    except RecursionError:
        raise JobError("the job's data is nested too deep") from None
