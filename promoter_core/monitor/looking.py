"""`snapshot`: read the queues of a store once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fnmatch import fnmatchcase

from promoter_core.monitor.reading import read_queue
from promoter_core.monitor.values import QueueSnapshot, Snapshot
from promoter_core.spi import (
    Backend,
    Clock,
    ConfigError,
    DiscoverySupport,
    SystemClock,
    check_queue_name,
    chunked,
    is_pattern,
)
from promoter_core.spi.backend import check_backend

AT_ONCE = 16  # queues read concurrently
TIMEOUT_S = 5.0  # for reading one queue


async def snapshot(
    backend: Backend,
    pattern: str | Sequence[str] = "*",
    *,
    max_queues: int = 5_000,
    timeout_s: float = TIMEOUT_S,
    clock: Clock | None = None,
) -> Snapshot:
    """Read the matching queues, by name: depth, due, overdue, upcoming jobs, leader, streams, consumer groups.

    `pattern` is the name of a queue, a glob over names (`*`, `?`, `[…]`), or several of them. A named queue is always
    in the answer; a matching one only if it has delayed jobs or a leader. Reads at most `max_queues`, with two calls
    each. Finding them takes one pass over the store in small steps.

    An error of one queue becomes that queue's `error`. Without `ManagementSupport`, `coming` is None. Raises
    ConfigError, also for a pattern on a backend without `DiscoverySupport`; TransientError or PermanentError when the
    search fails.
    """
    patterns = check_patterns(check_backend(backend), pattern)
    check_above(max_queues, "max_queues", 1)
    check_above(timeout_s, "timeout_s", 0)
    found: dict[str, str] = {p: p for p in patterns if not is_pattern(p)}
    more = len(found) > max_queues
    globs = [p for p in patterns if is_pattern(p)]
    if globs and not more and isinstance(backend, DiscoverySupport):
        async for page in backend.find_queues(globs):
            found |= {name: matched(name, globs) for name in page if name not in found and can_be_read(name)}
            if more := len(found) > max_queues:
                break
    wanted = [QueueSnapshot(name=name, pattern=p) for name, p in list(found.items())[:max_queues]]
    clock, queues = clock or SystemClock(), list[QueueSnapshot]()
    for some in chunked(wanted, AT_ONCE):
        queues += await asyncio.gather(*(read_queue(backend, queue, clock, timeout_s) for queue in some))
    return Snapshot(queues=tuple(sorted(queues, key=lambda queue: queue.name)), more=more)


def check_patterns(backend: Backend, given: str | Sequence[str]) -> list[str]:
    """Return names and patterns, each once. Raises ConfigError."""
    patterns = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    if not patterns:
        raise ConfigError("no queue is named: give a name or a pattern such as '*'")
    for pattern in patterns:
        check_queue_name(pattern)
    if not isinstance(backend, DiscoverySupport) and (first := next(filter(is_pattern, patterns), None)) is not None:
        raise ConfigError(
            f"{first!r} is a pattern, and {type(backend).__name__} cannot find queues (DiscoverySupport): name each"
        )
    return patterns


def check_above(value: object, what: str, low: int) -> None:
    """Raise ConfigError unless `value` is a number of at least 1 (for `low` 1), or otherwise above `low`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (low or 1e-9) <= value < float("inf"):
        raise ConfigError(f"{what} must be a number {f'from {low}' if low else 'above 0'}, not {value!r:.60}")


def matched(name: str, patterns: Sequence[str]) -> str:
    """Return the first pattern that the name matches."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), patterns[0])


def can_be_read(name: str) -> bool:
    """Return whether this library can use the queue's name."""
    try:
        check_queue_name(name)
    except ConfigError:
        return False
    return True
