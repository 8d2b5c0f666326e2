"""The state of queues, read from the store, regardless of whether or where a leader runs.

    from promoter_core.monitor import snapshot

    seen = await snapshot(backend, "mail-*")
    for queue in seen.queues:
        print(queue.name, queue.stats.depth, queue.overdue_s, queue.coming)

`snapshot` reads once. A `Sampler` reads again and again at a bounded pace, and `render` turns its state into metrics
for Prometheus. `future` counts when jobs become due, and a `LatenessProbe` measures how late they are promoted.
`reading.py` reads one queue, `values.py` has the answers.
"""

from __future__ import annotations

from promoter_core.monitor.exposition import CONTENT_TYPE, render
from promoter_core.monitor.horizon import Future, future
from promoter_core.monitor.lateness import Lateness, LatenessProbe
from promoter_core.monitor.looking import snapshot
from promoter_core.monitor.sampler import Sampler
from promoter_core.monitor.values import Coming, QueueSnapshot, SamplerState, Snapshot

__all__ = [
    "CONTENT_TYPE",
    "Coming",
    "Future",
    "Lateness",
    "LatenessProbe",
    "QueueSnapshot",
    "Sampler",
    "SamplerState",
    "Snapshot",
    "future",
    "render",
    "snapshot",
]
