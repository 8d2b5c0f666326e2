"""`read_queue`: read one queue, in two calls to the backend. An error is part of the answer."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.monitor.values import Coming, QueueSnapshot
from promoter_core.spi import (
    MAX_DUE_MS,
    Backend,
    BackendError,
    Clock,
    ManagementSupport,
    PermanentError,
    QueueStats,
    TransientError,
    run_within,
)

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


async def read_queue(
    backend: Backend, had: QueueSnapshot, clock: Clock, timeout_s: float, *, count: bool = True
) -> QueueSnapshot:
    """Return `had`, updated from the store, or unchanged with the error of this read. Never raises.

    Without `count`, upcoming jobs keep their last counts, if any.
    """
    try:
        return await run_within(_read(backend, had, clock, count), timeout_s)
    except BackendError as exc:
        error: BackendError = exc
    except TimeoutError:
        error = TransientError(f"no answer in {timeout_s:g} s", code="TIMEOUT")
    except Exception as exc:  # a bug of the backend with this queue, for example a reply that it cannot parse
        error = PermanentError(f"the backend failed: {exc!r}", code="BACKEND")
    return replace(had, error=error)


async def _read(backend: Backend, had: QueueSnapshot, clock: Clock, count: bool) -> QueueSnapshot:
    stats = await backend.stats(had.name)
    coming = None
    if not isinstance(backend, ManagementSupport):
        pass
    elif not stats.depth or (stats.next_due_ms or MAX_DUE_MS) > stats.now_ms + DAY_MS:
        coming = Coming(minute=0, hour=0, day=0)
    elif not count and had.coming is not None:
        coming = had.coming
    else:
        first_ms = stats.now_ms + 1
        bounds_ms = [first_ms, *(first_ms + ahead for ahead in (MINUTE_MS, HOUR_MS, DAY_MS))]
        due, minute, hour, day = await backend.count_jobs(had.name, bounds_ms)
        coming = Coming(minute=minute - due, hour=hour - due, day=day - due)
    before = None if had.stats is None else had.stats.holder
    changed = had.stats is not None and stats.holder is not None and stats.holder != before
    return replace(
        had,
        stats=stats,
        coming=coming,
        read_s=clock.monotonic(),
        error=None,
        leader_changes=had.leader_changes + changed,
        added_per_s=None if had.stats is None else _rate(had.stats, stats),
    )


def _rate(before: QueueStats, now: QueueStats) -> float | None:
    if before.stream_added is None or now.stream_added is None:
        return None
    passed_ms, added = now.now_ms - before.now_ms, now.stream_added - before.stream_added
    return added / passed_ms * 1000 if passed_ms > 0 and added >= 0 else None
