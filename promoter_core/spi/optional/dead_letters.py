"""`DeadLetterSupport`: a backend whose dead letters can be managed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class DeadLetterSupport(Protocol):
    """A backend that can receive malformed members, and whose DLQ can be managed.

    Optional: `promoter dead-letters` needs it. `Backend.read(queue, StreamName.DLQ, …)` returns the entries, each
    with the fields `source_id`, `reason`, `detail` and `d` (the original member).
    """

    async def requeue_dead_letter(self, queue: str, entry_id: str, envelope: bytes, name: str) -> bool:
        """Move a DLQ entry to the stream, atomically, with this envelope and name. Return False if it is gone."""
        ...

    async def delete_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> int:
        """Delete entries of the DLQ. Return how many existed."""
        ...
