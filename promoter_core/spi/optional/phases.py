"""The phases after a promotion, for backends that do not fuse them into `promote`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from promoter_core.spi.model import PromotedJob


@runtime_checkable
class SeparateCleanup(Protocol):
    """Required exactly when CLEANUP is missing from `capabilities.fused`."""

    async def cleanup(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        """Drop the cancel index of promoted jobs.

        Their dedup markers stay, so that a late repeat by the producer is a no-op. Skips jobs without an id or an
        index, and the index of a job that was scheduled meanwhile under the same id.
        """
        ...


@runtime_checkable
class SeparateEmit(Protocol):
    """Required exactly when EMIT is missing from `capabilities.fused`."""

    async def emit(self, queue: str, jobs: Sequence[PromotedJob], max_stream_len: int) -> None:
        """Append one `waiting` event for each job with an id to the queue's events stream, in order.

        A job that was already due when it was scheduled also gets one. Fields `e`, `id`, `ts` (`promoted_ms`) and `n`
        (absent when empty). The stream is trimmed to about `max_stream_len`.
        """
        ...
