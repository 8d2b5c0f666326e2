"""Which member leads which queue: rendezvous (highest random weight) hashing over the live members.

Every member computes the same owner of a queue by itself. When a member comes or goes, only the queues that it gains or
had move; all others stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

_MASK = (1 << 64) - 1


def fingerprint(name: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def weight(member: int, queue: int) -> int:
    """Of a member for a queue, from their fingerprints: the finalizer of SplitMix64, which mixes every bit."""
    x = (member ^ queue) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Rendezvous:
    """The owners of some queues, kept up as queues and members come and go."""

    def __init__(self) -> None:
        self._members: dict[str, int] = {}
        self._queues: dict[str, int] = {}
        self._owners: dict[str, tuple[int, str]] = {}  # with the owner's weight

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self._members)

    def owner(self, queue: str) -> str | None:
        """The member that is to lead the queue; None without members."""
        best = self._owners.get(queue)
        return best[1] if best else None

    def add_queue(self, queue: str) -> None:
        self._queues[queue] = fingerprint(queue)
        self._elect(queue)

    def drop_queue(self, queue: str) -> None:
        self._queues.pop(queue, None)
        self._owners.pop(queue, None)

    def set_members(self, names: Iterable[str]) -> set[str]:
        """The queues whose owner has changed with the members."""
        names = set(names)
        gone, new = self._members.keys() - names, {name: fingerprint(name) for name in names - self._members.keys()}
        for name in gone:
            del self._members[name]
        self._members |= new
        changed = set()
        for queue, key in self._queues.items():
            best = self._owners.get(queue)
            if best is None or best[1] in gone:
                self._elect(queue)
                changed.add(queue)
                continue
            for name, member in new.items():
                if (challenger := (weight(member, key), name)) > best:
                    best = self._owners[queue] = challenger
                    changed.add(queue)
        return changed

    def _elect(self, queue: str) -> None:
        key = self._queues[queue]
        if self._members:
            self._owners[queue] = max((weight(member, key), name) for name, member in self._members.items())
        else:
            self._owners.pop(queue, None)
