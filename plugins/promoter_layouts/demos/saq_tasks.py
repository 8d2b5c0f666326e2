"""The settings of the demo's SAQ worker."""

from __future__ import annotations

from typing import Any

from saq import Queue

from promoter_layouts.demos import workers

QUEUE = "promoter-demo"


async def note(context: Any, *, number: int) -> None:
    """The job."""
    workers.note(number)


settings = {"queue": Queue.from_url(workers.URL, name=QUEUE), "functions": [("note", note)]}
