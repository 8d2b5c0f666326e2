"""`promoter retry`: put back a job that has run and failed, from the stream or the dead letters.

An entry of the stream stays there, for its consumer to acknowledge. A dead letter is deleted once its job is scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from promoter_core import Backend, DelayedQueue, RetriesExhausted, Scheduled, unpack_envelope
from promoter_core.cli import near, options, output, session
from promoter_core.cli.arguments import Argument, Option
from promoter_core.cli.times import due_time
from promoter_core.spi import DeadLetterSupport, StreamEntry, StreamName

PAGE = 500  # entries per call


class Source(StrEnum):
    STREAM = "stream"
    DLQ = "dlq"


def retry(
    ids: Annotated[list[str], Argument(metavar="ENTRY|ID…", help="Ids of entries, or of the jobs in them.")],
    url: options.Url,
    queue: options.Queue,
    from_: Annotated[Source, Option("--from", help="Where they are.")] = Source.STREAM,
    delay: options.Delay = None,
    at: options.At = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Schedule failed jobs again, with the attempt count raised by one."""
    when: dict[str, Any] = due_time(delay, at) if delay is not None or at is not None else {}

    async def go(backend: Backend) -> tuple[list[dict[str, str]], bool]:
        found = await _find(backend, queue, StreamName(from_.value), ids)
        if not any(found):
            await near.say_if_unknown(backend, queue)
        rows, good = list[dict[str, str]](), True
        for id, entry in zip(ids, found, strict=True):
            scheduled = None if entry is None else await _again(DelayedQueue(backend, queue), id, entry, when)
            if entry is None:
                output.fail(f"{id}: no such entry, and no entry with such a job")
            if entry is None or scheduled is None:
                good = False
                continue
            if from_ is Source.DLQ and isinstance(backend, DeadLetterSupport):
                await backend.delete_dead_letters(queue, [entry.id])
            rows.append({"entry": entry.id, "id": scheduled.id, "outcome": scheduled.outcome})
        return rows, good

    rows, good = session.with_backend(url, go, layout)
    if json:
        output.print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['entry']}\t{output.shown(row['id'])}\t{row['outcome']}")
    if not good:
        raise typer.Exit(1)


async def _again(q: DelayedQueue, id: str, entry: StreamEntry, when: dict[str, Any]) -> Scheduled | None:
    if _job_id(entry) is None:
        output.fail(f"{id}: this entry contains no readable job")
        return None
    try:
        return await q.retry(entry, **when)
    except RetriesExhausted as exc:
        output.fail(str(exc))
        return None


async def _find(backend: Backend, queue: str, stream: StreamName, ids: Sequence[str]) -> list[StreamEntry | None]:
    """Return the entries with these ids, or the last entries with these jobs. Reads the whole stream."""
    wanted, found, after = set(ids), dict[str, StreamEntry](), ""
    while page := await backend.read(queue, stream, after, PAGE):
        for entry in page:
            for id in {entry.id, _job_id(entry)} & wanted:
                if id is not None:
                    found[id] = entry
        after = page[-1].id
    return [found.get(id) for id in ids]


def _job_id(entry: StreamEntry) -> str | None:
    try:
        return unpack_envelope(entry.fields.get("d", b"")).id
    except ValueError:
        return None
