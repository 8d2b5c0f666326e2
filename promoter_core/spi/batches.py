"""`chunked`: what comes in any number, in pieces that a store can take."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


def chunked(
    items: Sequence[T], count: int, *, size: Callable[[T], int] | None = None, max_size: int = 0
) -> list[Sequence[T]]:
    """`items` in order, at most `count` at a time, and with `size` at most `max_size` of it, if one alone is not more.

    For `schedule`, `cancel` and whatever takes many queues: no call should hold up the store for long.

        for some in chunked(jobs, 100, size=lambda job: len(job.envelope), max_size=256 * 1024):
            created += await self._insert(queue, some)
    """
    if len(items) <= (count if size is None else 1):  # most calls
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
