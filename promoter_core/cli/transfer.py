"""`promoter export`, `import` and `copy`: waiting jobs to a file, from a file, and from one store to another."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from promoter_core import (
    Backend,
    BackendError,
    ConfigError,
    DelayedQueue,
    TransferError,
    Transferred,
    copy_jobs,
    export_jobs,
    import_jobs,
)
from promoter_core.cli import near, options, output, session
from promoter_core.cli.arguments import Argument, Option
from promoter_core.cli.job_files import STREAM, ExportFile, ImportFile
from promoter_core.cli.progress import bar
from promoter_core.spi import CHASQUIMQ, is_pattern, parse_url


def export(
    url: options.Url,
    queue: options.Queue,
    file: Annotated[str, Argument(metavar="FILE", help="The target file; .gz compresses; - is stdout.")] = STREAM,
    overwrite: Annotated[bool, Option("--overwrite", help="Start again if FILE exists.")] = False,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Export the waiting jobs of a queue to a file of JSON lines; the queue keeps them. Can be resumed."""
    if json and file == STREAM:
        raise ConfigError("--json reports on an export to a FILE: stdout has the jobs themselves")

    jobs = 0

    async def go(backend: Backend) -> None:
        nonlocal jobs
        stats = await DelayedQueue(backend, queue).stats()
        if near.is_unknown(stats):
            await near.say(backend, queue)
        out = ExportFile(file, {"store": str(parse_url(url)), "queue": queue}, overwrite=overwrite)
        if out.cursor:
            output.note(f"resuming after {out.jobs:,} jobs")
        try:
            with bar(f"export {queue}", stats.depth) as update:
                async for page in export_jobs(backend, queue, after=out.cursor, jobs=out.jobs):
                    out.write(page)
                    jobs = page.jobs
                    update(jobs, f"{jobs:,} jobs")
        finally:
            out.close()

    try:
        session.with_backend(url, go, layout)
    except (BackendError, KeyboardInterrupt):
        if jobs and file != STREAM:
            output.note(f"{jobs:,} jobs are in {file}: run it again to continue")
        raise
    if json:
        output.print_json({"queue": queue, "jobs": jobs, "file": file})
    else:
        output.note(f"{jobs:,} jobs of queue {queue!r} exported" + (f" to {file}" if file != STREAM else ""))


def import_(
    url: options.Url,
    file: Annotated[str, Argument(metavar="FILE", help="A file of `promoter export`; .gz too; - is stdin.")] = STREAM,
    queue: Annotated[
        str | None,
        Option(
            "--queue",
            "-q",
            help="A queue other than the file's own.",
            show_default=False,
            callback=options.one_queue,
        ),
    ] = None,
    skip: Annotated[int, Option("--skip", help="Number of lines to skip, as already imported.")] = 0,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Schedule the jobs of a file, except existing ones. Can be resumed."""
    if file == STREAM and sys.stdin.isatty():
        raise ConfigError("nothing to read: give a FILE, or pipe one in")
    if skip < 0:
        raise ConfigError(f"--skip {skip}: it must be a number of lines")
    result = Transferred()

    async def go(backend: Backend) -> None:
        session.check_lasting(backend, url)
        source = ImportFile(file, {"store": str(parse_url(url)), "queue": queue or ""}, skip=skip)
        try:
            if source.gone_on:
                output.note(f"resuming after line {source.skip:,}")
            with bar(f"import {file}", source.size or None) as update:

                def done(now: Transferred) -> None:
                    nonlocal result
                    result = now
                    source.done(now.lines)
                    update(source.read_bytes(), f"{now.jobs:,} jobs")

                await import_jobs(backend, source.lines(), queue=queue, skip=source.skip, progress=done)
            source.finish()
        finally:
            source.close()

    try:
        session.with_backend(url, go, layout)
    except (BackendError, TransferError, KeyboardInterrupt) as exc:
        if result.lines:
            _tell(result, json=json)
        if not isinstance(exc, TransferError) and result.lines:
            output.note(f"{result.lines:,} lines are done: run it again to continue, or with --skip {result.lines}")
        raise
    _tell(result, json=json)


def copy(
    from_: Annotated[str, Option("--from", help="The source backend, which keeps the jobs.", show_default=False)],
    to: Annotated[str, Option("--to", help="The target backend.", show_default=False)],
    queue: Annotated[
        str,
        Option(
            "--queue", "-q", envvar="PROMOTER_QUEUE", help="A queue, or a pattern such as 'mail-*'.", show_default=False
        ),
    ],
    to_queue: Annotated[str | None, Option("--to-queue", help="The queue's name in the target, if different.")] = None,
    after: Annotated[str, Option("--after", help="The cursor printed by an interrupted copy.")] = "",
    from_layout: Annotated[
        str | None, Option("--from-layout", metavar="NAME[:k=v,…]", help="The layout by which the jobs wait.")
    ] = None,
    to_layout: Annotated[
        str | None, Option("--to-layout", metavar="NAME[:k=v,…]", help="The layout of the copies.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Copy waiting jobs to another store, except existing ones; the source keeps them."""
    if is_pattern(queue) and (to_queue is not None or after):
        raise ConfigError("--to-queue and --after need one queue, but --queue is a pattern")
    if (str(parse_url(from_)), _set_of(from_layout, queue)) == (
        str(parse_url(to)),
        _set_of(to_layout, to_queue or queue),
    ):
        raise ConfigError("--from and --to are the same queue of the same store")

    async def go(source: Backend) -> None:
        async with session.registry().connect(to, layout=to_layout) as target:
            session.check_lasting(target, to)
            for name in await near.matching(source, queue):
                await _copy(source, name, target, to_queue, after, json=json)

    session.with_backend(from_, go, from_layout)


def _set_of(layout: str | None, queue: str) -> bytes:
    """Return the key of the sorted set; different options of a layout can share it. Raises ConfigError."""
    chosen = session.registry().layout(layout) if layout is not None else CHASQUIMQ
    return chosen.keys_of(queue).delayed


async def _copy(source: Backend, name: str, target: Backend, to_queue: str | None, after: str, *, json: bool) -> None:
    stats = await DelayedQueue(source, name).stats()
    if near.is_unknown(stats):
        await near.say(source, name)
    result = Transferred()
    try:
        with bar(f"copy {name}", stats.depth) as update:

            def done(now: Transferred) -> None:
                nonlocal result
                result = now
                update(now.jobs, f"{now.jobs:,} jobs")

            await copy_jobs(source, name, target, to_queue=to_queue, after=after, progress=done)
    except BaseException:
        if result.cursor:
            output.note(
                f"{result.jobs:,} jobs of queue {name!r} are done: continue with --after {shlex.quote(result.cursor)}"
            )
        raise
    _tell(result, name, json=json)


def _tell(result: Transferred, queue: str | None = None, *, json: bool) -> None:
    counts = {key: value for key, value in asdict(result).items() if key not in ("lines", "cursor")}
    if json:
        output.print_json(({"queue": queue} if queue else {"lines": result.lines}) | counts)
        return
    words = [f"{result.created:,} new"]
    words += [
        f"{n:,} {what}"
        for n, what in (
            (result.waiting, "were there already"),
            (result.promoted, "had been promoted already"),
            (result.taken, "left out: their ids are taken by other jobs"),
            (result.malformed, "left out: malformed members, which no store accepts"),
        )
        if n
    ]
    typer.echo((f"{output.shown(queue)}: " if queue else "") + f"{result.jobs:,} jobs: " + ", ".join(words))
