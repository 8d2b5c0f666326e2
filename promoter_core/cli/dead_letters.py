"""`promoter dead-letters`: show, requeue or delete entries of the DLQ."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer
from rich.table import Table

from promoter_core import Backend, ConfigError, JobError, unpack_envelope
from promoter_core.cli import options, output, session
from promoter_core.cli.arguments import Argument, Option, for_typer
from promoter_core.spi import DeadLetterSupport, StreamEntry, StreamName, check_queue_name, chunked, to_text

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Manage the dead-letter stream of a queue.")

Ids = Annotated[list[str], Argument(metavar="ENTRY…", help="Ids of entries, as `dead-letters list` shows them.")]
SomeIds = Annotated[
    list[str] | None, Argument(metavar="[ENTRY…]", help="Ids of entries, as `dead-letters list` shows them.")
]
Reason = Annotated[
    str | None, Option("--reason", help="All entries with this reason, such as malformed or retries_exhausted.")
]
All = Annotated[bool, Option("--all", help="All entries.")]
DryRun = Annotated[bool, Option("--dry-run", help="Print how many entries match, and change nothing.")]
PAGE = 500
UNREADABLE = "no readable job; `dead-letters show` shows the bytes, `delete` removes the entry"


@app.command("list")
@for_typer
def list_(url: options.Url, queue: options.Queue, layout: options.Layout = None, json: options.Json = False) -> None:
    """List the entries: id, reason, detail and size."""
    entries = session.with_backend(url, lambda backend: _all(backend, queue), layout)
    if json:
        output.print_json([_row(e) for e in entries])
        return
    table = Table(title=f"Dead letters of {output.plain(queue)}", title_justify="left")
    for column in ("entry", "reason", "detail", "source", "bytes"):
        table.add_column(column)
    for row in map(_row, entries):
        table.add_row(*(output.plain(str(row[c])) for c in ("entry", "reason", "detail", "source_id", "bytes")))
    output.out.print(table)


@app.command()
@for_typer
def show(
    ids: Ids, url: options.Url, queue: options.Queue, layout: options.Layout = None, json: options.Json = False
) -> None:
    """Show entries in full: the escaped bytes, and the job in them, if any."""
    found = _found(session.with_backend(url, lambda backend: _all(backend, queue), layout), ids)
    if json:
        output.print_json([_whole(entry) for entry in found])
    else:
        for entry in found:
            _print(entry)
    if len(found) < len(set(ids)):
        raise typer.Exit(1)


@app.command()
@for_typer
def requeue(
    url: options.Url,
    queue: options.Queue,
    ids: SomeIds = None,
    reason: Reason = None,
    all_: All = False,
    dry_run: DryRun = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Move entries that contain a readable job to the stream. Exits with 1 if one stays."""
    _check_chosen(ids, reason, all_)

    async def go(backend: Backend) -> tuple[list[str], int]:
        letters, moved = _dead_letters(backend), list[str]()
        chosen = _chosen(await _all(backend, queue), ids, reason)
        unreadable = 0
        for entry in chosen:
            data = entry.fields.get("d", b"")
            if _envelope(data) is None:
                unreadable += 1
                if ids:
                    output.fail(f"{entry.id}: {UNREADABLE}")
                continue
            name = to_text(entry.fields.get("n", b""))
            if dry_run or await letters.requeue_dead_letter(queue, entry.id, data, name):
                moved.append(entry.id)
        if unreadable and not ids:
            output.fail(f"{output.count(unreadable, 'entry', 'entries')}: {UNREADABLE}")
        return moved, len(ids or chosen)

    moved, wanted = session.with_backend(url, go, layout)
    if json:
        output.print_json({"would_requeue" if dry_run else "requeued": moved})
    elif dry_run:
        typer.echo(f"{len(moved)} would be requeued")
    elif ids:
        for id in moved:
            typer.echo(f"{id}\trequeued")
    else:
        typer.echo(f"{len(moved)} requeued")
    if len(moved) < wanted:
        raise typer.Exit(1)


@app.command()
@for_typer
def delete(
    url: options.Url,
    queue: options.Queue,
    ids: SomeIds = None,
    reason: Reason = None,
    all_: All = False,
    dry_run: DryRun = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Delete entries permanently."""
    _check_chosen(ids, reason, all_)

    async def go(backend: Backend) -> tuple[int, int]:
        letters = _dead_letters(backend)
        found = [e.id for e in _chosen(await _all(backend, queue), ids, reason)]
        wanted = len(ids or found)
        if dry_run:
            return len(found), wanted
        return sum([await letters.delete_dead_letters(queue, some) for some in chunked(found, PAGE)]), wanted

    deleted, wanted = session.with_backend(url, go, layout)
    if json:
        output.print_json({"would_delete" if dry_run else "deleted": deleted})
    else:
        typer.echo(f"{deleted} would be deleted" if dry_run else f"{deleted} deleted")
    if deleted < wanted:
        raise typer.Exit(1)


def _print(entry: StreamEntry) -> None:
    row = _row(entry)
    for key in ("entry", "reason", "detail", "source_id"):
        typer.echo(f"{key + ':':<11}{output.shown(row[key])}")
    data = entry.fields.get("d", b"")
    typer.echo(f"bytes:     {data!r}")
    if (job := _envelope(data)) is not None:
        name = entry.fields.get("n", b"").decode("utf-8", "replace")
        typer.echo(f"job:       {output.shown(job.id)} {output.shown(name)} {_data(job)!r}")


def _whole(entry: StreamEntry) -> dict[str, Any]:
    """Return an entry as JSON: its bytes as base64, and the job in them."""
    data = entry.fields.get("d", b"")
    row = _row(entry) | {"d": base64.b64encode(data).decode()}
    if (job := _envelope(data)) is not None:
        name = entry.fields.get("n", b"").decode("utf-8", "replace")
        row |= {"id": job.id, "name": name, "attempt": job.attempt}
    return row


async def _all(backend: Backend, queue: str) -> list[StreamEntry]:
    check_queue_name(queue)
    entries: list[StreamEntry] = []
    while page := await backend.read(queue, StreamName.DLQ, entries[-1].id if entries else "", PAGE):
        entries += page
    return entries


def _found(entries: list[StreamEntry], ids: list[str]) -> list[StreamEntry]:
    there = {e.id: e for e in entries}
    for id in ids:
        if id not in there:
            output.fail(f"{id}: no such dead letter")
    return [there[id] for id in ids if id in there]


def _check_chosen(ids: list[str] | None, reason: str | None, all_: bool) -> None:
    """Raises JobError."""
    if bool(ids) + (reason is not None) + all_ != 1:
        raise JobError("give either the ids of entries, --reason, or --all")


def _chosen(entries: list[StreamEntry], ids: list[str] | None, reason: str | None) -> list[StreamEntry]:
    if ids:
        return _found(entries, ids)
    return [e for e in entries if reason is None or e.fields.get("reason", b"").decode("utf-8", "replace") == reason]


def _dead_letters(backend: Backend) -> DeadLetterSupport:
    if not isinstance(backend, DeadLetterSupport):
        raise ConfigError(f"the backend {type(backend).__name__} has no dead letters: its members cannot be malformed")
    return backend


def _row(entry: StreamEntry) -> dict[str, Any]:
    def text(field: str) -> str:
        return entry.fields.get(field, b"").decode("utf-8", "replace")

    size = len(entry.fields.get("d", b""))
    return {"entry": entry.id} | {f: text(f) for f in ("reason", "detail", "source_id")} | {"bytes": size}


def _envelope(data: bytes) -> Any:
    try:
        return unpack_envelope(data)
    except ValueError:
        return None


def _data(job: Any) -> Any:
    try:
        return job.data()
    except ValueError:
        return job.payload
