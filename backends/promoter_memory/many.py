"""`ManyQueues` in memory: each of its calls is the single one, again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from promoter_core.contracts import ChangeFeed
from promoter_core.errors import TransientError
from promoter_core.model import Lease, LeaseHeld, LeaseLost, Members, Promotion, PromotionRequest, Renewal
from promoter_core.signals import What

if TYPE_CHECKING:
    from promoter_memory.backend import MemoryStore

PAGE = 100  # queues


class MemoryQueues:
    """What `MemoryBackend` offers for many queues."""

    _store: MemoryStore
    _open: bool

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        raise NotImplementedError

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        raise NotImplementedError

    async def lock_many(self, queues: Sequence[str], holder: str, ttl_ms: int) -> Sequence[Lease | LeaseHeld]:
        return [await self.lock(queue, holder, ttl_ms) for queue in queues]

    async def promote_many(self, asked: Sequence[tuple[Lease, PromotionRequest]]) -> Sequence[Promotion | LeaseLost]:
        return [await self.promote(lease, request) for lease, request in asked]

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost]:
        now_ms = self._now_ms()
        answers: list[Renewal | LeaseLost] = []
        for lease in leases:
            q = self._store[lease.queue]
            if q.holder(now_ms) != lease.holder:
                answers.append(LeaseLost())
                continue
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
            next_ms = head.due_ms if (head := q.head()) else None
            answers.append(Renewal(now_ms, next_ms is not None and next_ms <= now_ms, next_ms))
        return answers

    async def feed(self) -> ChangeFeed:
        self._now_ms()
        return self._store.signals.feed(_read_key)

    async def find(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        now_ms = self._now_ms()
        found = [
            name
            for name, q in self._store.queues()
            if (q.depth or q.holder(now_ms) is not None) and any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        for first in range(0, len(found), PAGE):
            yield found[first : first + PAGE]

    async def announce(self, queues: Sequence[str]) -> None:
        self._now_ms()
        for queue in queues:
            self._store.signals.set((queue, What.SET))

    async def join(self, group: str, member: str, ttl_ms: int) -> Members:
        now_ms = self._now_ms()
        members = self._store.groups.setdefault(group, {})
        for name in [n for n, expiry_ms in members.items() if expiry_ms <= now_ms]:
            del members[name]
        new = member not in members
        members[member] = now_ms + ttl_ms
        if new:
            self._store.signals.set((group, What.MEMBERS))
        others = [expiry_ms for name, expiry_ms in members.items() if name != member]
        return Members(frozenset(members), min(others) - now_ms if others else None)

    async def leave(self, group: str, member: str) -> None:
        self._now_ms()
        if self._store.groups.get(group, {}).pop(member, None) is not None:
            self._store.signals.set((group, What.MEMBERS))

    def _now_ms(self) -> int:
        if not self._open:
            raise TransientError("the memory backend is closed: use it inside `async with connect(…)`", code="CLOSED")
        return self._store.clock.time_ms()


def _read_key(key: Hashable) -> tuple[What, str]:
    assert isinstance(key, tuple)
    queue, what = key
    return what, queue
