"""`DeadLetterSupport`: a backend whose dead letters can be worked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class DeadLetterSupport(Protocol):
    """A backend that malformed members can reach, and whose DLQ can be worked through.

    Optional: `promoter dead-letters` asks for it. The entries are read with `Backend.read(queue, StreamName.DLQ, …)`,
    each with the fields `source_id`, `reason`, `detail` and `d` (the member as it was).
    """

    async def requeue_dead_letter(self, queue: str, entry_id: str, envelope: bytes, name: str) -> bool:
        """Move an entry of the DLQ to the stream, with this envelope and name, atomically. False when it is gone."""
        ...

    async def delete_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> int:
        """Delete entries of the DLQ; how many there were."""
        ...
