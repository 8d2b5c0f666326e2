"""`DiscoverySupport`: a backend that can tell which queues it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class DiscoverySupport(Protocol):
    """Finds queues by name. Optional: `list_queues` and fleets need it."""

    def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        """The queues that have delayed jobs or a leader, and match one of the glob patterns, some at a time.

        Patterns are those of `fnmatch.fnmatchcase`: `*`, `?`, `[…]` and `[!…]`, for the whole name and in its case; a
        `^` stands for itself, as does all else: `%`, `_`, `.`, a backslash. A queue whose last job has gone and whose
        lock has been released or has expired is not found.

        One pass over the store, however many patterns there are. Each step is a small one for the store, and may find
        nothing; the caller sets the pace. A queue may come twice; one that has either all the while comes at least
        once. A name that another program gave and that is not UTF-8 comes with surrogate escapes.
        """
        ...
