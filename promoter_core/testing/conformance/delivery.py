"""Delivery to consumers: envelopes and names byte for byte, events, index and marker, and the stream's bound."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core.spi import JobOutcome, Overflow
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import SOON_MS, Kit
from promoter_core.testing.conformance.obligations import obliges

BYTES = bytes(range(256))
ODD_TEXT = (
    "plain",
    "with space\tand\nline",
    "ünïcode – 日本語 🎉",
    "{braces}:colons:*?[",
    "nul\x00inside",
    b"\xff\xfe not utf-8 \x80".decode("utf-8", "surrogateescape"),
    "x" * 200,
)
ENTRY = "The stream entry holds the envelope (`d`) and the name (`n`, absent when empty)."


class DeliveryContract(ContractBase):
    @pytest.mark.parametrize(
        "payload",
        [b"", b"\xc0", BYTES, b"\x00" * 1024, b"x" * 2**20, b"\xc1\xd9"],
        ids=["empty", "nil", "all bytes", "zeros", "1 MiB", "no msgpack"],
    )
    async def test_the_payload_arrives_byte_for_byte(self, kit: Kit, payload: bytes) -> None:
        await kit.due("a", payload=payload)
        await kit.promote(await kit.lead())
        arrival = await kit.arrival()
        obliges("Backend.promote", ENTRY, arrival.envelope.payload == payload, payload=arrival.envelope.payload)

    async def test_the_envelope_keeps_created_at_and_attempt(self, kit: Kit) -> None:
        await kit.due("a", created_at_ms=1_234_567_890_123, attempt=7)
        await kit.promote(await kit.lead())
        arrival = await kit.arrival()
        e = arrival.envelope
        obliges("Backend.promote", ENTRY, (e.created_at_ms, e.attempt) == (1_234_567_890_123, 7), envelope=e)

    @pytest.mark.parametrize("id", ODD_TEXT, ids=range(len(ODD_TEXT)))
    async def test_any_id_arrives_as_it_is_and_can_be_cancelled(self, kit: Kit, id: str) -> None:
        await kit.due(id)
        p = await kit.promote(await kit.lead())
        obliges("Backend.promote", ENTRY, await kit.arrived() == [id], arrived=await kit.arrived())
        obliges(
            "Backend.promote", "`jobs` is empty unless `request.want_jobs`", [j.id for j in p.jobs] == [id], jobs=p.jobs
        )
        await kit.schedule(id)
        (outcome,) = await kit.backend.cancel(kit.queue, [id])
        obliges("Backend.cancel", "REMOVED: the job was waiting", outcome is JobOutcome.REMOVED, outcome=outcome)

    @pytest.mark.parametrize("name", ODD_TEXT, ids=range(len(ODD_TEXT)))
    async def test_any_name_arrives_as_it_is(self, kit: Kit, name: str) -> None:
        await kit.due("a", name=name)
        p = await kit.promote(await kit.lead())
        arrival = await kit.arrival()
        obliges("Backend.promote", ENTRY, arrival.name == name, name=arrival.name)
        obliges("Backend.promote", ENTRY, [j.name for j in p.jobs] == [name], jobs=p.jobs)

    async def test_an_empty_name_is_absent(self, kit: Kit) -> None:
        await kit.due("a", "b")
        await kit.promote(await kit.lead())
        obliges("Backend.promote", ENTRY, [a.name for a in await kit.arrivals()] == [None, None])

    async def test_each_job_has_its_own_name_and_payload(self, kit: Kit) -> None:
        for i in range(5):
            await kit.schedule(f"j{i}", delay_ms=SOON_MS + i, name=f"n{i}" if i % 2 else "", payload=b"%d" % i)
        await kit.sleep_ms(SOON_MS * 3)
        await kit.promote(await kit.lead())
        seen = [(a.id, a.name, a.envelope.payload) for a in sorted(await kit.arrivals(), key=lambda a: a.id)]
        expected = [(f"j{i}", f"n{i}" if i % 2 else None, b"%d" % i) for i in range(5)]
        obliges("Backend.promote", ENTRY, seen == expected, seen=seen)

    async def test_a_full_stream_holds_jobs_back(self, kit: Kit) -> None:
        lease = await kit.lead()
        await kit.due("a", "b", "c", "d", "e")
        rule = "If there was less room than `limit`, `held_back` counts all due jobs that stay; otherwise it is 0."
        p = await kit.promote(lease, max_stream_len=3, overflow=Overflow.HOLD)
        obliges("Backend.promote", rule, (p.promoted, p.held_back, p.depth) == (3, 2, 2), promotion=p)
        p = await kit.promote(lease, max_stream_len=3, overflow=Overflow.HOLD)
        obliges(
            "Backend.promote",
            "the stream does not grow beyond `max_stream_len`",
            (p.promoted, p.held_back) == (0, 2),
            promotion=p,
        )
        p = await kit.promote(lease, max_stream_len=5, overflow=Overflow.HOLD)
        obliges("Backend.promote", rule, (p.promoted, p.held_back, p.depth) == (2, 0, 0), promotion=p)
        rule = "due jobs that find no room stay in the set."
        obliges("Backend.promote", rule, await kit.arrived() == list("abcde"), arrived=await kit.arrived())

    async def test_nothing_is_held_back_while_there_is_room(self, kit: Kit) -> None:
        await kit.due("a", "b")
        p = await kit.promote(await kit.lead(), limit=1, max_stream_len=3)
        rule = "`held_back` counts all due jobs that stay; otherwise it is 0."
        obliges("Backend.promote", rule, p.held_back == 0, promotion=p)

    async def test_trim_drops_the_oldest_entries_and_promotes_everything(self, kit: Kit) -> None:
        lease = await kit.lead()
        ids = [f"j{i:04}" for i in range(1000)]
        await kit.due(*ids, delay_ms=SOON_MS)
        ticks = await kit.drain(lease, limit=250, max_stream_len=20, overflow=Overflow.TRIM)
        promoted = sum(tick.promoted for tick in ticks)
        arrived = await kit.arrived()
        obliges("Backend.promote", "the oldest entries are dropped to keep the length, approximately", promoted == 1000)
        ok = 20 <= len(arrived) <= 400 and sorted(arrived) == sorted(ids)[-len(arrived) :]
        obliges(
            "Backend.promote", "the oldest entries are dropped to keep the length, approximately", ok, kept=len(arrived)
        )

    async def test_producers_and_the_promoter_work_at_the_same_time(self, kit: Kit) -> None:
        lease = await kit.lead()
        ids = [f"j{i}" for i in range(120)]

        async def produce(some: list[str]) -> None:
            for id in some:
                await kit.schedule(id, delay_ms=5, unique=True)

        producing = asyncio.gather(*(produce(ids[i::4]) for i in range(4)))
        while not producing.done():
            await kit.promote(lease, limit=3)
            await kit.sleep_ms(1)
        await producing
        await kit.empty(lease)
        arrived = await kit.arrived()
        obliges("Backend.promote", "in one atomic step", sorted(arrived) == sorted(ids), arrived=len(arrived))
