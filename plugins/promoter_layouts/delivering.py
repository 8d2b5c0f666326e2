"""`Schedules`, the queue that a framework's helper schedules in, and the check that its consumers read its target."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from promoter_core.spi import ConfigError, Layout, ToStream

Answer = TypeVar("Answer", covariant=True)
Delay = timedelta | float


class Schedules(Protocol[Answer]):
    """A `DelayedQueue`, of `promoter_core` or of `promoter_core.sync`."""

    name: str

    @property
    def layout(self) -> Layout | None: ...

    def schedule(
        self, data: object, *, delay: Delay | None = None, at: datetime | None = None, job_id: str | None = None
    ) -> Answer: ...


def check_target(
    queue: Schedules[object], layouts: Collection[Layout], reader: str, key: str | None, hint: str = ""
) -> None:
    """Raise ConfigError unless due jobs of `queue` go where `reader` reads.

    `layouts` are those that it can read. `key` is the list or the stream that it reads, None when unknown; `hint` says
    how to deliver there.
    """
    layout = queue.layout
    if layout is None or layout.move not in [fits.move for fits in layouts]:
        names = " or ".join(repr(fits.name) for fits in layouts)
        given = "has no layout" if layout is None else f"has the layout {layout.name!r}"
        raise ConfigError(f"{reader} reads what the layout {names} delivers, and the queue {queue.name!r} {given}")
    target = layout.keys_of(queue.name).stream.decode()
    if key is not None and key != target:
        kind = "stream" if isinstance(layout.move, ToStream) else "list"
        raise ConfigError(
            f"{reader} reads the {kind} {key!r}, and due jobs of the queue {queue.name!r} go to {target!r}: "
            + (hint or f"schedule in the queue {key!r}, or connect with layout='{layout.name}:key={key}'")
        )
