"""The commands of our own: where each is, and its line in `promoter --help`, which is told without importing it."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from promoter_core import Registry

COMMANDS = {
    "run": ("run:run", "Promote due jobs. SIGINT, SIGTERM and SIGHUP release the lock and end it with exit code 0."),
    "schedule": ("schedule:schedule", "Schedule a job; prints its id."),
    "cancel": (
        "cancel:cancel",
        "Cancel delayed jobs; prints what became of each, and exits with 1 when one was not found.",
    ),
    "inspect": ("inspect:inspect", "Show a queue: depth, due, lag, next due time, streams, and who leads."),
    "plugins": ("plugins:plugins", "List backends, sinks, serializers and commands. Imports no driver."),
    "doctor": (
        "doctor:doctor",
        "Check a server for whatever would lose jobs or stop a promoter. Exits with 1 when something would.",
    ),
    "dead-letters": ("dead_letters:app", "Work through the dead-letter stream of a queue."),
}


def load(name: str) -> Any:
    """The function of one of our commands, or its group."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"promoter_core.cli.{module}"), attribute)


def leave_out_ours(registry: Registry) -> None:
    """A plugin's command that has the name of one of ours is not offered."""
    from promoter_core import PluginError

    for registered in registry.all():
        name = registered.spec.name
        if registered.kind == "command" and name in COMMANDS:
            registry.leave_out(registered, PluginError(f"its command {name!r} is one of Promoter's own"))
