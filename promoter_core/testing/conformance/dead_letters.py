"""DeadLetterSupport: malformed members, and the DLQ that receives them. Skipped if it is not offered.

Needs the fixture `add_malformed`, because the contract's own methods never add malformed members.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from promoter_core.spi import DeadLetterSupport, StreamEntry, StreamName, pack_envelope, to_bytes
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.delivery import BYTES, ODD_TEXT
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.obligations import obliges

MEMBERS = (b"\x01", b"\x02\xff", b"\x03\x00\xfe")  # malformed: too short for a header
ENVELOPE = pack_envelope("again", BYTES, 1_234_567_890_123, 2)
REQUEUE = "DeadLetterSupport.requeue_dead_letter"
MOVED = "Move a DLQ entry to the stream, atomically, with this envelope and name."
GONE = "Return False if it is gone."
DELETE = "DeadLetterSupport.delete_dead_letters"
COUNTED = "Delete entries of the DLQ. Return how many existed."

AddMalformed = Callable[[str, bytes], Awaitable[None]]


class DeadLettersContract(ContractBase):
    @pytest.fixture
    def letters(self, kit: Kit) -> Any:
        needs_support(kit, DeadLetterSupport)
        return kit.backend

    async def test_malformed_members_go_to_the_dlq_and_stop_nothing(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed
    ) -> None:
        await kit.due("a", "b")
        for member in MEMBERS:
            await add_malformed(kit.queue, member)
        p = await kit.promote(await kit.lead())
        counts = (p.promoted, p.malformed, p.depth, [job.id for job in p.jobs])
        rule = "A wholly malformed member goes to the DLQ and counts in `malformed`."
        obliges("Backend.promote", rule, counts == (2, len(MEMBERS), 0, ["a", "b"]), promotion=p)
        rule = "A member that cannot be decoded never stops the batch"
        obliges("Backend.promote", rule, await kit.arrived() == ["a", "b"], arrived=await kit.arrived())
        entries = await kit.entries(StreamName.DLQ)
        told = all({"source_id", "reason", "detail"} <= set(e.fields) for e in entries)
        obliges("DeadLetterSupport", "with the fields `source_id`, `reason`, `detail` and `d`", told, entries=entries)
        rule = "goes to the DLQ and counts in `malformed`."
        obliges("Backend.promote", rule, sorted(e.fields["d"] for e in entries) == sorted(MEMBERS), entries=entries)
        stats = await letters.stats(kit.queue)
        obliges(
            "Backend.stats", "Return a consistent snapshot of the queue", stats.dlq_len == len(MEMBERS), stats=stats
        )

    @pytest.mark.parametrize("name", ["", *ODD_TEXT], ids=range(len(ODD_TEXT) + 1))
    async def test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed, name: str
    ) -> None:
        first, second, third = await self._dead(kit, add_malformed)
        answer = await letters.requeue_dead_letter(kit.queue, second.id, ENVELOPE, name)
        obliges(REQUEUE, MOVED, answer is True, answer=answer)
        seen = [dict(entry.fields) for entry in await kit.entries(StreamName.JOBS)]
        expected = {"d": ENVELOPE} | ({"n": to_bytes(name)} if name else {})
        obliges(REQUEUE, MOVED, seen == [expected], stream=seen)
        left = await kit.entries(StreamName.DLQ)
        obliges(REQUEUE, MOVED, left == [first, third], left=left)

    async def test_a_dead_letter_that_has_gone_is_not_moved(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed
    ) -> None:
        first, *others = await self._dead(kit, add_malformed)
        await letters.requeue_dead_letter(kit.queue, first.id, ENVELOPE, "")
        for id in (first.id, "1-1"):
            answer = await letters.requeue_dead_letter(kit.queue, id, ENVELOPE, "")
            obliges(REQUEUE, GONE, answer is False, answer=answer, id=id)
        arrived = await kit.arrived()
        obliges(REQUEUE, GONE, arrived == ["again"], arrived=arrived)
        obliges(REQUEUE, GONE, await kit.entries(StreamName.DLQ) == others)

    async def test_one_of_many_concurrent_requeues_moves_it(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed
    ) -> None:
        first, *others = await self._dead(kit, add_malformed)
        answers = await asyncio.gather(
            *(letters.requeue_dead_letter(kit.queue, first.id, ENVELOPE, "") for _ in range(20))
        )
        obliges(REQUEUE, GONE, sorted(answers) == [False] * 19 + [True], answers=answers)
        obliges(REQUEUE, MOVED, await kit.arrived() == ["again"], arrived=await kit.arrived())
        obliges(REQUEUE, MOVED, await kit.entries(StreamName.DLQ) == others)

    async def test_a_requeue_that_is_cancelled_loses_nothing(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed
    ) -> None:
        entries = []
        for _ in range(4):
            entries = await self._dead(kit, add_malformed)
        for rounds, entry in enumerate(entries):
            call = letters.requeue_dead_letter(kit.queue, entry.id, pack_envelope(entry.id, b"", 0, 0), "")
            under_way = asyncio.ensure_future(call)
            for _ in range(rounds):
                await asyncio.sleep(0)
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
        for _ in range(100):  # a call that was given up may take effect yet
            there = sorted(await kit.arrived() + [e.id for e in await kit.entries(StreamName.DLQ)])
            if there == sorted(e.id for e in entries):
                return
            await kit.sleep_ms(5)
        obliges(REQUEUE, MOVED, False, there=there, expected=sorted(e.id for e in entries))

    async def test_dead_letters_are_deleted_and_counted(
        self, letters: Any, kit: Kit, add_malformed: AddMalformed
    ) -> None:
        first, second, third = await self._dead(kit, add_malformed)
        deleted = await letters.delete_dead_letters(kit.queue, [third.id, "1-1", first.id])
        obliges(DELETE, COUNTED, deleted == 2, deleted=deleted)
        left = await kit.entries(StreamName.DLQ)
        obliges(DELETE, COUNTED, left == [second], left=left)
        deleted = await letters.delete_dead_letters(kit.queue, [third.id, first.id])
        obliges(DELETE, COUNTED, deleted == 0, deleted=deleted)
        deleted = await letters.delete_dead_letters(kit.queue, [])
        obliges(DELETE, COUNTED, deleted == 0, deleted=deleted)
        left, stats = await kit.entries(StreamName.DLQ), await letters.stats(kit.queue)
        obliges(DELETE, COUNTED, left == [second] and stats.dlq_len == 1, left=left, stats=stats)
        obliges(DELETE, COUNTED, await kit.arrived() == [], arrived=await kit.arrived())

    async def test_queues_do_not_share_dead_letters(self, letters: Any, kit: Kit, add_malformed: AddMalformed) -> None:
        other = kit.other()
        mine = await self._dead(kit, add_malformed)
        await kit.sleep_ms(5)  # the ids tell the time
        theirs = await self._dead(other, add_malformed)
        moved = await letters.requeue_dead_letter(other.queue, mine[0].id, ENVELOPE, "")
        deleted = await letters.delete_dead_letters(other.queue, [e.id for e in mine])
        rule = "Queues never see one another."
        obliges("Backend", rule, (moved, deleted) == (False, 0), moved=moved, deleted=deleted)
        obliges("Backend", rule, await kit.entries(StreamName.DLQ) == mine)
        obliges("Backend", rule, await other.entries(StreamName.DLQ) == theirs)

    async def _dead(self, kit: Kit, add_malformed: AddMalformed) -> list[StreamEntry]:
        """Add three dead letters, and return all entries of the DLQ."""
        for member in MEMBERS:
            await add_malformed(kit.queue, member)
        await kit.promote(await kit.lead())
        return await kit.entries(StreamName.DLQ)
