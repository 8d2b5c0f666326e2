"""A promoter that has nothing to do for a while says what the store has, and goes on whatever comes of that."""

from __future__ import annotations

import asyncio

from promoter_core import DelayedQueue, Job
from promoter_core.cli import near, run, session
from promoter_core.cli.near import SHOWN
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore


async def test_of_many_quiet_queues_a_few_are_looked_after_and_the_others_counted(caplog, monkeypatch):
    hints = []

    async def hint(backend, queue):
        hints.append(queue)
        return ""

    monkeypatch.setattr(near, "hint", hint)
    backend = MemoryBackend()
    await backend.open()
    await near.say_if_quiet(backend, [f"q{i}" for i in range(40)], 30)
    assert len(hints) == SHOWN
    *few, rest = [record.getMessage() for record in caplog.records]
    assert len(few) == SHOWN
    assert rest.startswith("35 more queues have received nothing in 30 s: 'q5', 'q6', ")


async def test_after_a_run_until_idle_what_still_waits_is_logged(caplog, clock):
    caplog.set_level("INFO", "promoter")
    backend = MemoryBackend(MemoryStore(clock))
    await backend.open()
    await DelayedQueue(backend, "later", clock=clock).schedule_many([Job(data=1, delay=n) for n in (3.5, 60)])
    await run._say_what_waits(backend, ["later", "empty", "x-*"])
    assert [record.getMessage() for record in caplog.records] == [
        "queue 'later': waiting jobs: 2, the next is due in 3.5 s",
        "queue 'empty': no job waits",
    ]


async def test_a_plugin_that_fails_when_it_is_asked_what_is_there_ends_nothing(monkeypatch):
    class Broken:
        def all(self):
            raise KeyError("a plugin's mistake")

    asked = asyncio.Event()

    def others(backend):
        asked.set()
        Broken().all()

    monkeypatch.setattr(run, "QUIET_S", 0.0)
    monkeypatch.setattr(near, "_others", others)
    monkeypatch.setattr(session, "opened", ("", None))
    backend = MemoryBackend()
    await backend.open()
    await run._say_if_quiet(backend, ["emails"])
    assert asked.is_set()
