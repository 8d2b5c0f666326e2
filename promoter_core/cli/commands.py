"""Our commands: where each is, and its line in `promoter --help`, which is shown without importing it."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from promoter_core import Registry

COMMANDS = {
    "run": ("run:run", "Promote due jobs. SIGINT, SIGTERM and SIGHUP release the lock and end it with exit code 0."),
    "schedule": ("schedule:schedule", "Schedule a job; prints its id."),
    "queues": (
        "queues:queues",
        "List queues with delayed jobs or a leader: depth, due, next due time, stream, dead letters, leader.",
    ),
    "list": (
        "look:list_",
        "List waiting jobs, the earliest first. With --json, a line a page, with its jobs and its cursor.",
    ),
    "show": ("look:show", "Show waiting jobs whole; exits with 1 when one is not there."),
    "count": ("look:count", "Count waiting jobs by their due times; parked jobs are left out."),
    "cancel": (
        "change:cancel",
        "Cancel waiting jobs; prints what became of each, and exits with 1 when one was not found.",
    ),
    "reschedule": (
        "change:reschedule",
        "Give waiting jobs another due time; exits with 1 when one was not found.",
    ),
    "run-now": (
        "change:run_now",
        "Promote waiting jobs at once, whether or not a promoter runs; exits with 1 when one was not found.",
    ),
    "replace": (
        "change:replace",
        "Put new data in the place of a waiting job. With --delay or --at it is created where none waits.",
    ),
    "retry": (
        "retry:retry",
        "Schedule jobs again that have run and failed: the same envelope, with one attempt more.",
    ),
    "export": (
        "transfer:export",
        "Write the waiting jobs of a queue to a file of JSON lines; the queue keeps them. Goes on where it was ended.",
    ),
    "import": (
        "transfer:import_",
        "Schedule the jobs of a file, unless they are there. Goes on where it was ended.",
    ),
    "copy": ("transfer:copy", "Copy waiting jobs to another store, unless they are there; the source keeps them."),
    "watch": (
        "watch:watch",
        "Watch queues live: depth, lateness, leaders, groups, and what comes; open one to see and change its jobs.",
    ),
    "inspect": ("inspect:inspect", "Show a queue: depth, due, lag, next due time, streams, and who leads."),
    "exporter": (
        "exporter:exporter",
        "Serve metrics of all queues for Prometheus, read from the store. Promotes nothing.",
    ),
    "ui": ("ui:ui", "Serve a web page of all queues, their jobs and their leaders. Promotes nothing."),
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
