"""ULIDs in bulk, for jobs without a given id: 26 characters that sort by creation time."""

from __future__ import annotations

import os
import threading
import time

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]  # one entry for ten bits
_RANDOM = 1 << 80  # the random part, below 48 bits of Unix milliseconds


class Ulids:
    """The ULIDs of one millisecond are a random number and its successors, so ids of one process ascend."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start with a new random number and a free lock."""
        self._lock = threading.Lock()
        self._ms = -1
        self._next = 0  # the next random part in this millisecond

    def take(self, count: int) -> list[str]:
        """Return `count` new ULIDs, in ascending order."""
        with self._lock:
            ms = time.time_ns() // 1_000_000
            if ms != self._ms or self._next + count > _RANDOM:
                self._ms, self._next = ms, int.from_bytes(os.urandom(10), "big") % (_RANDOM - count)
            first = ms << 80 | self._next
            self._next += count
        ids: list[str] = []
        end = first + count
        while first < end:  # ids that differ only in the last two characters
            start, last = _start(first), first & 1023
            ids += [start + pair for pair in _PAIRS[last : last + end - first]]
            first += 1024 - last
        return ids


def _start(ulid: int) -> str:
    """Return the first 24 characters."""
    return "".join([_PAIRS[ulid >> bits & 1023] for bits in range(120, 0, -10)])


ULIDS = Ulids()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=ULIDS.reset)  # otherwise both processes would generate the same ids
