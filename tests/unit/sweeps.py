"""Small steps, and short words, for tests of changes of many jobs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from promoter_core import Job
from promoter_core.client import sweep


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(sweep, "STEP", 4)


def at(clock, seconds):
    return datetime.fromtimestamp(clock.time_ms() / 1000 + seconds, UTC)


async def dues(queue, clock):
    now_ms = clock.time_ms()
    return [(job.stored.due_ms - now_ms) / 1000 async for job in queue.scan()]


async def fill(queue, delays, **fields):
    await queue.schedule_many([Job(data=i, delay=delay, **fields) for i, delay in enumerate(delays)])
