"""`promoter dead-letters`: show, requeue or delete entries of the DLQ."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer
from rich.table import Table

from promoter_core import Backend, ConfigError, unpack_envelope
from promoter_core.cli import options, output, session
from promoter_core.cli.arguments import Argument, for_typer
from promoter_core.spi import DeadLetterSupport, StreamEntry, StreamName, check_queue_name, to_text

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Manage the dead-letter stream of a queue.")

Ids = Annotated[list[str], Argument(metavar="ENTRY…", help="Ids of entries, as `dead-letters list` shows them.")]
PAGE = 500


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
    ids: Ids, url: options.Url, queue: options.Queue, layout: options.Layout = None, json: options.Json = False
) -> None:
    """Move entries that contain a readable job to the stream."""

    async def go(backend: Backend) -> list[str]:
        letters, moved = _dead_letters(backend), list[str]()
        for entry in _found(await _all(backend, queue), ids):
            data = entry.fields.get("d", b"")
            if _envelope(data) is None:
                output.fail(
                    f"{entry.id}: it contains no readable job; `dead-letters show` shows its bytes, `delete` removes it"
                )
                continue
            name = to_text(entry.fields.get("n", b""))
            if await letters.requeue_dead_letter(queue, entry.id, data, name):
                moved.append(entry.id)
        return moved

    moved = session.with_backend(url, go, layout)
    if json:
        output.print_json({"requeued": moved})
    else:
        for id in moved:
            typer.echo(f"{id}\trequeued")
    if len(moved) < len(ids):
        raise typer.Exit(1)


@app.command()
@for_typer
def delete(
    ids: Ids, url: options.Url, queue: options.Queue, layout: options.Layout = None, json: options.Json = False
) -> None:
    """Delete entries permanently."""

    async def go(backend: Backend) -> int:
        letters = _dead_letters(backend)
        found = [e.id for e in _found(await _all(backend, queue), ids)]
        return await letters.delete_dead_letters(queue, found) if found else 0

    deleted = session.with_backend(url, go, layout)
    if json:
        output.print_json({"deleted": deleted})
    else:
        typer.echo(f"{deleted} deleted")
    if deleted < len(ids):
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
