"""`promoter watch`: a live view of all queues of a store, in a terminal."""

from __future__ import annotations

import asyncio
import shutil
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from promoter_core import Backend, ConfigError, PluginError
from promoter_core.cli import INTERRUPTED, options, output, session
from promoter_core.cli.arguments import Option
from promoter_core.monitor import Snapshot, snapshot

THREADS_S = 2.0  # at exit, the maximum wait for threads that hang, for example in a DNS lookup


def watch(
    url: options.Url,
    queue: options.AnyQueues = None,
    layout: options.Layout = None,
    refresh: Annotated[
        float, Option("--refresh", envvar="PROMOTER_REFRESH", help="Seconds between two reads of a queue.")
    ] = 2.0,
    read_only: Annotated[bool, Option("--read-only", help="Offer no action that changes jobs.")] = False,
    once: Annotated[bool, Option("--once", help="Print one frame and exit.")] = False,
    json: Annotated[bool, Option("--json", help="Print one frame as JSON, for programs, and exit.")] = False,
) -> None:
    """Watch queues live: depth, lateness, leaders, groups, upcoming jobs; open one to see and change its jobs."""
    if not 0.2 <= refresh <= 3600:  # false for NaN as well
        raise ConfigError(f"--refresh must be 0.2 to 3600 seconds, not {refresh:g}")
    patterns = queue or ["*"]
    if once or json:
        _print_one(session.with_backend(url, lambda backend: snapshot(backend, patterns), layout), json=json)
        return
    if find_spec("textual") is None:
        raise PluginError(
            "promoter watch needs the module textual: pip install 'promoter-core[tui]'. "
            "Without it, --once prints one frame"
        )
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise ConfigError("promoter watch needs a terminal; --once prints one frame, --json one document")
    backend = session.registry().backend(url, layout=layout)
    session.check_lasting(backend, url)
    _run(backend, url, patterns, refresh_s=refresh, read_only=read_only)


def _run(backend: Backend, url: str, patterns: list[str], *, refresh_s: float, read_only: bool) -> None:
    from promoter_core.cli.live.app import WatchApp
    from promoter_core.cli.live.source import Source
    from promoter_core.cli.signals import leave_what_hangs
    from promoter_core.spi import parse_url

    source = Source(backend, patterns, refresh_s=refresh_s)
    app = WatchApp(source, str(parse_url(url)), read_only=read_only)

    async def go() -> None:
        async with source.running():
            await app.run_async(mouse=False)  # mouse support would disable the terminal's text selection
        if app.error is None:
            leave_what_hangs(THREADS_S, app.return_code or (INTERRUPTED if app.interrupted else 0))

    asyncio.run(go())
    if app.error is not None:
        raise app.error
    if app.interrupted:
        raise KeyboardInterrupt
    if app.return_code:  # a bug, which textual has reported
        raise SystemExit(app.return_code)


def _print_one(seen: Snapshot, *, json: bool) -> None:
    from promoter_core.cli.live import frame

    if json:
        output.print_json(frame.document(seen.queues, more=seen.more))
        return
    if not seen.queues:
        output.note("no matching queue has delayed jobs or a leader")
        return
    width = shutil.get_terminal_size((80, 24)).columns
    for text in frame.text(seen.queues, max(width, 80), more=seen.more):
        typer.echo(text)
