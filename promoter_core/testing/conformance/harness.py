"""`Kit`: one queue of one backend, with short methods for conformance tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

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
from promoter_core.testing.conformance.obligations import obliges

LONG_MS = 60_000  # a lease, or a delay, that does not end within a test
SOON_MS = 20
MANY = 2_000  # ticks, of a test that goes on until something is done
FROM_SET = "Move due jobs from the sorted set to the stream"
REQUEST = PromotionRequest(limit=10_000, max_stream_len=1_000_000)


@dataclass
class Arrival:
    """A promoted job, as a consumer sees it."""

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
        """Return another queue of the same backend, or the same queue through another backend."""
        return Kit(backend, self.clock, self.queue) if backend is not None else Kit(self.backend, self.clock)

    async def sleep_ms(self, ms: float) -> None:
        await self.clock.sleep(ms / 1000)

    async def lead(self, holder: str = "leader", ttl_ms: int = LONG_MS) -> Lease:
        lease = await self.backend.lock(self.queue, holder, ttl_ms)
        free = "Grants a `Lease` when the lock is free, has expired, or already belongs to `holder`"
        obliges("Backend.lock", free, isinstance(lease, Lease), queue=self.queue, holder=holder, answer=lease)
        return cast("Lease", lease)

    async def schedule(self, *ids: str, delay_ms: int | None = LONG_MS, **fields: Any) -> tuple[Any, ...]:
        """Schedule jobs that differ only in their ids."""
        requests = [job(id, **({"delay_ms": delay_ms} | fields)) for id in ids]
        answers: tuple[Any, ...] = await self.backend.schedule(self.queue, requests)
        return answers

    async def lock(self, holder: str, ttl_ms: int = LONG_MS) -> Any:
        return await self.backend.lock(self.queue, holder, ttl_ms)

    async def cancel(self, *ids: str) -> tuple[Any, ...]:
        outcomes: tuple[Any, ...] = await self.backend.cancel(self.queue, ids)
        return outcomes

    async def due(self, *ids: str, **fields: Any) -> None:
        """Schedule jobs, due a millisecond apart, and wait until they are due."""
        already = (await self.backend.stats(self.queue)).due
        requests = [job(id, **({"delay_ms": 1 + i} | fields)) for i, id in enumerate(ids)]
        await self.backend.schedule(self.queue, requests)
        await self.sleep_ms(1 + max((request.delay_ms or 0 for request in requests), default=0))
        for _ in range(100):  # the store's clock may run behind ours
            if (await self.backend.stats(self.queue)).due >= already + len(ids):
                return
            await self.sleep_ms(1)

    async def ahead(self, offsets_ms: Mapping[str, int], **fields: Any) -> int:
        """Schedule jobs in one call that ends before any is due, even in a slow store, and wait until all are due.

        Job `id` is due `offsets_ms[id]` after the returned time, which is the store's.
        """
        for lead_ms in (60, 240, 960, 3_840, 15_360):
            base_ms: int = (await self.backend.stats(self.queue)).now_ms + lead_ms
            requests = [job(id, due_ms=base_ms + offset_ms, **fields) for id, offset_ms in offsets_ms.items()]
            await self.backend.schedule(self.queue, requests)
            if (await self.backend.stats(self.queue)).now_ms < base_ms + min(offsets_ms.values()):
                break
            await self.backend.cancel(self.queue, list(offsets_ms))  # a job may be due before all were scheduled
        due_ms = base_ms + max(offsets_ms.values())
        for _ in range(MANY):
            if (now_ms := (await self.backend.stats(self.queue)).now_ms) >= due_ms:
                break
            await self.sleep_ms(due_ms - now_ms)
        return base_ms

    async def promote(self, lease: Lease, **changes: Any) -> Promotion:
        """Run one tick with all its phases, like the promoter. Fails if the lease was lost."""
        promotion = await self.try_promote(lease, **changes)
        holds = isinstance(promotion, Promotion)
        obliges("Backend.promote", "unless `lease.holder` holds the lock", holds, lease=lease, answer=promotion)
        return cast("Promotion", promotion)

    async def drain(self, lease: Lease, **changes: Any) -> list[Promotion]:
        """Run ticks until nothing more is promoted. Return those that promoted something."""
        promotions: list[Promotion] = []
        for _ in range(MANY):
            promotions.append(await self.promote(lease, **changes))
            if not promotions[-1].promoted:
                return promotions[:-1]
        obliges("Backend.promote", FROM_SET, False, ticks=MANY, last=promotions[-1], expected="an end to what is due")
        raise AssertionError

    async def empty(self, lease: Lease) -> None:
        """Run ticks until no job waits."""
        for _ in range(MANY):
            if not (last := await self.promote(lease)).depth:
                return
            await self.sleep_ms(1)
        obliges("Backend.promote", FROM_SET, False, ticks=MANY, last=last, expected="an empty set")

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
        """Return all entries of the stream, in order. Fails if an entry contains no envelope."""
        return [arrival_of(entry) for entry in await self.entries(StreamName.JOBS)]

    async def arrival(self) -> Arrival:
        """Return the only entry of the stream. Fails if there are none or several."""
        arrivals = await self.arrivals()
        obliges("Backend.promote", FROM_SET, len(arrivals) == 1, expected="one entry", stream=arrivals)
        return arrivals[0]

    async def arrived(self) -> list[str]:
        """Return the ids in the stream, in order."""
        return [a.id for a in await self.arrivals()]

    async def events(self) -> list[dict[str, str]]:
        """Return the fields of each event, in order. Fails if an event lacks a field."""
        events = [{k: _text(v) for k, v in e.fields.items()} for e in await self.entries(StreamName.EVENTS)]
        lacking = [event for event in events if not {"e", "id", "ts"} <= set(event)]
        obliges("SeparateEmit.emit", "Fields `e`, `id`, `ts` (`promoted_ms`) and `n`", not lacking, events=lacking)
        return events

    async def entries(self, stream: StreamName) -> list[StreamEntry]:
        return [entry for page in await self.pages(stream, 500) for entry in page]

    async def pages(self, stream: StreamName, limit: int) -> list[tuple[StreamEntry, ...]]:
        """Read a whole stream, `limit` entries at a time."""
        pages: list[tuple[StreamEntry, ...]] = []
        after, seen = "", set[str]()
        while page := await self.backend.read(self.queue, stream, after, limit):
            rule = 'a stream with ids after `after` ("" for the start)'
            obliges("Backend.read", rule, seen.isdisjoint(e.id for e in page), after=after, limit=limit, page=page)
            pages.append(page)
            after, seen = page[-1].id, seen | {entry.id for entry in page}
        return pages


def job(
    id: str, *, payload: bytes = b"\xa4data", created_at_ms: int = 1_700_000_000_000, attempt: int = 0, **fields: Any
) -> JobRequest:
    """Return a request for a job with this envelope; `fields` are other fields of the request."""
    if fields.get("due_ms") is not None:
        fields["delay_ms"] = None
    return JobRequest(id, pack_envelope(id, payload, created_at_ms, attempt), **fields)


def context_of(fields: Mapping[str, bytes | str]) -> dict[str, str]:
    """Return the trace context in the fields of an entry, including empty values of fields that should be absent."""
    found = {field: fields[field] for field in ("traceparent", "tracestate") if field in fields}
    return {field: _text(value) if isinstance(value, bytes) else value for field, value in found.items()}


def arrival_of(entry: StreamEntry) -> Arrival:
    """Return the job in an entry. Fails if it contains no envelope."""
    try:
        envelope = unpack_envelope(entry.fields.get("d", b""))
    except ValueError as exc:
        raise AssertionError(f"what is in the stream is no job: {exc}: {entry!r:.500}") from None
    return Arrival(envelope, _text(entry.fields["n"]) if "n" in entry.fields else None, entry)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
