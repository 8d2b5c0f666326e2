"""Which member leads which queue: rendezvous (highest random weight) hashing over the live members.

Every member computes the same owner of a queue by itself. When a member comes or goes, only the queues that it gains or
had move; all others stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Queue:
    fingerprint: int
    best: tuple[int, str] = (-1, "")  # weight and name of the owner
    generation: int = 0  # of the members that it was elected from


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
        if q.generation != self._generation:
            self._elect(q)
        return q.best[1]

    def add_queue(self, queue: str) -> None:
        self._queues[queue] = _Queue(fingerprint(queue))

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

    def _elect(self, q: _Queue) -> None:
        """Only members that came since can take the queue from its owner; all of them, if that has gone."""
        best, since = (q.best, q.generation) if q.best[1] in self._members else ((-1, ""), -1)
        for name, (member, came) in reversed(self._members.items()):
            if came <= since:
                break
            best = max(best, (weight(member, q.fingerprint), name))
        q.best, q.generation = best, self._generation
