"""`list_queues`: the queues of a store, with their statistics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from promoter_core.client.requests import shown_value
from promoter_core.client.values import QueueInfo
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.batches import chunked
from promoter_core.spi.errors import ConfigError, PermanentError
from promoter_core.spi.names import check_queue_name
from promoter_core.spi.optional.discovery import DiscoverySupport

AT_ONCE = 16  # queues whose statistics are read concurrently


async def list_queues(backend: Backend, pattern: str = "*") -> AsyncIterator[QueueInfo]:
    """Yield the queues that have delayed jobs or a leader, each once and in no particular order, with their statistics.

    `pattern` is a glob over their names: `*`, `?`, `[…]`. Makes one pass over the store in small steps, and reads the
    statistics of the queues found, some at a time. Skips names that this library cannot serve (not UTF-8, over 200
    bytes).

    Raises ConfigError, also for a backend without `DiscoverySupport`; TransientError, PermanentError. A queue that
    cannot be read for good, such as one with a key of another type, raises its error after all others were yielded.
    """
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(
            f"pattern must be a glob over the names of queues, such as 'mail-*', not {shown_value(pattern)}"
        )
    finder: object = check_backend(backend)
    if not isinstance(finder, DiscoverySupport):
        raise ConfigError(
            f"list_queues needs a backend that can find queues (DiscoverySupport), but {type(backend).__name__} cannot"
        )
    seen: set[str] = set()
    unreadable: PermanentError | None = None
    async for found in finder.find_queues([pattern]):
        new = [name for name in dict.fromkeys(found) if name not in seen and _can_be_served(name)]
        seen.update(new)
        for some in chunked(new, AT_ONCE):
            answers = await asyncio.gather(*map(backend.stats, some), return_exceptions=True)
            for name, stats in zip(some, answers, strict=True):
                if isinstance(stats, PermanentError):
                    unreadable = unreadable or stats
                elif isinstance(stats, BaseException):
                    raise stats
                else:
                    yield QueueInfo(name, stats)
    if unreadable is not None:
        raise unreadable


def _can_be_served(name: str) -> bool:
    try:
        check_queue_name(name)
    except ConfigError:
        return False
    return True
