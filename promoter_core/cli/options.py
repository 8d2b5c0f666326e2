"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

from promoter_core import ConfigError
from promoter_core.cli.arguments import Option
from promoter_core.spi import check_queue_name, is_pattern


def one_queue(name: str | None) -> str | None:
    """Return the value of --queue where a single queue is required. Raises ConfigError."""
    if name is not None and is_pattern(check_queue_name(name)):
        raise ConfigError(f"--queue {name!r} is a pattern: this command takes the name of one queue")
    return name


Url = Annotated[
    str,
    Option("--url", envvar="PROMOTER_URL", help="The backend, such as redis://localhost:6379.", show_default=False),
]
Queue = Annotated[
    str,
    Option("--queue", "-q", envvar="PROMOTER_QUEUE", help="The queue's name.", show_default=False, callback=one_queue),
]
Queues = Annotated[
    str,
    Option(
        "--queue", "-q", envvar="PROMOTER_QUEUE", help="A queue, or a pattern such as 'mail-*'.", show_default=False
    ),
]
AnyQueues = Annotated[
    list[str] | None,
    Option(
        "--queue",
        "-q",
        envvar="PROMOTER_QUEUE",
        help="A queue, or a pattern such as 'mail-*'; repeat it for more.",
        show_default="*",
    ),
]
Layout = Annotated[
    str | None,
    Option(
        "--layout",
        envvar="PROMOTER_LAYOUT",
        metavar="NAME[:k=v,…]",
        help="The layout: where due jobs go when another framework consumes them.",
        show_default=False,
    ),
]
Json = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
Delay = Annotated[str | None, Option("--delay", help="From now: 500ms, 5s, 1h30m, 2d.")]
At = Annotated[str | None, Option("--at", help="A time: 2030-01-31T09:00:00Z, 'in 1h30m', 'tomorrow 09:00'.")]
KeepIdFor = Annotated[
    str | None,
    Option("--keep-id-for", help="How long its id stays taken after it ran: 0, 30m, 2d; an hour by default."),
]
Where = Annotated[list[str] | None, Option("--where", metavar="name=N", help="Only jobs with this name.")]
DueFrom = Annotated[
    str | None, Option("--due-from", metavar="TIME", help="Only jobs due at this time or later; written as for --at.")
]
DueBefore = Annotated[
    str | None, Option("--due-before", metavar="TIME", help="Only jobs due before this time; written as for --at.")
]
All = Annotated[bool, Option("--all", help="All waiting jobs.")]
DryRun = Annotated[bool, Option("--dry-run", help="Print how many jobs match, and change nothing.")]
