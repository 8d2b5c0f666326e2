"""`future`: when waiting jobs become due, as bars."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from promoter_core.monitor.looking import AT_ONCE, TIMEOUT_S, check_above
from promoter_core.spi import MAX_DUE_MS, Backend, ConfigError, ManagementSupport, TransientError, chunked, run_within

MOST_BARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """When the waiting jobs of some queues become due, without parked jobs."""

    now_ms: int  # by the store's clock
    step_ms: int  # the time span of a bar
    overdue: int  # jobs that are due now
    bars: tuple[int, ...]  # jobs that become due in the first step from now, in the next, …
    later: int  # jobs that become due after the last bar


async def future(
    backend: Backend, queues: Sequence[str], *, ahead_s: float, bars: int = 60, timeout_s: float = TIMEOUT_S
) -> Future:
    """Count the jobs of the next `ahead_s` seconds in `bars` equal parts (up to 500), summed over these queues.

    Makes one call a queue, O(bars · log n) on a Redis-protocol store, and one more for the store's clock. Raises
    ConfigError, also for a backend without `ManagementSupport`; TransientError, PermanentError.
    """
    check_above(ahead_s, "ahead_s", 0)
    check_above(bars, "bars", 1)
    if not queues or bars > MOST_BARS or bars != int(bars):
        raise ConfigError(f"future takes one queue or more, and 1 to {MOST_BARS} bars")
    if not isinstance(backend, ManagementSupport):
        raise ConfigError(f"{type(backend).__name__} cannot count waiting jobs (ManagementSupport)")
    step_ms = max(round(ahead_s * 1000 / bars), 1)
    try:
        now_ms = (await run_within(backend.stats(queues[0]), timeout_s)).now_ms
        edges = [now_ms + 1 + step_ms * i for i in range(int(bars) + 1)]
        bounds = [*(edge for edge in edges if edge <= MAX_DUE_MS), MAX_DUE_MS + 1]
        total = [0] * len(bounds)

        async def count(queue: str) -> Sequence[int]:  # called lazily: a cancelled gather calls none
            return await run_within(backend.count_jobs(queue, bounds), timeout_s)

        for some in chunked(queues, AT_ONCE):
            for counts in await asyncio.gather(*map(count, some)):
                total = [before + count for before, count in zip(total, counts, strict=True)]
    except TimeoutError:
        raise TransientError(f"no answer in {timeout_s:g} s", code="TIMEOUT") from None
    between = [max(right - left, 0) for left, right in pairwise(total)]
    return Future(now_ms=now_ms, step_ms=step_ms, overdue=total[0], bars=tuple(between[:-1]), later=between[-1])
