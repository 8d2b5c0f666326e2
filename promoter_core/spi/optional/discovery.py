"""`DiscoverySupport`: a backend that can list its queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class DiscoverySupport(Protocol):
    """Finds queues by name. Optional: `list_queues` and fleets need it."""

    def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        """Yield the queues that have delayed jobs or a leader and match one of the glob patterns, in batches.

        Patterns are those of `fnmatch.fnmatchcase`: `*`, `?`, `[…]` and `[!…]`, matched against the whole name, with
        case. All other characters stand for themselves, including `^`, `%`, `_`, `.` and a backslash. A queue whose
        last job is gone and whose lock was released or has expired is not found.

        Makes one pass over the store, for any number of patterns. Each step is small for the store and can find
        nothing; the caller sets the pace. A queue can be found twice. One that has jobs or a leader throughout is found
        at least once. A name that another program wrote and that is not UTF-8 contains surrogate escapes.
        """
        ...
