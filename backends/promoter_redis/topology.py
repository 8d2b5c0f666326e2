"""`Topology`: which primary of a cluster has which slot, according to a node. `survey` asks several nodes."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis.crc import key_slot

from promoter_core.spi import BackendError, PermanentError, TransientError

Address = tuple[str, int]

AT_ONCE = 3  # nodes queried concurrently
STAGGER_S = 0.2  # without a usable reply, time before more nodes are queried
COMPARE_S = 0.05  # after the first usable reply, wait this long for a newer one


@dataclass(frozen=True)
class Topology:
    """The topology according to one node. `ranges`: first slot, last slot and primary of each range, by slot."""

    ranges: tuple[tuple[int, int, Address], ...]
    replicas: frozenset[Address] = frozenset()
    ok: bool = True  # whether the node is in contact with the majority
    epoch: int = 0  # grows with every failover and slot migration that the node knows of

    @cached_property
    def primaries(self) -> tuple[Address, ...]:
        """The primaries that have slots."""
        return tuple(dict.fromkeys(address for _, _, address in self.ranges))

    @cached_property
    def nodes(self) -> frozenset[Address]:
        return frozenset(self.primaries) | self.replicas

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """How trustworthy the answer is; greater is better."""
        return bool(self.ranges), self.ok, self.epoch

    @cached_property
    def _firsts(self) -> list[int]:
        return [first for first, _, _ in self.ranges]

    def primary_of(self, key: bytes) -> Address | None:
        """Return the primary with the key's slot; None without one."""
        slot = key_slot(key)
        i = bisect_right(self._firsts, slot) - 1
        return self.ranges[i][2] if i >= 0 and slot <= self.ranges[i][1] else None


def read_topology(slots: Any, info: Any, asked: Address) -> Topology:
    """Read the replies of CLUSTER SLOTS and CLUSTER INFO. `asked` is the address of the node that sent them.

    A node that does not know its own address reports NULL, an empty text or `?`.
    """
    ranges, replicas = [], set[Address]()
    for first, last, primary, *others in slots:
        ranges.append((int(first), int(last), _address(primary, asked)))
        replicas.update(_address(other, asked) for other in others)
    facts = dict(line.split(":", 1) for line in _text(info).split() if ":" in line)
    epoch = facts.get("cluster_current_epoch", "0")
    return Topology(
        ranges=tuple(sorted(ranges)),
        replicas=frozenset(replicas),
        ok=facts.get("cluster_state", "ok") == "ok",
        epoch=int(epoch) if epoch.isdigit() else 0,
    )


def _address(node: Sequence[Any], asked: Address) -> Address:
    """Read `[endpoint, port, id, [name, value, …]]`."""
    host = _text(node[0])
    if host == "?" and len(node) > 3:  # no hostname is configured, but the reply may contain the IP address
        more = [_text(word) for word in node[3]]
        host = dict(zip(more[::2], more[1::2], strict=False)).get("ip", "?")
    return (asked[0] if host in ("", "?") else host, int(node[1]))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


async def survey(addresses: Iterable[Address], ask: Callable[[Address], Awaitable[Topology]]) -> Topology:
    """Ask some nodes at a time, and more while none has an answer; return the best answer.

    Raises PermanentError when every node refuses us permanently, TransientError when none has an answer.
    """
    waiting, asking = deque(addresses), set[asyncio.Task[Topology]]()
    errors: list[BackendError] = []
    best: Topology | None = None
    more = AT_ONCE
    try:
        while True:
            usable = best is not None and bool(best.ranges)
            if not usable:
                for _ in range(min(more, len(waiting))):
                    asking.add(asyncio.ensure_future(ask(waiting.popleft())))
            if not asking:
                break
            limit_s = COMPARE_S if usable else STAGGER_S if waiting else None
            done, asking = await asyncio.wait(asking, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    answer = task.result()
                except BackendError as error:
                    errors.append(error)
                    continue
                best = answer if best is None else max(best, answer, key=lambda topology: topology.rank)
            if usable and not done:
                break
            more = len(done) or AT_ONCE
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if best is not None:
        return best
    passing = [error for error in errors if not isinstance(error, PermanentError)]
    if not errors:
        raise TransientError("there is no known node to ask", code="CLUSTERDOWN")
    if passing and len(passing) < len(errors):
        refused = next(error for error in errors if isinstance(error, PermanentError))
        raise TransientError(f"{passing[0]}; another node says: {refused}", code=passing[0].code)
    raise errors[0]
