"""What a process knows of a queue that another leads: who that is, and whether the queue moves."""

from __future__ import annotations

import logging

import pytest

from promoter_core.spi import LeaseHeld
from promoter_memory.backend import MemoryBackend
from tests.unit.memory_bench import promoter


class Led(MemoryBackend):
    """Another process has the lock; its answer is the test's choice."""

    answer = LeaseHeld(3_200, "other-1", 0)

    async def lock(self, queue, holder, ttl_ms):
        await super().lock(queue, holder, ttl_ms)  # a wait for the lock is to come
        return self.answer


async def test_a_follower_says_who_leads_once(store, clock, caplog):
    caplog.set_level(logging.INFO, "promoter")
    backend = Led(store)
    await backend.open()
    async with promoter(backend, clock).running() as p:
        await clock.sleep(20)
        assert p.health()[0].holder == "other-1"
        backend.answer = LeaseHeld(None, "other-2", 0)
        await clock.sleep(20)
        assert p.unready() == []
    lines = [r.getMessage() for r in caplog.records if "leads" in r.getMessage()]
    assert lines == [
        "queue 'q': another process leads: other-1, 3.2 s left",
        "queue 'q': another process leads: other-2, with a lock that does not expire",
    ]


@pytest.mark.parametrize("left_ms", [None, 3_600_000, 3_200])
async def test_a_queue_that_does_not_move_under_another_is_warned_of_once_and_not_ready(store, clock, caplog, left_ms):
    backend = Led(store)
    await backend.open()
    async with promoter(backend, clock).running() as p:
        for lag_ms in range(1_000, 60_000, 1_000):  # it was due a second before, and grows later
            backend.answer = LeaseHeld(left_ms, "gone", lag_ms)
            await clock.sleep(1)
        (reason,) = p.unready()
        assert reason.startswith("queue 'q': overdue for ")
        assert reason.endswith("while gone leads")
        backend.answer = LeaseHeld(left_ms, "gone", 0)
        await clock.sleep(3)
        assert p.unready() == []
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1, warned
    assert "jobs are overdue by" in warned[0]
    assert "gone, " in warned[0]
    assert "delete the lock" in warned[0]


async def test_a_backlog_that_another_works_off_is_no_reason(store, clock, caplog):
    backend = Led(store)
    await backend.open()
    async with promoter(backend, clock).running() as p:
        for i in range(120):  # hours late, and worked off at half the speed of time
            backend.answer = LeaseHeld(3_000, "busy", 7_200_000 + i * 500)
            await clock.sleep(1)
            assert p.unready() == []
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]
