"""A progress bar on a terminal; nothing if stderr is not one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from promoter_core.cli import output

Update = Callable[[int, str], None]  # receives the number of items done, and a text


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Update]:
    """Show a progress bar. `total` is in any unit; None if unknown."""
    if not output.err.is_terminal:
        yield lambda done, words: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[words]}")
    with Progress(*columns, TimeElapsedColumn(), console=output.err, transient=True) as progress:
        task = progress.add_task(output.plain(what), total=total, words="")
        yield lambda done, words: progress.update(task, completed=done, words=words)
