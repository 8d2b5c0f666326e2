"""Which member leads which queue: rendezvous (highest random weight) hashing over the live members.

Every member computes the same owner of a queue by itself. When a member comes or goes, only the queues that it gains or
had move; all others stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from promoter_core.spi.wire import to_bytes

_MASK = (1 << 64) - 1


def fingerprint(name: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(to_bytes(name), digest_size=8).digest(), "big")


def weight(member: int, queue: int) -> int:
    """Of a member for a queue, from their fingerprints: the finalizer of SplitMix64, which mixes every bit."""
    x = (member ^ queue) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


# Of a queue: its fingerprint; weight and name of the owner; generation of the members that it was elected from. A plain
# tuple of plain values is nothing that the collector has to look at again and again.
_Queue = tuple[int, int, str, int]


class Rendezvous:
    """The owners of some queues, as queues and members come and go.

    An owner is elected when it is asked for, so a change of members costs the same however many queues there are.
    """

    def __init__(self) -> None:
        self._members: dict[str, tuple[int, int]] = {}  # fingerprint, and the generation it came in; newest last
        self._queues: dict[str, _Queue] = {}
        self._generation = 0

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self._members)

    def owner(self, queue: str) -> str | None:
        """The member that is to lead the queue; None without members, or when the queue was not added."""
        q = self._queues.get(queue)
        if q is None or not self._members:
            return None
        if q[3] != self._generation:
            q = self._queues[queue] = self._elected(q)
        return q[2]

    def add_queue(self, queue: str) -> None:
        self._queues[queue] = (fingerprint(queue), -1, "", 0)

    def drop_queue(self, queue: str) -> None:
        self._queues.pop(queue, None)

    def set_members(self, names: Iterable[str]) -> bool:
        """Whether that changes anything."""
        names = set(names)
        gone, new = self._members.keys() - names, names - self._members.keys()
        if not gone and not new:
            return False
        self._generation += 1
        for name in gone:
            del self._members[name]
        for name in new:
            self._members[name] = (fingerprint(name), self._generation)
        return True

    def _elected(self, q: _Queue) -> _Queue:
        """Only members that came since can take the queue from its owner; all of them, if that has gone."""
        known, best, since = q[0], (q[1], q[2]), q[3]
        if best[1] not in self._members:
            best, since = (-1, ""), -1
        for name, (member, came) in reversed(self._members.items()):
            if came <= since:
                break
            best = max(best, (weight(member, known), name))
        return known, *best, self._generation
