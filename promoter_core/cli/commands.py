"""Promoter's commands: where each is, and its line in `promoter --help`, which is shown without importing it."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from promoter_core import Registry

COMMANDS = {
    "run": ("run:run", "Promote due jobs. SIGINT, SIGTERM and SIGHUP release the lock and end it with exit code 0."),
    "schedule": ("schedule:schedule", "Schedule a job and print its id."),
    "queues": (
        "queues:queues",
        "List queues with delayed jobs or a leader: depth, due, next due time, stream, dead letters, leader.",
    ),
    "list": (
        "look:list_",
        "List waiting jobs, earliest first. With --json, print one line per page, with its jobs and cursor.",
    ),
    "show": ("look:show", "Show all details of waiting jobs. Exits with 1 if one does not exist."),
    "count": ("look:count", "Count waiting jobs by due time, without parked jobs."),
    "cancel": (
        "change:cancel",
        "Cancel waiting jobs and print the outcome of each. Exits with 1 if one was not found.",
    ),
    "reschedule": (
        "change:reschedule",
        "Change the due time of waiting jobs. Exits with 1 if one was not found.",
    ),
    "run-now": (
        "change:run_now",
        "Promote waiting jobs at once, with or without a promoter. Exits with 1 if one was not found.",
    ),
    "replace": (
        "change:replace",
        "Replace the data of a waiting job. With --delay or --at, create the job if none is waiting.",
    ),
    "retry": (
        "retry:retry",
        "Schedule failed jobs again, with the attempt count raised by one.",
    ),
    "export": (
        "transfer:export",
        "Export the waiting jobs of a queue to a file of JSON lines; the queue keeps them. Can be resumed.",
    ),
    "import": (
        "transfer:import_",
        "Schedule the jobs of a file, except existing ones. Can be resumed.",
    ),
    "copy": ("transfer:copy", "Copy waiting jobs to another store, except existing ones; the source keeps them."),
    "watch": (
        "watch:watch",
        "Watch queues live: depth, lateness, leaders, groups, upcoming jobs; open one to see and change its jobs.",
    ),
    "inspect": ("inspect:inspect", "Show a queue: depth, due jobs, lag, next due time, streams and leader."),
    "exporter": (
        "exporter:exporter",
        "Serve metrics of all queues for Prometheus, read from the store. Promotes nothing.",
    ),
    "ui": ("ui:ui", "Serve a web page of all queues, their jobs and their leaders. Promotes nothing."),
    "plugins": ("plugins:plugins", "List backends, sinks, serializers and commands. Imports no driver."),
    "doctor": (
        "doctor:doctor",
        "Check a server for problems that lose jobs or stop a promoter. Exits with 1 if it finds any.",
    ),
    "dead-letters": ("dead_letters:app", "Manage the dead-letter stream of a queue."),
}


def load(name: str) -> Any:
    """Return the function of one of Promoter's commands, or its group."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"promoter_core.cli.{module}"), attribute)


def leave_out_ours(registry: Registry) -> None:
    """Skip a plugin's command that has the name of one of Promoter's."""
    from promoter_core import PluginError

    for registered in registry.all():
        name = registered.spec.name
        if registered.kind == "command" and name in COMMANDS:
            registry.leave_out(registered, PluginError(f"its command {name!r} is one of Promoter's own"))
