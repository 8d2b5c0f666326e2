"""The application and the task of the demo's Huey consumer."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from promoter_layouts.demos.workers import URL, note

QUEUE = "promoter_demo"


def app(url: str) -> tuple[Any, Any]:
    """An application on the server at `url`, and its task."""
    huey: Any = RedisHuey(QUEUE, url=url, results=False, utc=True)
    return huey, huey.task(name="note")(note)


huey, _ = app(URL)
