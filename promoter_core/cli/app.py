"""Puts the commands together, those of plugins included, and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated, Any

import typer

from promoter_core import ConfigError, JobError, PluginError, PromoterError, Registered, Registry, __version__
from promoter_core.cli import cancel, dead_letters, doctor, inspect, output, plugins, schedule, session
from promoter_core.cli import run as run_command

FAILED, USAGE = 1, 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"promoter {__version__}")
        raise typer.Exit


def _main(
    debug: Annotated[bool, typer.Option("--debug", envvar="PROMOTER_DEBUG", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Moves delayed jobs that have become due from a sorted set to a stream, under a leader lock."""
    session.debug = debug


def build(registry: Registry) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    app.callback()(_main)
    app.command("run")(run_command.run)
    app.command("schedule")(schedule.schedule)
    app.command("cancel")(cancel.cancel)
    app.command("inspect")(inspect.inspect)
    app.command("plugins")(plugins.plugins)
    app.command("doctor")(doctor.doctor)
    app.add_typer(dead_letters.app, name="dead-letters")
    taken = {command.name for command in app.registered_commands} | {"dead-letters"}
    for registered in registry.all():
        name = registered.spec.name
        if registered.kind != "command":
            continue
        if name in taken:
            registry.leave_out(registered, PluginError(f"its command {name!r} is one of Promoter's own"))
            continue
        function, settings = _command(registry, registered)
        app.command(name, help=registered.spec.summary, context_settings=settings)(function)
    return app


def _command(registry: Registry, registered: Registered) -> tuple[Any, dict[str, Any]]:
    """The plugin's function, or one that says what is missing: a broken plugin must not take the others along."""
    try:
        function = registry.load(registered)
        try:
            trial = typer.Typer()
            trial.command(registered.spec.name)(function)
            typer.main.get_command(trial)
        except Exception as exc:
            what = f"command {registered.spec.name!r} of {registered.source}"
            raise PluginError(f"{what} cannot be made from {registered.spec.target!r}: {exc}") from exc
        return function, {}
    except PluginError as exc:
        error = exc

    def unavailable() -> None:
        raise error

    return unavailable, {"ignore_unknown_options": True, "allow_extra_args": True}


def run() -> None:
    session.debug = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows what it can
    try:
        build(session.registry())()
    except PromoterError as exc:
        if session.debug:
            traceback.print_exc()
        output.fail(str(exc))
        sys.exit(USAGE if isinstance(exc, ConfigError | JobError) else FAILED)
