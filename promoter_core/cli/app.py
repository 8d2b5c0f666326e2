"""The command line in typer: Promoter's commands and those of plugins, each imported when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer._completion_classes import completion_init
from typer.core import TyperCommand, TyperGroup

from promoter_core import PluginError, Registered, Registry, __version__
from promoter_core.cli import commands, session
from promoter_core.cli.arguments import for_typer

UNAVAILABLE = {"ignore_unknown_options": True, "allow_extra_args": True}


def build(registry: Callable[[], Registry]) -> typer.Typer:
    """Build the command line. `registry` is called for an unknown name, or when all names are needed."""

    class Commands(_Commands):
        registry_of = staticmethod(registry)

    completion_init()  # for $_PROMOTER_COMPLETE; typer sets it up only for apps with its own completion options
    app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    app.callback()(_main)
    return app


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
    """Move due jobs from a sorted set to a stream, under a leader lock."""
    session.debug = debug


class _Commands(TyperGroup):
    """List all commands, and load only the one that is called."""

    registry_of: Callable[[], Registry]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._plugins: dict[str, Registered] | None = None  # by command name
        for name, (_, summary) in commands.COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary))

    def list_commands(self, ctx: Any) -> list[str]:
        self._find_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._find_plugins()
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self._load(name), rest

    def _find_plugins(self) -> dict[str, Registered]:
        if self._plugins is None:
            found = [r for r in self.registry_of().all() if r.kind == "command"]
            self._plugins = {r.spec.name: r for r in found if r.spec.name not in commands.COMMANDS}
            for name, registered in self._plugins.items():
                self.add_command(TyperCommand(name, help=registered.spec.summary))
        return self._plugins

    def _load(self, name: str) -> Any:
        if name not in commands.COMMANDS:
            return _of_plugin(self.registry_of(), self._find_plugins()[name])
        loaded = commands.load(name)
        app = loaded if isinstance(loaded, typer.Typer) else _alone(name, for_typer(loaded))
        command = typer.main.get_command(app)
        command.name = name
        return command


def _alone(name: str, function: Any, **settings: Any) -> typer.Typer:
    """A single command, with the attributes that typer sets on a group."""
    app = typer.Typer(add_completion=False)
    app.command(name, **settings)(function)
    return app


def _of_plugin(registry: Registry, registered: Registered) -> Any:
    """Return the plugin's command, or one that reports what is missing: a broken plugin must not affect others."""
    name, summary = registered.spec.name, registered.spec.summary
    try:
        function = registry.load(registered)
        try:
            return typer.main.get_command(_alone(name, function, help=summary))
        except Exception as exc:
            what = f"command {name!r} of {registered.source}"
            raise PluginError(f"{what} cannot be created from {registered.spec.target!r}: {exc}") from exc
    except PluginError as exc:
        error = exc

    def unavailable() -> None:
        raise error

    return typer.main.get_command(_alone(name, unavailable, help=summary, context_settings=UNAVAILABLE))
