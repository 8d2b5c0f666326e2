"""Any thread may stop a runner and ask how it is."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from promoter_core import Promoter, PromoterFleet, PromoterSettings, connect
from promoter_core.spi import JobRequest, pack_envelope
from promoter_core.testing import Fault, FaultyBackend

SOON_S = 10  # the machine may be busy
KINDS = ["promoter", "fleet"]
pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def memory():
    async with connect("memory://") as backend:
        yield backend


def runner(kind, backend, **options):
    make = partial(Promoter, backend, "q") if kind == "promoter" else partial(PromoterFleet, backend, ["q"])
    return make(PromoterSettings(lock_ttl_ms=600_000, **options))


async def until(true):
    async with asyncio.timeout(SOON_S):
        while not true():
            await asyncio.sleep(0.01)


def leads(run):
    return [h.leads for h in run.health()] == [True]


async def test_a_stop_from_another_thread_ends_a_run_that_waits(memory, kind):
    run = runner(kind, memory)
    task = asyncio.create_task(run.run())
    await until(lambda: leads(run))
    await asyncio.sleep(0.1)  # at rest for minutes
    began_s = time.monotonic()
    thread = threading.Timer(0.1, run.stop)
    thread.start()
    await asyncio.wait_for(task, SOON_S)
    thread.join()
    assert time.monotonic() - began_s < SOON_S / 2, "nothing else has to happen for it"
    assert (await memory.stats("q")).holder is None
    assert [h.state for h in run.health()] == ["stopped"]


@pytest.mark.parametrize("until_idle", [False, True])
async def test_a_stop_from_another_thread_ends_a_run_that_drains_a_backlog(memory, kind, until_idle):
    await memory.schedule("q", [JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=0) for i in range(5_000)])
    method = "promote" if kind == "promoter" else "promote_many"
    slow = FaultyBackend(memory, Fault(method, onwards=True, error=None, delay_s=0.01))
    run = runner(kind, slow, promote_batch=1, max_tick_ms=0)
    task = asyncio.create_task(run.run(until_idle=until_idle))
    await until(lambda: slow.calls[method] > 5)
    await asyncio.to_thread(run.stop)
    asked = slow.calls[method]
    await asyncio.wait_for(task, SOON_S)
    assert slow.calls[method] <= asked + 1, "the tick under way is finished, and no other one begun"
    stats = await memory.stats("q")
    assert stats.holder is None
    assert stats.depth + stats.stream_len == 5_000
    assert stats.depth > 4_000


async def test_many_threads_may_stop_it_at_once_and_it_can_run_again(memory, kind):
    run = runner(kind, memory)
    for _ in range(3):
        task = asyncio.create_task(run.run())
        await until(lambda: leads(run))
        threads = [threading.Thread(target=run.stop) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()  # before the run can end: a later stop would be one of the next run
        await asyncio.wait_for(task, SOON_S)
        assert (await memory.stats("q")).holder is None


async def test_a_stop_ends_one_runner_and_no_other(memory, kind):
    one, other = runner(kind, memory), Promoter(memory, "another")
    tasks = [asyncio.create_task(run.run()) for run in (one, other)]
    await until(lambda: leads(one) and leads(other))
    await asyncio.to_thread(one.stop)
    await asyncio.wait_for(tasks[0], SOON_S)
    assert leads(other)
    await asyncio.to_thread(other.stop)
    await asyncio.wait_for(tasks[1], SOON_S)


def test_a_stop_after_the_event_loop_has_been_closed_is_harmless(kind):
    made = []

    async def cut_off():
        async with connect("memory://") as backend:
            made.append(runner(kind, backend))
            task = asyncio.create_task(made[0].run())
            await until(lambda: leads(made[0]))
            task.cancel()  # and nobody waits for it

    asyncio.run(cut_off())
    made[0].stop()


async def test_health_can_be_asked_by_another_thread_while_it_runs(memory, kind):
    run, over = runner(kind, memory), threading.Event()
    seen: set[str] = set()
    errors = []

    def ask():
        while not over.is_set():
            try:
                seen.update(h.state for h in run.health())
                run.unready()
            except Exception as exc:
                errors.append(exc)

    asking = asyncio.create_task(asyncio.to_thread(ask))
    for _ in range(5):
        async with run.running():
            await until(lambda: leads(run))
    over.set()
    await asking
    assert errors == []
    assert {"leader", "stopped"} <= seen <= {"follower", "leader", "releasing", "stopped"}
