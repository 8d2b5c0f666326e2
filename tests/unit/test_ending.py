"""Runs end in bounded time, whatever the backend, a sink or a client does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from functools import partial

import pytest

from promoter_core import PermanentError, Promoter, PromoterFleet, PromoterSettings, connect
from promoter_core.runner.sink_dispatch import SinkQueue
from promoter_core.spi import Lease, LockOutcome, SystemClock, cancel_and_wait, close_all, run_within
from promoter_core.testing import FaultyBackend, RecordingEvents, RecordingMetrics
from promoter_memory.backend import MemoryBackend
from tests import virtual_loop
from tests.unit.memory_bench import promoter
from tests.unit.test_promoter_faults import JOB

SOON_S = 2.5  # two seconds are promised, and half a second where cancellations get lost
BUSY_S = 10  # the same by real time: the machine may be busy


def virtual(test):
    """Run the test on a loop whose time is virtual."""

    @functools.wraps(test)
    def run(**given):
        async def main():
            if "memory" in given:
                await given["memory"].open()
            await test(**given)

        virtual_loop.run(main)

    return run


class Hanging(FaultyBackend):
    """Its server hangs as soon as `hangs` is set. With `deaf` the first two cancellations of a call get lost."""

    def __init__(self, backend, deaf=False):
        super().__init__(backend)
        self.hangs, self.deaf = False, deaf

    async def _pass(self, method, call):
        lost = 2 if self.deaf else 0
        while self.hangs and method != "wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not lost:
                    raise
                lost -= 1
        return await super()._pass(method, call)


@pytest.fixture
def memory():
    return MemoryBackend(clock=virtual_loop.LoopClock())


def runner(kind, backend, ttl_ms=3_000, **options):
    make = partial(Promoter, backend, "q") if kind == "promoter" else partial(PromoterFleet, backend, ["q"])
    settings = PromoterSettings(lock_ttl_ms=ttl_ms)
    return make(settings, holder_id="me", **{"clock": virtual_loop.LoopClock()} | options)


async def leading(run, backend, within_s=SOON_S):
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(within_s):
        while (await backend.stats("q")).holder is None:
            await asyncio.sleep(0.01)
    return task


async def in_time(task, cancelled=False, within_s=SOON_S):
    """The task ends, and how."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    done, _ = await asyncio.wait((task,), timeout=within_s)
    assert done, "it goes on"
    assert task.cancelled() is cancelled
    return loop.time() - began_s


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
@pytest.mark.parametrize("how", ["stop", "cancel"])
@pytest.mark.parametrize("deaf", [False, True])
@virtual
async def test_a_run_ends_although_the_backend_hangs(memory, kind, how, deaf, caplog):
    hanging = Hanging(memory, deaf)
    run = runner(kind, hanging)
    task = await leading(run, memory)
    hanging.hangs = True
    await asyncio.sleep(1.2)  # it renews by then
    if how == "stop":
        run.stop()
    else:
        task.cancel()
    await in_time(task, cancelled=how == "cancel")
    warned = [r.getMessage() for r in caplog.records if "could not be released" in r.getMessage()]
    assert len(warned) == 1, warned
    assert "it expires with its lease, in " in warned[0]


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
@virtual
async def test_a_step_that_answers_just_in_time_is_finished_and_the_lock_released(memory, kind):
    class Slow(FaultyBackend):
        async def _pass(self, method, call):
            if method in ("promote", "promote_many", "unlock", "leave_group"):
                await asyncio.sleep(0.7)
            return await super()._pass(method, call)

    metrics = RecordingMetrics()
    run = runner(kind, Slow(memory), metrics=[metrics])
    task = await leading(run, memory)
    run.stop()
    await in_time(task, within_s=3)  # the tick, the lock and a fleet's member are an answer each
    assert (await memory.stats("q")).holder is None
    assert [o for _, o in metrics.outcomes] == [LockOutcome.ACQUIRED, LockOutcome.RELEASED]
    assert len(metrics.ticks) == 1, "the tick under way was finished"


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
@virtual
async def test_released_is_reported_when_it_is_and_not_before(memory, kind, caplog):
    caplog.set_level(logging.INFO, "promoter")
    metrics = RecordingMetrics()
    faulty = FaultyBackend(memory)
    run = runner(kind, faulty, metrics=[metrics])
    task = await leading(run, memory)
    faulty.disconnected = True
    run.stop()
    await in_time(task)
    assert [o for _, o in metrics.outcomes] == [LockOutcome.ACQUIRED, LockOutcome.HELD]
    assert [e.code for _, e in metrics.errors][-1:] == ["CONNECTION"]
    assert "lock released" not in caplog.text
    assert "could not be released (CONNECTION" in caplog.text


async def test_a_lock_that_another_has_taken_is_not_reported_as_released(backend, clock, store):
    metrics = RecordingMetrics()
    async with promoter(backend, clock, metrics=[metrics]).running():
        await clock.sleep(0.1)
        store["q"].lock = ("usurper", clock.time_ms() + 5_000)
    assert [o for _, o in metrics.outcomes] == [LockOutcome.ACQUIRED, LockOutcome.HELD]


def stop_from_a_thread(run):
    thread = threading.Thread(target=run.stop)
    thread.start()
    thread.join()


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
@pytest.mark.parametrize("when", ["before", "starting"])
@virtual
async def test_it_can_be_stopped_from_another_thread_before_it_leads(memory, kind, when):
    hanging = Hanging(memory)
    run = runner(kind, hanging, ttl_ms=120_000)
    if when == "before":
        stop_from_a_thread(run)
        task = asyncio.create_task(run.run())
    else:
        hanging.hangs = True
        task = asyncio.create_task(run.run())
        await asyncio.sleep(0.1)
        stop_from_a_thread(run)
    await in_time(task)


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
async def test_it_can_be_stopped_from_another_thread_while_the_loop_sleeps(kind):
    async with connect("memory://") as backend:
        run = runner(kind, backend, ttl_ms=120_000, clock=SystemClock())
        task = await leading(run, backend, BUSY_S)
        await asyncio.sleep(0.1)
        thread = threading.Timer(0.3, run.stop)  # by then the loop sleeps
        thread.start()
        took_s = await in_time(task, within_s=BUSY_S)
        assert took_s < BUSY_S - 1, "nothing else has to happen; this wait's own end would wake it"
        thread.join()


@virtual
async def test_a_cancelled_fleet_that_cannot_start_leaves_nothing_running(memory):
    hanging = Hanging(memory)
    hanging.hangs = True
    task = asyncio.create_task(runner("fleet", hanging).run())
    await asyncio.sleep(0.1)
    task.cancel()
    await in_time(task, cancelled=True)
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


@virtual
async def test_a_cancelled_fleet_of_many_queues_releases_all_as_long_as_that_goes_well(memory):
    class Slow(FaultyBackend):
        async def unlock(self, lease):
            await asyncio.sleep(0.4)
            return await super().unlock(lease)

    queues = [f"q{i}" for i in range(500)]
    fleet = PromoterFleet(Slow(memory), queues, clock=virtual_loop.LoopClock())
    task = asyncio.create_task(fleet.run())
    async with asyncio.timeout(SOON_S):
        while sum(health.leads for health in fleet.health()) < 500:
            await asyncio.sleep(0.05)
    task.cancel()
    await in_time(task, cancelled=True)
    assert [q for q in queues if (await memory.stats(q)).holder] == []


@pytest.mark.parametrize("kind", ["promoter", "fleet"])
@virtual
async def test_running_ends_while_the_backend_hangs(memory, kind):
    hanging = Hanging(memory)
    async with asyncio.timeout(None) as ends:
        async with runner(kind, hanging).running():
            await asyncio.sleep(0.1)
            hanging.hangs = True
            await asyncio.sleep(1.2)
            ends.reschedule(asyncio.get_running_loop().time() + SOON_S)


@virtual
async def test_a_second_cancellation_ends_it_at_once(memory):
    hanging = Hanging(memory)
    task = await leading(runner("promoter", hanging), memory)
    hanging.hangs = True
    await asyncio.sleep(1.2)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    assert await in_time(task, cancelled=True) < 0.9


class Cancels(RecordingEvents, RecordingMetrics):
    """Whatever it awaits or calls was cancelled by somebody else."""

    def __init__(self):
        RecordingEvents.__init__(self)
        RecordingMetrics.__init__(self)
        self.calls = 0

    async def emit(self, queue, jobs):
        self.calls += 1
        raise asyncio.CancelledError

    async def close(self):
        raise asyncio.CancelledError

    def on_tick(self, queue, tick):
        self.calls += 1
        raise asyncio.CancelledError

    on_lock = on_error = on_tick


@pytest.mark.parametrize("kind", ["events", "metrics"])
async def test_a_sink_that_raises_cancelled_error_has_failed_like_any_other(backend, clock, queue, kind, caplog):
    sink, healthy = Cancels(), RecordingEvents()
    options = {"events": [healthy], "metrics": []}
    options[kind] = [sink, *options[kind]]
    async with promoter(backend, clock, **options).running():
        for i in range(3):
            await queue.schedule(i, delay=0.5)
            await clock.sleep(1)
    assert sink.calls >= 3
    assert len(healthy.jobs) == 3
    assert "sink Cancels failed in" in caplog.text


async def test_a_backend_that_raises_cancelled_error_is_tried_again(backend, clock, queue):
    class Broken(FaultyBackend):
        async def promote(self, lease, request):
            if self.calls["promote"] == 1:
                self.calls["promote"] += 1
                raise asyncio.CancelledError
            return await super().promote(lease, request)

    metrics = RecordingMetrics()
    await queue.schedule(1, delay=3)
    async with promoter(Broken(backend), clock, metrics=[metrics]).running():
        await clock.sleep(5)
    assert [e.code for _, e in metrics.errors] == ["CANCELLED"]
    assert metrics.promoted == 1


@virtual
async def test_sinks_are_closed_at_the_same_time_and_stuck_ones_are_given_up(memory, caplog):
    class Stuck(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.Event().wait()

        async def close(self):
            await asyncio.Event().wait()

    run = runner("promoter", memory, events=[Stuck() for _ in range(10)])
    task = await leading(run, memory)
    for feed in run._reporter._sink_queues:
        feed.offer("q", (JOB,))
    run.stop()
    assert await in_time(task) < 8, "ten sinks one after the other would take 15 s"
    assert caplog.text.count("did not finish in time") == 10


@virtual
async def test_a_slow_sink_that_goes_on_may_finish():
    class Slow(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.sleep(0.3)
            await super().emit(queue, jobs)

    sink = Slow()
    feed = SinkQueue(sink, lambda sink, failure: None)
    feed.start()
    for _ in range(6):
        feed.offer("q", (JOB,))
    await feed.close(timeout_s=60)
    assert len(sink.jobs) == 6


@virtual
async def test_a_task_that_loses_cancellations_is_cancelled_again():
    async def deaf(times):
        for _ in range(times):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return "done"

    task = asyncio.create_task(deaf(3))
    await asyncio.sleep(0)
    assert await cancel_and_wait(task, within_s=SOON_S)
    task = asyncio.create_task(deaf(1_000))
    await asyncio.sleep(0)
    assert not await cancel_and_wait(task, within_s=0.3)
    with pytest.raises(TimeoutError):
        await run_within(deaf(2), 0.05)
    await close_all(deaf(2), asyncio.sleep(0), within_s=0.05)
    await cancel_and_wait(task, within_s=0)
    for _ in range(1_000):
        task.cancel()
        await asyncio.sleep(0)


@virtual
async def test_a_permanent_error_still_ends_run_with_it(memory):
    class Refusing(FaultyBackend):
        async def lock(self, queue, holder, ttl_ms):
            raise PermanentError("no", code="NOPERM")

    with pytest.raises(PermanentError, match="no"):
        await runner("promoter", Refusing(memory)).run()
    assert isinstance(await memory.lock("q", "x", 1_000), Lease)


async def test_a_stop_in_the_turn_in_which_a_wait_ends_does_not_keep_the_event_loop(backend, clock):
    """The request arrives a turn later. Until then a store that answers at once must not be asked again and again."""
    stopped = promoter(backend, clock)
    ticks, promote = 0, backend.promote

    async def counted(lease, request):
        nonlocal ticks
        ticks += 1
        assert ticks < 100, "the event loop is kept"
        if ticks == 2:
            stopped.stop()
        return await promote(lease, request)

    backend.promote = counted
    async with stopped.running():
        await clock.sleep(60)
    assert ticks < 5
