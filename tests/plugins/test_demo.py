"""The demo's producers, and its checks."""

from __future__ import annotations

import asyncio
import sys
import time
from types import SimpleNamespace

import pytest

from promoter_demo import command, report, traffic


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


@pytest.mark.server
async def test_each_due_time_is_known_though_all_jobs_were_due_before_they_were_scheduled(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "LEAD_S", -60)
    monkeypatch.setattr(command, "IDLE_S", 0.1)
    monkeypatch.setattr(report, "show", lambda console, checker, by, outcome: seen.append(checker))
    produce = traffic.produce

    async def slowly(*args):
        """The promoters are there long before."""
        made = await produce(*args)
        await asyncio.sleep(3)
        return made

    monkeypatch.setattr(traffic, "produce", slowly)
    assert await command._demo(200, 1)
    (checker,) = seen
    assert len(checker.due) == len(checker.late) == 200
    assert 0 <= min(checker.late.values()) <= max(checker.late.values()) < 600_000
