"""`ManyQueues` for Redis-protocol servers: calls for several queues in one round trip, finding queues, membership."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from promoter_core.clock import SystemClock
from promoter_core.contracts import ChangeFeed
from promoter_core.errors import BackendError
from promoter_core.model import (
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    Overflow,
    Promotion,
    PromotionRequest,
    Renewal,
)
from promoter_core.signals import Signals, What
from promoter_resp import replies
from promoter_resp.driver import Arg, Call, Driver, Script
from promoter_resp.errors import closed_error
from promoter_resp.keys import SCRATCH, WAKES, group_keys, head_of, heads_glob, keys_of, queue_of

LOCK, PROMOTE, RENEW = Script("lock"), Script("promote"), Script("renew")
JOIN, LEAVE, ANNOUNCE = Script("join"), Script("leave"), Script("announce")

RENEWED_AT_ONCE = 500  # locks by one call of the script, so that none of them holds the server for long
ANNOUNCED_AT_ONCE = 500  # queues by one call of the script


class RespQueues:
    """What `RespBackend` does for many queues as for one: take locks, promote, hear of changes."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._signals = Signals(SystemClock())
        self._open = False
        self._reclaims: dict[str, tuple[float, float]] = {}  # queue → when to look again, and the pause after that

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        self._check_open()
        calls = []
        for queue in queues:
            k = keys_of(queue)
            await self._driver.watch(k, self._changed)
            self._signals.clear(k.lock)
            calls.append(Call(LOCK, (k.lock, k.delayed), (text_bytes(holder), ttl_ms)))
        return [
            reply if isinstance(reply, BackendError) else replies.lock_reply(reply, Lease(queue, holder, ttl_ms))
            for queue, reply in zip(queues, await self._driver.ticks(calls), strict=True)
        ]

    async def promote_many(
        self, asked: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        self._check_open()
        answers = [
            reply if isinstance(reply, BackendError) else replies.promote_reply(reply)
            for reply in await self._driver.ticks([self._promotion(*one) for one in asked])
        ]
        full: list[str] = []
        for (lease, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, LeaseLost):
                self._reclaims.pop(lease.queue, None)
            elif isinstance(answer, Promotion) and answer.held_back and not answer.promoted:
                full.append(lease.queue)
        if full:
            await asyncio.gather(*map(self._reclaim, full))
        return answers

    def _promotion(self, lease: Lease, request: PromotionRequest) -> Call:
        k = keys_of(lease.queue)
        self._signals.clear(k.delayed)
        args: tuple[Arg, ...] = (
            text_bytes(lease.holder),
            lease.ttl_ms if request.renew else 0,
            request.limit,
            request.max_stream_len,
            int(request.overflow is Overflow.HOLD),
            int(request.events),
            request.events_max_stream_len,
            int(request.want_jobs),
            k.index,
            k.trace if request.want_traces else b"",
            k.marker,
        )
        return Call(PROMOTE, (k.lock, k.delayed, k.stream, k.events, k.dlq), args, timed=request.want_work)

    async def _reclaim(self, queue: str) -> None:
        raise NotImplementedError

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost | BackendError]:
        self._check_open()
        chunks = list(self._by_call(leases))
        calls = []
        for chunk in chunks:
            keys = [key for lease in chunk for k in (keys_of(lease.queue),) for key in (k.lock, k.delayed)]
            calls.append(Call(RENEW, keys, (text_bytes(chunk[0].holder), chunk[0].ttl_ms)))
        answers: list[Renewal | LeaseLost | BackendError] = []
        for chunk, reply in zip(chunks, await self._driver.ticks(calls), strict=True):
            failed = isinstance(reply, BackendError)
            answers += [reply] * len(chunk) if failed else replies.renew_reply(reply, len(chunk))
        return answers

    def _by_call(self, leases: Sequence[Lease]) -> Iterator[Sequence[Lease]]:
        """Leases that one call can renew: of one holder and one length, and in a cluster of one slot."""
        first = 0
        for i in range(1, len(leases) + 1):
            apart = i == len(leases) or _terms(leases[i]) != _terms(leases[first])
            if apart or self._driver.clustered or i - first == RENEWED_AT_ONCE:
                yield leases[first:i]
                first = i

    async def feed(self) -> ChangeFeed:
        self._check_open()
        await self._driver.hear(self._changed)
        return self._signals.feed(_read_key)

    async def find(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        self._check_open()
        async for page in self._driver.scan(heads_glob(patterns)):
            queues = {queue for key in page if (queue := head_of(key)) is not None and not queue.startswith(SCRATCH)}
            yield [queue for queue in queues if any(fnmatchcase(queue, pattern) for pattern in patterns)]

    async def announce(self, queues: Sequence[str]) -> None:
        self._check_open()
        for i in range(0, len(queues), ANNOUNCED_AT_ONCE):
            keys = [keys_of(queue) for queue in queues[i : i + ANNOUNCED_AT_ONCE]]
            messages = [part for k in keys for part in (k.wake, k.delayed)]
            # The keys of the others are not touched, only named in messages: any node of a cluster can send them.
            await self._driver.run([Call(ANNOUNCE, (keys[0].delayed,), messages)])

    async def join(self, group: str, member: str, ttl_ms: int) -> Members:
        self._check_open()
        members, channel = group_keys(group)
        (reply,) = await self._driver.run([Call(JOIN, (members,), (text_bytes(member), ttl_ms, channel))])
        return replies.members_reply(reply)

    async def leave(self, group: str, member: str) -> None:
        self._check_open()
        members, channel = group_keys(group)
        await self._driver.run([Call(LEAVE, (members,), (text_bytes(member), channel))])

    def _changed(self, key: bytes | None) -> None:
        if key is None:
            self._signals.set_all()
        elif key:  # empty: some client's probe
            self._signals.set(key)

    def _check_open(self) -> None:
        if not self._open:
            raise closed_error()


def _read_key(key: Hashable) -> tuple[What, str] | None:
    """What a change of this key means."""
    found = queue_of(key) if isinstance(key, bytes) else None
    if found is None or found[1] not in WAKES or found[0].startswith(SCRATCH):
        return None
    return WAKES[found[1]], found[0]


def _terms(lease: Lease) -> tuple[str, int]:
    return lease.holder, lease.ttl_ms


def text_bytes(text: Any) -> bytes:
    return str(text).encode("utf-8", "surrogateescape")
