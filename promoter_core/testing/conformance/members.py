"""The members of a group: each expires separately, is renewed by joining again, and knows the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import FleetSupport
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, Kit
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend

JOIN = "FleetSupport.join_group"
OTHERS = (
    "Joining again restarts the membership, for a longer or shorter time, and leaves those of the others unchanged."
)
FIRST = "`Members.next_expiry_ms` is the interval, by the store's clock, until the first other member expires."
SHORT_MS = 100


class MembersContract(ContractBase):
    @pytest.fixture
    def join(self, kit: Kit) -> Callable[[str, int], Awaitable[Any]]:
        needs_support(kit, FleetSupport)
        group = f"group-{ULID()}"
        return lambda member, ttl_ms: kit.backend.join_group(group, member, ttl_ms)

    async def test_joining_again_lengthens_a_membership(self, kit: Kit, join: Any) -> None:
        for _ in range(3):
            await join("a", SHORT_MS)
        await join("a", LONG_MS)
        await kit.sleep_ms(SHORT_MS + 50)
        members = await join("b", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "b"}, members=members)
        least_ms = LONG_MS // 2
        obliges(JOIN, FIRST, least_ms < (members.next_expiry_ms or 0) <= LONG_MS, members=members)

    async def test_joining_again_shortens_a_membership(self, kit: Kit, join: Any) -> None:
        await join("a", LONG_MS)
        await join("a", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 50)
        members = await join("b", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"b"}, members=members)
        obliges(JOIN, FIRST, members.next_expiry_ms is None, members=members)

    async def test_each_member_expires_by_itself(self, kit: Kit, join: Any) -> None:
        """A short membership does not shorten the others, and a long one does not extend them."""
        for member, ttl_ms in (("a", LONG_MS), ("b", SHORT_MS), ("c", LONG_MS), ("d", SHORT_MS)):
            await join(member, ttl_ms)
        await kit.sleep_ms(3 * SHORT_MS)
        members = await join("e", SHORT_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "c", "e"}, members=members)
        await kit.sleep_ms(3 * SHORT_MS)
        members = await join("f", LONG_MS)
        obliges(JOIN, OTHERS, members.names == {"a", "c", "f"}, members=members)

    async def test_the_next_expiry_is_that_of_the_first_of_the_others(self, kit: Kit, join: Any) -> None:
        terms = {"a": LONG_MS, "b": 10 * LONG_MS, "c": 5 * LONG_MS, "d": 2 * LONG_MS}
        for member, ttl_ms in terms.items():
            await join(member, ttl_ms)
        for member, ttl_ms in terms.items():
            first_ms = min(ms for name, ms in terms.items() if name != member)
            members = await join(member, ttl_ms)
            told_ms = members.next_expiry_ms or 0
            right = first_ms - LONG_MS // 2 < told_ms <= first_ms
            obliges(JOIN, FIRST, right, asked_by=member, terms=terms, members=members)

    async def test_who_has_left_is_not_waited_for(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        group, other = f"group-{ULID()}", f"group-{ULID()}"
        for g in (group, other):
            await kit.backend.join_group(g, "a", LONG_MS)
            await kit.backend.join_group(g, "b", 3 * LONG_MS)
        await kit.backend.leave_group(group, "a")
        await kit.backend.leave_group(group, "never")
        rule = "Leave a group."
        for g, names, first_ms in ((group, {"b", "c"}, 3 * LONG_MS), (other, {"a", "b", "c"}, LONG_MS)):
            members = await kit.backend.join_group(g, "c", LONG_MS)
            left = f"a left {'this group' if g == group else 'another group'}"
            obliges("FleetSupport.leave_group", rule, members.names == names, who=left, members=members)
            right = first_ms - LONG_MS // 2 < (members.next_expiry_ms or 0) <= first_ms
            obliges(JOIN, FIRST, right, who=left, members=members)
        members = await kit.backend.join_group(group, "a", LONG_MS)
        obliges(
            JOIN, "return its current members", members.names == {"a", "b", "c"}, who="a came back", members=members
        )

    async def test_many_join_at_once_and_know_one_another(self, kit: Kit, pair: Any) -> None:
        needs_support(kit, FleetSupport)
        group, names = f"group-{ULID()}", [f"m{i}" for i in range(20)]
        backends = [CheckedBackend(backend) for backend in pair]
        answers = await asyncio.gather(
            *(backends[i % 2].join_group(group, name, LONG_MS) for i, name in enumerate(names))
        )
        most = max(len(members.names) for members in answers)
        obliges(JOIN, "return its current members, atomically", most == len(names), joined=len(names), most_seen=most)
