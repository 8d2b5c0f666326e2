"""`chunked`: split any number of items into pieces that a store can handle."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


def chunked(
    items: Sequence[T], count: int, *, size: Callable[[T], int] | None = None, max_size: int = 0
) -> list[Sequence[T]]:
    """Split `items` in order into pieces of at most `count` items, and at most `max_size` in total by `size`.

    A single item larger than `max_size` is a piece by itself. For `schedule`, `cancel` and other methods that take many
    items: no call should block the store for long.

        for some in chunked(jobs, 100, size=lambda job: len(job.envelope), max_size=256 * 1024):
            created += await self._insert(queue, some)
    """
    if len(items) <= (count if size is None else 1):  # the common case
        return [items] if items else []
    chunks: list[Sequence[T]] = []
    first = 0
    while first < len(items):
        some = items[first : first + count]
        if size is not None:
            totals = list(accumulate(map(size, some)))
            if totals[-1] > max_size:
                some = some[: max(bisect_right(totals, max_size), 1)]
        chunks.append(some)
        first += len(some)
    return chunks
