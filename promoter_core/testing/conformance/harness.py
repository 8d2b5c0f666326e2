"""`Kit`: one queue of one backend, with short words for what conformance tests do to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ulid import ULID

from promoter_core.spi import (
    Clock,
    Envelope,
    JobRequest,
    Lease,
    LeaseLost,
    Phase,
    Promotion,
    PromotionRequest,
    StreamEntry,
    StreamName,
    pack_envelope,
    unpack_envelope,
)

LONG_MS = 60_000  # a lease, or a delay, that does not end within a test
SOON_MS = 20
REQUEST = PromotionRequest(limit=10_000, max_stream_len=1_000_000)


@dataclass
class Arrival:
    """A promoted job as a consumer sees it."""

    envelope: Envelope
    name: str | None  # None when the entry has no `n`
    entry: StreamEntry

    @property
    def id(self) -> str:
        return self.envelope.id


class Kit:
    """One queue of the backend under test."""

    def __init__(self, backend: Any, clock: Clock, queue: str | None = None) -> None:
        self.backend = backend
        self.clock = clock
        self.queue = queue or f"kit-{ULID()}"

    def other(self, backend: Any = None) -> Kit:
        """Another queue of the same backend, or the same queue through another backend."""
        return Kit(backend, self.clock, self.queue) if backend is not None else Kit(self.backend, self.clock)

    async def sleep_ms(self, ms: float) -> None:
        await self.clock.sleep(ms / 1000)

    async def lead(self, holder: str = "leader", ttl_ms: int = LONG_MS) -> Lease:
        lease = await self.backend.lock(self.queue, holder, ttl_ms)
        assert isinstance(lease, Lease), f"the lock of a new queue must be free, got {lease!r}"
        return lease

    async def schedule(self, *ids: str, delay_ms: int | None = LONG_MS, **fields: Any) -> tuple[Any, ...]:
        """Schedule jobs that differ by id only."""
        requests = [job(id, **({"delay_ms": delay_ms} | fields)) for id in ids]
        answers: tuple[Any, ...] = await self.backend.schedule(self.queue, requests)
        return answers

    async def lock(self, holder: str, ttl_ms: int = LONG_MS) -> Any:
        return await self.backend.lock(self.queue, holder, ttl_ms)

    async def cancel(self, *ids: str) -> tuple[Any, ...]:
        outcomes: tuple[Any, ...] = await self.backend.cancel(self.queue, ids)
        return outcomes

    async def due(self, *ids: str, **fields: Any) -> None:
        """Schedule jobs, one a millisecond, and let them become due."""
        already = (await self.backend.stats(self.queue)).due
        requests = [job(id, **({"delay_ms": SOON_MS + i} | fields)) for i, id in enumerate(ids)]
        await self.backend.schedule(self.queue, requests)
        await self.sleep_ms(SOON_MS + len(ids))
        for _ in range(100):  # the store's clock may run behind ours
            if (await self.backend.stats(self.queue)).due >= already + len(ids):
                return
            await self.sleep_ms(1)

    async def promote(self, lease: Lease, **changes: Any) -> Promotion:
        """One tick with all its phases, as the promoter does it. Fails when the lease was lost."""
        promotion = await self.try_promote(lease, **changes)
        assert isinstance(promotion, Promotion), "promote answered LeaseLost to the holder of the lock"
        return promotion

    async def try_promote(self, lease: Lease, **changes: Any) -> Promotion | LeaseLost:
        request = replace(REQUEST, **changes)
        promotion: Promotion | LeaseLost = await self.backend.promote(lease, request)
        if isinstance(promotion, Promotion) and promotion.jobs:
            fused = self.backend.capabilities.fused
            if Phase.CLEANUP not in fused:
                await self.backend.cleanup(self.queue, promotion.jobs)
            if Phase.EMIT not in fused and request.events:
                await self.backend.emit(self.queue, promotion.jobs, request.events_max_stream_len)
        return promotion

    async def arrivals(self) -> list[Arrival]:
        """Everything in the stream, in order. Fails when an entry holds no envelope."""
        return [_arrival(entry) for entry in await self.entries(StreamName.JOBS)]

    async def arrived(self) -> list[str]:
        """The ids in the stream, in order."""
        return [a.id for a in await self.arrivals()]

    async def events(self) -> list[dict[str, str]]:
        return [{k: _text(v) for k, v in e.fields.items()} for e in await self.entries(StreamName.EVENTS)]

    async def entries(self, stream: StreamName) -> list[StreamEntry]:
        entries: list[StreamEntry] = []
        while page := await self.backend.read(self.queue, stream, entries[-1].id if entries else "", 500):
            entries += page
        return entries


def job(
    id: str, *, payload: bytes = b"\xa4data", created_at_ms: int = 1_700_000_000_000, attempt: int = 0, **fields: Any
) -> JobRequest:
    """A job with this envelope; `fields` are those of the request."""
    if fields.get("due_ms") is not None:
        fields["delay_ms"] = None
    return JobRequest(id, pack_envelope(id, payload, created_at_ms, attempt), **fields)


def _arrival(entry: StreamEntry) -> Arrival:
    try:
        envelope = unpack_envelope(entry.fields.get("d", b""))
    except ValueError as exc:
        raise AssertionError(f"what is in the stream is no job: {exc}: {entry!r:.500}") from None
    return Arrival(envelope, _text(entry.fields["n"]) if "n" in entry.fields else None, entry)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
