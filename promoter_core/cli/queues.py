"""`promoter queues`: the queues of a store, and their state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from rich.table import Table

from promoter_core import Backend, PermanentError, QueueInfo, list_queues
from promoter_core.cli import near, options, output, session
from promoter_core.cli.arguments import Argument
from promoter_core.spi import is_pattern


def queues(
    url: options.Url,
    patterns: Annotated[
        list[str] | None,
        Argument(metavar="PATTERN…", help="Globs over their names, such as 'mail-*'.", show_default="*"),
    ] = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """List queues with delayed jobs or a leader: depth, due, next due time, stream, dead letters, leader."""

    failed: list[PermanentError] = []  # of a queue that cannot be read; the others are shown

    async def go(backend: Backend) -> list[QueueInfo]:
        found: dict[str, QueueInfo] = {}
        for pattern in patterns or ["*"]:
            some = set[str]()
            try:
                async for info in list_queues(backend, pattern):
                    some.add(info.name)
                    found[info.name] = info
            except PermanentError as error:
                failed.append(error)
                continue
            if not some and not is_pattern(pattern):
                await near.say(backend, pattern)
        return [found[name] for name in sorted(found)]

    found = session.with_backend(url, go, layout)
    if json:
        output.print_json([{"queue": info.name, **asdict(info.stats)} for info in found])
    elif found:
        output.out.print(_table(found))
    elif not failed:
        output.note("no queue has delayed jobs or a leader" + (" and matches" if patterns else ""))
    if failed:
        raise failed[0]


def _table(found: Sequence[QueueInfo]) -> Table:
    table = Table(title="1 queue" if len(found) == 1 else f"{len(found):,} queues", title_justify="left")
    table.add_column("queue", overflow="fold")
    for column in ("delayed", "due", "next due", "stream", "DLQ"):
        table.add_column(column, justify="right")
    table.add_column("leader", overflow="fold")
    for info in found:
        s = info.stats
        ahead = None if s.next_due_ms is None else s.next_due_ms - s.now_ms
        next_due = (
            "–" if ahead is None else f"in {output.show_ms(ahead)}" if ahead > 0 else f"−{output.show_ms(-ahead)}"
        )
        numbers = (f"{s.depth:,}", f"{s.due:,}", next_due, f"{s.stream_len:,}", f"{s.dlq_len:,}")
        table.add_row(output.plain(info.name), *numbers, output.plain(s.holder if s.holder is not None else "–"))
    return table
