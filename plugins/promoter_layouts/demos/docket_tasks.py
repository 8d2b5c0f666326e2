"""The task of the demo's docket worker."""

from __future__ import annotations

from promoter_layouts.demos import workers


async def note(number: int) -> None:
    """The task."""
    workers.note(number)


tasks = [note]
