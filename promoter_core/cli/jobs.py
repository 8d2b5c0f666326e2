"""Waiting jobs for the commands: how they are selected and shown, and the outcomes of changes."""

from __future__ import annotations

import base64
import json as jsonlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import typer

from promoter_core import Backend, BulkResult, ConfigError, DelayedJob, JobError, JobOutcome
from promoter_core.cli import near, output
from promoter_core.cli.times import When, parse_when

GONE = (JobOutcome.NOT_FOUND, JobOutcome.ALREADY_PROMOTED)


@dataclass(frozen=True, slots=True)
class Range:
    """The jobs that a command applies to, as times."""

    name: str | None
    due_from: datetime | None
    due_to: datetime | None

    def asked(self) -> dict[str, Any]:
        """Return arguments for the methods of `DelayedQueue`."""
        return {"name": self.name, "due_from": self.due_from, "due_to": self.due_to}


class Filter:
    """`--where`, `--due-from` and `--due-before`."""

    def __init__(self, where: Sequence[str] | None, due_from: str | None, due_before: str | None) -> None:
        """Raises JobError."""
        self.name: str | None = None
        for word in where or ():
            key, equals, value = word.partition("=")
            if key != "name" or not equals:
                raise JobError(f"--where {word!r} cannot be: it is name=…, such as name=welcome")
            if self.name is not None:
                raise JobError("--where name=… can be given once")
            self.name = value
        self.due_from = parse_when(due_from) if due_from is not None else None
        self.due_before = parse_when(due_before) if due_before is not None else None

    def __bool__(self) -> bool:
        """Whether any filter was given."""
        return not (self.name is None and self.due_from is None and self.due_before is None)

    async def range(self, backend: Backend, queue: str) -> Range:
        """Return the range, by the store's clock."""
        times = [self.due_from, self.due_before]
        now_ms = (await backend.stats(queue)).now_ms if any(times) else 0
        return Range(self.name, *(_moment(time, now_ms) for time in times))


def _moment(when: When | None, now_ms: int) -> datetime | None:
    if when is None:
        return None
    moment = when.moment(now_ms)
    if when.in_words:
        output.note(f"understood as {moment.isoformat(sep=' ', timespec='seconds')}")
    return moment


def check_chosen(ids: Sequence[str] | None, chosen: Filter, all_: bool, *, by: str) -> None:
    """Raise ConfigError unless jobs are given by id, by filter, or by --all. `by` names the options."""
    if sum((bool(ids), bool(chosen), all_)) != 1:
        raise ConfigError(f"give either the ids of jobs, or {by}, or --all")


def json_of(job: DelayedJob) -> dict[str, Any]:
    stored = job.stored
    row: dict[str, Any] = {
        "id": job.id,
        "name": job.name,
        "due": None if job.due is None else _iso(job.due),
        "due_ms": stored.due_ms,
        "parked": job.parked,
        "created": None if job.created is None else _iso(job.created),
        "attempt": job.attempt,
        "malformed": job.malformed,
    }
    if job.unique is not None:
        row |= {"unique": job.unique, "keep_id_ms": stored.keep_id_ms, "traceparent": job.traceparent}
        if job.tracestate:
            row["tracestate"] = job.tracestate
    try:
        data = job.data()
        jsonlib.dumps(data, allow_nan=False)
    except Exception:  # not msgpack, or not JSON-serializable, which raise many types
        return row | {"envelope": base64.b64encode(stored.envelope).decode()}
    return row | {"data": data}


def data_of(job: DelayedJob) -> str:
    """Format the data in one line, for people."""
    try:
        return repr(job.data())
    except Exception:
        return repr(stored if len(stored := job.stored.envelope) <= 500 else stored[:500]) + " (cannot be read)"


def due_of(job: DelayedJob, now: datetime) -> str:
    if job.due is None:
        return "parked"
    ahead = (job.due - now).total_seconds() * 1000
    return f"in {output.show_ms(ahead)}" if ahead > 0 else f"overdue by {output.show_ms(-ahead)}"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def say_if_none(backend: Backend, queue: str, outcomes: Sequence[object]) -> None:
    """If no job was found, suggest that another queue may be meant."""
    if all(outcome in (JobOutcome.NOT_FOUND, None) for outcome in outcomes):
        await near.say_if_unknown(backend, queue)


def tell(ids: Sequence[str], outcomes: Sequence[JobOutcome], *, json: bool) -> None:
    """Print the outcome of each job; exit with 1 if one was not found."""
    if json:
        output.print_json([{"id": id, "outcome": outcome} for id, outcome in zip(ids, outcomes, strict=True)])
    else:
        for id, outcome in zip(ids, outcomes, strict=True):
            typer.echo(f"{output.shown(id)}\t{outcome}")
    if JobOutcome.NOT_FOUND in outcomes:
        output.fail("not found: never scheduled, scheduled without an index, or promoted already")
    if any(outcome in GONE for outcome in outcomes):
        raise typer.Exit(1)


def tell_bulk(result: BulkResult, *, dry_run: bool, json: bool) -> None:
    outcomes: Mapping[JobOutcome, int] = result.outcomes
    if json:
        counts = {str(outcome): n for outcome, n in outcomes.items()}
        output.print_json({"matched": result.matched, "outcomes": counts, "dry_run": dry_run})
        return
    words = [f"{n:,} {outcome}" for outcome, n in sorted(outcomes.items())]
    typer.echo(
        f"{result.matched:,} jobs match" + ("; nothing was changed" if dry_run else "".join(f", {w}" for w in words))
    )
