"""`promoter quarantine`: look at what was moved to the DLQ, put it back, or drop it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from promoter_core.cli import common
from promoter_core.contracts import Backend, Quarantine
from promoter_core.envelope import unpack_envelope
from promoter_core.errors import ConfigError
from promoter_core.model import StreamEntry, StreamName
from promoter_core.settings import check_queue_name

app = typer.Typer(no_args_is_help=True, help="Work through the dead-letter stream of a queue.")

Ids = Annotated[list[str], typer.Argument(metavar="ENTRY…", help="Ids of entries, as `quarantine list` shows them.")]
PAGE = 500


@app.command("list")
def list_(url: common.Url, queue: common.Queue, json: common.Json = False) -> None:
    """List the entries: id, reason, detail and size."""
    entries = common.with_backend(url, lambda backend: _all(backend, queue))
    if json:
        common.print_json([_row(e) for e in entries])
        return
    table = Table(title=f"Quarantine of {common.plain(queue)}", title_justify="left")
    for column in ("entry", "reason", "detail", "source", "bytes"):
        table.add_column(column)
    for row in map(_row, entries):
        table.add_row(*(common.plain(str(row[c])) for c in ("entry", "reason", "detail", "source_id", "bytes")))
    common.out.print(table)


@app.command()
def show(ids: Ids, url: common.Url, queue: common.Queue) -> None:
    """Show entries whole: the bytes, escaped, and the job in them where there is one."""
    for entry in _found(common.with_backend(url, lambda backend: _all(backend, queue)), ids):
        row = _row(entry)
        for key in ("entry", "reason", "detail", "source_id"):
            typer.echo(f"{key + ':':<11}{common.shown(row[key])}")
        data = entry.fields.get("d", b"")
        typer.echo(f"bytes:     {data!r}")
        if (job := _envelope(data)) is not None:
            name = entry.fields.get("n", b"").decode("utf-8", "replace")
            typer.echo(f"job:       {common.shown(job.id)} {common.shown(name)} {_data(job)!r}")


@app.command()
def requeue(ids: Ids, url: common.Url, queue: common.Queue) -> None:
    """Move entries to the stream, for those in which a job can be read."""

    async def go(backend: Backend) -> int:
        quarantine, moved = _quarantine(backend), 0
        for entry in _found(await _all(backend, queue), ids):
            data = entry.fields.get("d", b"")
            if _envelope(data) is None:
                common.fail(
                    f"{entry.id}: no job can be read in it; `quarantine show` shows its bytes, `drop` deletes it"
                )
                continue
            name = entry.fields.get("n", b"").decode("utf-8", "surrogateescape")
            if await quarantine.requeue(queue, entry.id, data, name):
                typer.echo(f"{entry.id}\trequeued")
                moved += 1
        return moved

    if common.with_backend(url, go) < len(ids):
        raise typer.Exit(1)


@app.command()
def drop(ids: Ids, url: common.Url, queue: common.Queue) -> None:
    """Delete entries for good."""

    async def go(backend: Backend) -> int:
        quarantine = _quarantine(backend)
        found = [e.id for e in _found(await _all(backend, queue), ids)]
        return await quarantine.drop(queue, found) if found else 0

    dropped = common.with_backend(url, go)
    typer.echo(f"{dropped} dropped")
    if dropped < len(ids):
        raise typer.Exit(1)


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
            common.fail(f"{id}: no such entry in quarantine")
    return [there[id] for id in ids if id in there]


def _quarantine(backend: Backend) -> Quarantine:
    if not isinstance(backend, Quarantine):
        raise ConfigError(f"the backend {type(backend).__name__} has no quarantine: no member can be malformed there")
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
