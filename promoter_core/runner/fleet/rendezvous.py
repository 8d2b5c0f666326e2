"""Decide which member leads which queue: rendezvous (highest random weight) hashing over the live members.

Every member computes the same owner of a queue independently. When a member joins or leaves, only the queues that it
gains or had move.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from promoter_core.spi.wire import to_bytes

_MASK = (1 << 64) - 1


def fingerprint(name: str) -> int:
    """Return 64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(to_bytes(name), digest_size=8).digest(), "big")


def weight(member: int, queue: int) -> int:
    """Return the weight of a member for a queue, from their fingerprints (the finalizer of SplitMix64)."""
    x = (member ^ queue) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


# A queue: its fingerprint; weight and name of the owner; the generation of members that elected it. A plain tuple of
# plain values, so the garbage collector stops tracking it.
_Queue = tuple[int, int, str, int]


class Rendezvous:
    """The owners of some queues, as queues and members come and go.

    An owner is computed on demand, so a change of members costs the same for any number of queues.
    """

    def __init__(self) -> None:
        self._members: dict[str, tuple[int, int]] = {}  # fingerprint, and generation in which it joined; newest last
        self._queues: dict[str, _Queue] = {}
        self._generation = 0

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self._members)

    def owner(self, queue: str) -> str | None:
        """Return the member that should lead the queue; None without members, or for an unknown queue."""
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
        """Set the members. Return whether that changes anything."""
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
        """Return the owner. Only newer members can take the queue from its owner, or any member if that has left."""
        known, best, since = q[0], (q[1], q[2]), q[3]
        if best[1] not in self._members:
            best, since = (-1, ""), -1
        for name, (member, came) in reversed(self._members.items()):
            if came <= since:
                break
            best = max(best, (weight(member, known), name))
        return known, *best, self._generation
