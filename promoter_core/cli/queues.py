"""`promoter queues`: the queues of a store, and their state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from rich.table import Table

from promoter_core import Backend, QueueInfo, list_queues
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

    async def go(backend: Backend) -> list[QueueInfo]:
        found: dict[str, QueueInfo] = {}
        for pattern in patterns or ["*"]:
            some = {info.name: info async for info in list_queues(backend, pattern)}
            if not some and not is_pattern(pattern):
                await near.say(backend, pattern)
            found |= some
        return [found[name] for name in sorted(found)]

    found = session.with_backend(url, go, layout)
    if json:
        output.print_json([{"queue": info.name, **asdict(info.stats)} for info in found])
        return
    if not found:
        output.note("no queue has delayed jobs or a leader" + (" and matches" if patterns else ""))
        return
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
    output.out.print(table)
