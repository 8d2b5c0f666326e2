"""Queues by pattern, and the queue that was meant where the one that was named is not there."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from contextlib import suppress

from promoter_core import Backend, ConfigError, QueueStats
from promoter_core.cli import output
from promoter_core.spi import DiscoverySupport, check_queue_name, is_pattern

SUGGEST_S = 1.0  # for finding the name that was meant


def is_unknown(s: QueueStats) -> bool:
    """Whether the store holds nothing of the queue."""
    return not (s.depth or s.stream_len or s.events_len or s.dlq_len or s.groups) and s.holder is None


async def say(backend: Backend, queue: str) -> None:
    """Tell that the store holds nothing of this queue, with the nearest name that it has."""
    near = difflib.get_close_matches(queue, await _others(backend), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    output.note(f"the store holds nothing of a queue {queue!r}: no job, no stream and no leader{hint}")


async def say_if_unknown(backend: Backend, queue: str) -> None:
    """As `say`, where the store holds nothing of the queue."""
    if is_unknown(await backend.stats(queue)):
        await say(backend, queue)


async def matching(backend: Backend, queue: str) -> Sequence[str]:
    """The name itself, or the queues that match it as a pattern, by name; says so when there is none."""
    if not is_pattern(check_queue_name(queue)):
        return [queue]
    if not isinstance(backend, DiscoverySupport):
        raise ConfigError(f"the backend {type(backend).__name__} cannot find queues by a pattern: name one")
    found: set[str] = set()
    async for page in backend.find_queues([queue]):
        found.update(page)
    if not found:
        output.note(f"no queue matches {queue!r}")
    return sorted(found)


async def _others(backend: Backend) -> list[str]:
    """Some queues that the store has, as far as they are found in a moment."""
    found: set[str] = set()
    if isinstance(backend, DiscoverySupport):
        with suppress(TimeoutError):
            async with asyncio.timeout(SUGGEST_S):
                async for page in backend.find_queues("*"):
                    found.update(page)
    return sorted(found)
