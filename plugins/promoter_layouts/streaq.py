"""streaQ's delayed tasks: each priority has a set and a stream."""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options


def streaq(priority: str = "normal") -> in_place.InPlace:
    """`priority` is one of the worker's `priorities`; a promoter serves one."""
    name = options.prefix("streaq", priority, "priority")
    return in_place.InPlace(
        name="streaq",
        framework="streaQ",
        source=f"streaq:{{queue}}:queues:delayed:{name}",
        moves=in_place.Entry(
            f"streaq:{{queue}}:queues:{name}",
            (("task_id", in_place.Held.MEMBER), ("enqueue_time", in_place.Held.SCORE)),
        ),
        tested=("streaq 7.2",),
        versions=("6", "8"),
        alike="streaq:*:queues:delayed:*",
    )
