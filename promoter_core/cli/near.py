"""Queues by pattern, and suggestions when a named queue does not exist."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Sequence
from contextlib import suppress

from promoter_core import Backend, ConfigError, PromoterError, QueueStats
from promoter_core.cli import output, session
from promoter_core.spi import CHASQUIMQ, DiscoverySupport, Layout, LayoutSupport, check_queue_name, is_pattern

log = logging.getLogger("promoter")

SUGGEST_S = 1.0  # for finding similar names
SHOWN = 5  # names shown


def is_unknown(s: QueueStats) -> bool:
    """Return whether the store has nothing of the queue."""
    return is_empty(s) and s.holder is None


def is_empty(s: QueueStats) -> bool:
    """Return whether the queue has no waiting jobs and no trace of former ones."""
    return not (s.depth or s.stream_len or s.events_len or s.dlq_len or s.groups)


async def say(backend: Backend, queue: str) -> None:
    """Print that the store has nothing of this queue, with the most similar name."""
    output.note(
        f"the store has nothing of a queue {queue!r}: no job, no stream and no leader{await hint(backend, queue)}"
    )


async def hint(backend: Backend, queue: str) -> str:
    """Return a suggestion for a missing queue: another layout or another name; "" without one."""
    if elsewhere := await _by_other_layouts(backend, queue):
        return f"; {elsewhere}"
    near = difflib.get_close_matches(queue, [name for name in await _others(backend) if name != queue], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


async def say_if_quiet(backend: Backend, queues: Sequence[str], after_s: float) -> None:
    """After a promoter has run without jobs for a while: log which queues do not exist, and what the store has instead.

    Only a few queues are searched for, to limit the load on the store.
    """
    quiet: list[str] = []
    with suppress(PromoterError):
        for queue in queues:
            if is_pattern(queue):
                if isinstance(backend, DiscoverySupport) and not await _found(backend, queue):
                    known = await _others(backend)
                    there = f"the store has {_listed(known)}" if known else "the store has none"
                    there = await _by_other_layouts(backend, queue) or there
                    log.warning("no queue matches %r after %g s; %s", queue, after_s, there)
            elif is_empty(await backend.stats(queue)):
                quiet.append(queue)
                if len(quiet) <= SHOWN:
                    said = await hint(backend, queue)
                    log.warning(
                        "queue %r has received nothing in %g s, and the store has no job of it%s", queue, after_s, said
                    )
    if len(quiet) > SHOWN:
        log.warning(
            "%d more queues have received nothing in %g s: %s", len(quiet) - SHOWN, after_s, _listed(quiet[SHOWN:])
        )


async def say_if_unknown(backend: Backend, queue: str) -> None:
    """Like `say`, if the store has nothing of the queue."""
    if is_unknown(await backend.stats(queue)):
        await say(backend, queue)


async def matching(backend: Backend, queue: str) -> Sequence[str]:
    """Return the name itself, or the queues that match it as a pattern, sorted. Prints a note if none does."""
    if not is_pattern(check_queue_name(queue)):
        return [queue]
    if not isinstance(backend, DiscoverySupport):
        raise ConfigError(f"the backend {type(backend).__name__} cannot find queues by a pattern: name one")
    found = await _found(backend, queue)
    if not found:
        output.note(f"no queue matches {queue!r}")
    return sorted(found)


async def _found(backend: DiscoverySupport, pattern: str) -> set[str]:
    found: set[str] = set()
    async for page in backend.find_queues([pattern]):
        found.update(page)
    return found


def _set_of(layout: Layout) -> bytes:
    """Return the key of a queue's sorted set, to distinguish layouts; "" if the layout has fixed queue names."""
    with suppress(ConfigError):
        return layout.keys_of("q").delayed
    return b""


async def _by_other_layouts(backend: Backend, queue: str) -> str:
    """Return a suggestion of another layout that has jobs of the queue or of matching queues; "" if none has."""
    url = session.opened[0]
    if not isinstance(backend, LayoutSupport) or not backend.capabilities.shared or not url:
        return ""
    mine = _set_of(backend.layout)
    for name in [r.spec.name for r in session.registry().all() if r.kind == "layout"]:
        with suppress(PromoterError, TimeoutError):
            if _set_of(session.registry().layout(name)) == mine:
                continue
            async with asyncio.timeout(SUGGEST_S), session.registry().connect(url, layout=name) as other:
                how = "give no --layout" if name == CHASQUIMQ.name else f"give --layout {name}"
                if is_pattern(queue) and isinstance(other, DiscoverySupport) and (found := await _found(other, queue)):
                    return f"under the layout {name!r} there are {_listed(sorted(found))}: {how}"
                if not is_pattern(queue) and (depth := (await other.stats(queue)).depth):
                    return f"{depth:,} of its jobs wait under the layout {name!r}: {how}, with its options"
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


async def _others(backend: Backend) -> list[str]:
    """Return some queues of the store, as many as are found in a moment."""
    found: set[str] = set()
    if isinstance(backend, DiscoverySupport):
        with suppress(TimeoutError):
            async with asyncio.timeout(SUGGEST_S):
                async for page in backend.find_queues("*"):
                    found.update(page)
    return sorted(found)
