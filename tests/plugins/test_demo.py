"""The demo's producers."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

from promoter_demo import traffic


async def test_on_a_slow_machine_the_other_producers_jobs_wait_in_the_set_all_the_same(monkeypatch):
    delays = []

    class Queue:
        def __init__(self, queue, redis_url):
            pass

        async def add(self, name, data, *, delay_ms, job_id=None):
            delays.append(delay_ms)

        async def close(self):
            pass

    monkeypatch.setitem(sys.modules, "chasquimq", SimpleNamespace(Queue=Queue))
    passed = time.time() - 5
    await traffic._chasquimq("redis://unused", "demo", 100, passed, 10, lambda n: None)
    assert len(delays) == 100
    assert min(delays) == 1
    assert max(delays) > 1
