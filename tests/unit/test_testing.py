"""The doubles: a clock, a backend that fails, sinks that remember, and the fixtures that give them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from promoter_core import Backend, TransientError
from promoter_core.spi import Clock, EventSink, JobRequest, Lease, MetricsSink
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics, VirtualClock
from promoter_memory.backend import MemoryBackend

# VirtualClock


async def test_time_passes_only_when_everything_waits():
    clock, seen = VirtualClock(), []

    async def sleeper(name, seconds):
        await clock.sleep(seconds)
        seen.append((name, clock.monotonic()))

    async def busy():
        for _ in range(500):
            await asyncio.sleep(0)
        seen.append(("busy", clock.monotonic()))

    await asyncio.gather(sleeper("b", 2), sleeper("a", 1), busy(), sleeper("year", 31_536_000))
    assert seen == [("busy", 0.0), ("a", 1.0), ("b", 2.0), ("year", 31_536_000.0)]


async def test_a_cancelled_sleep_holds_nobody_up():
    clock = VirtualClock()
    task = asyncio.ensure_future(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    await clock.sleep(60)
    assert clock.monotonic() == 60
    assert task.cancelled()


async def test_a_sleep_is_never_too_short_and_ms_follow():
    clock = VirtualClock(start_ms=1_000)
    for seconds in (0.001, 0.1, 1 / 3, 2.5e-7):
        before = clock.monotonic()
        await clock.sleep(seconds)
        assert clock.monotonic() - before >= seconds - 1e-8
    assert clock.time_ms() == 1_000 + int(clock.monotonic() * 1000)


async def test_a_jump_wakes_sleepers_late_and_once():
    clock = VirtualClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    clock.jump(100)
    await task
    assert clock.monotonic() == 100


async def test_thirty_days_take_less_time_than_a_second_of_them():
    clock, began = VirtualClock(), time.monotonic()
    await clock.sleep(30 * 86_400)
    assert time.monotonic() - began < 1 * 86_400


# FaultyBackend


@pytest.fixture
async def memory():
    backend = MemoryBackend()
    await backend.open()
    return backend


async def test_a_fault_hits_the_nth_call_only(memory):
    faulty = FaultyBackend(memory, Fault("stats", nth=2))
    await faulty.stats("q")
    with pytest.raises(TransientError, match="injected"):
        await faulty.stats("q")
    await faulty.stats("q")
    assert faulty.calls["stats"] == 3


async def test_a_fault_can_hit_all_calls_from_the_nth_on(memory):
    faulty = FaultyBackend(memory, Fault("stats", nth=2, onwards=True))
    await faulty.stats("q")
    for _ in range(3):
        with pytest.raises(TransientError):
            await faulty.stats("q")


async def test_a_reply_can_be_lost_after_the_effect(memory):
    faulty = FaultyBackend(memory, Fault("lock", after_effect=True))
    with pytest.raises(TransientError):
        await faulty.lock("q", "me", 1_000)
    assert (await memory.stats("q")).holder == "me"


async def test_without_after_effect_nothing_happens(memory):
    faulty = FaultyBackend(memory, Fault("lock"))
    with pytest.raises(TransientError):
        await faulty.lock("q", "me", 1_000)
    assert (await memory.stats("q")).holder is None


async def test_a_call_can_be_delayed():
    clock = VirtualClock()
    memory = MemoryBackend(clock=clock)
    await memory.open()
    faulty = FaultyBackend(memory, Fault("stats", error=None, delay_s=7), clock=clock)
    await faulty.stats("q")
    assert clock.monotonic() == 7


async def test_every_call_can_be_slow_on_its_way_there_and_back():
    clock = VirtualClock()
    memory = MemoryBackend(clock=clock)
    faulty = FaultyBackend(memory, clock=clock, latency_ms=(100, 100))
    await faulty.open()
    scheduling = asyncio.ensure_future(faulty.schedule("q", [JobRequest("a", b"", delay_ms=60_000)]))
    await clock.sleep(0.05)
    assert (await memory.stats("q")).depth == 0
    await clock.sleep(0.1)
    assert (await memory.stats("q")).depth == 1
    assert not scheduling.done()
    await scheduling
    await faulty.cleanup("q", [])  # of an optional protocol
    assert clock.monotonic() == pytest.approx(0.6)


async def test_a_latency_is_random_between_its_bounds_and_the_same_in_each_run():
    async def times():
        clock = VirtualClock()
        memory = MemoryBackend(clock=clock)
        await memory.open()
        faulty, took_s = FaultyBackend(memory, clock=clock, latency_ms=(5, 50)), []
        for _ in range(20):
            began_s = clock.monotonic()
            await faulty.stats("q")
            took_s.append(clock.monotonic() - began_s)
        return took_s

    first = await times()
    assert 0.01 <= min(first) < 0.04 < 0.07 < max(first) <= 0.1001
    assert first == await times()


async def test_a_dropped_connection_fails_everything_until_it_is_back(memory):
    faulty = FaultyBackend(memory)
    faulty.disconnected = True
    with pytest.raises(TransientError):
        await faulty.lock("q", "me", 1_000)
    faulty.disconnected = False
    assert await faulty.lock("q", "me", 1_000) == Lease("q", "me", 1_000)


def test_a_fault_of_an_unknown_method_is_refused(memory):
    with pytest.raises(ValueError, match="Backend has no method 'promotes'"):
        FaultyBackend(memory, Fault("promotes"))


def test_the_doubles_fulfil_the_protocols(memory):
    assert isinstance(FaultyBackend(memory), Backend)
    assert isinstance(memory, Backend)
    assert isinstance(RecordingEvents(), EventSink)
    assert isinstance(RecordingMetrics(), MetricsSink)
    assert isinstance(VirtualClock(), Clock)


async def test_the_methods_of_the_optional_protocols_can_fail_too(memory):
    faulty = FaultyBackend(memory, Fault("join_group"))
    with pytest.raises(TransientError):
        await faulty.join_group("g", "me", 1_000)
    assert (await faulty.join_group("g", "me", 1_000)).names
    assert faulty.calls["join_group"] == 2


async def test_a_search_for_queues_can_fail_too(memory):
    async def search(faulty):
        return [queue async for page in faulty.find_queues(["*"]) for queue in page]

    await memory.lock("q", "me", 1_000)
    faulty = FaultyBackend(memory, Fault("find_queues", nth=2))
    assert await search(faulty) == ["q"]
    with pytest.raises(TransientError, match="injected"):
        await search(faulty)
    faulty.disconnected = True
    with pytest.raises(TransientError, match="injected"):
        await search(faulty)
    assert faulty.calls["find_queues"] == 3


# The plugin and the reference


def test_the_pytest_plugin_gives_its_fixtures_when_asked(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["promoter_core.testing.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        """
import pytest
from promoter_core import DelayedQueue, Promoter
from promoter_core.testing import Fault

@pytest.mark.asyncio
async def test_it(promoter_clock, promoter_memory_backend, promoter_faulty_backend, promoter_events, promoter_metrics):
    promoter_faulty_backend.faults.append(Fault("promote", nth=2))
    queue = DelayedQueue(promoter_memory_backend, "q", clock=promoter_clock)
    await queue.schedule("x", delay=60, job_id="a")
    promoter = Promoter(promoter_faulty_backend, "q", events=[promoter_events],
                        metrics=[promoter_metrics], clock=promoter_clock)
    async with promoter.running():
        await promoter_clock.sleep(61)
    assert promoter_events.ids == ["a"]
    assert len(promoter_metrics.errors) == 1
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert "1 passed" in done.stdout, done.stdout


def test_the_page_of_the_spi_is_what_the_docstrings_say():
    from tests.unit.test_docs import ROOT

    page = ROOT / "docs/reference/render_spi.py"
    done = subprocess.run([sys.executable, str(page), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
