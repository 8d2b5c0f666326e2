"""`Letters`: the dead letters of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from promoter_core import Backend, ConfigError, unpack_envelope
from promoter_core.cli import output
from promoter_core.cli.live.frame import Column
from promoter_core.spi import DeadLetterSupport, StreamEntry, StreamName, to_text

SHOWN = 20_000  # bytes shown of a dead letter


class Letters:
    """Read the dead letters page by page. An action returns its result as a sentence."""

    PAGE = 100
    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("entry", 20),
        Column("reason", 12),
        Column("detail", 24),
        Column("bytes", 9, True),
        Column("name", 0),
    )

    def __init__(self, backend: Backend, queue: str) -> None:
        self._backend, self._queue = backend, queue

    async def page(self, after: str) -> Sequence[StreamEntry]:
        return await self._backend.read(self._queue, StreamName.DLQ, after, self.PAGE)

    def cells(self, entry: StreamEntry) -> tuple[str, ...]:
        texts = (_text(entry, field) for field in ("reason", "detail"))
        return (output.shown(entry.id), *texts, f"{len(entry.fields.get('d', b'')):,}", _text(entry, "n"))

    def text(self, entry: StreamEntry) -> str:
        """Return an entry with all details."""
        data = entry.fields.get("d", b"")
        lines = [f"{field + ':':<11}{_text(entry, field)}" for field in ("reason", "detail", "source_id", "n")]
        try:
            job = unpack_envelope(data)
        except ValueError:
            lines.append("job:       unreadable")
        else:
            lines.append(f"job:       {output.shown(job.id)}, {job.attempt} attempts")
        more = f"\n… of {len(data):,} bytes" if len(data) > SHOWN else ""
        return "\n".join([*lines, f"bytes:     {data[:SHOWN]!r}{more}"])

    async def requeue(self, entry: StreamEntry) -> str:
        letters, data = self._support(), entry.fields.get("d", b"")
        try:
            unpack_envelope(data)
        except ValueError:
            return f"{entry.id}: it contains no readable job, so it stays"
        moved = await letters.requeue_dead_letter(self._queue, entry.id, data, to_text(entry.fields.get("n", b"")))
        return f"{entry.id} {'is in the stream' if moved else 'no longer exists'}"

    async def delete(self, entry: StreamEntry) -> str:
        deleted = await self._support().delete_dead_letters(self._queue, [entry.id])
        return f"{entry.id} {'is deleted' if deleted else 'no longer exists'}"

    def _support(self) -> DeadLetterSupport:
        if not isinstance(self._backend, DeadLetterSupport):
            raise ConfigError(f"the backend {type(self._backend).__name__} has no dead letters")
        return self._backend


def _text(entry: StreamEntry, field: str) -> str:
    return output.shown(entry.fields.get(field, b"").decode("utf-8", "replace"))
