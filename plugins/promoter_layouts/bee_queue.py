"""bee-queue's delayed jobs: ids go to the list of waiting jobs."""

from __future__ import annotations

from promoter_core.spi import Side, in_place
from promoter_layouts import options


def bee_queue(prefix: str = "bq") -> in_place.InPlace:
    """`prefix` is the prefix in the queue's settings."""
    key = f"{options.prefix('bee-queue', prefix)}:{{queue}}"
    return in_place.InPlace(
        name="bee-queue",
        source=f"{key}:delayed",
        moves=in_place.Pushes((in_place.Push(f"{key}:waiting", Side.LEFT),)),
        tested=("bee-queue 2.0",),
        versions=("1", "3"),
        alike="*:delayed",
    )
