"""The runner, against the memory backend on a virtual clock: errors, and sinks that misbehave."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from promoter_core import Job, PermanentError, TransientError
from promoter_core.runner import sink_dispatch
from promoter_core.runner.reporter import CALM_S
from promoter_core.runner.sink_dispatch import SinkQueue
from promoter_core.spi import PromotedJob, SinkFailure
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics
from tests.unit.memory_bench import promoter, streamed

JOB = PromotedJob("a", "", due_ms=1, promoted_ms=2, stream_id="2-0")


async def test_transient_errors_are_waited_out_and_reported(backend, clock, queue):
    metrics = RecordingMetrics()
    await queue.schedule("x", delay=1)
    faulty = FaultyBackend(backend, Fault("promote", nth=1), Fault("promote", nth=2))
    async with promoter(faulty, clock, metrics=[metrics]).running() as p:
        await clock.sleep(0.01)
        assert p.health()[0].last_error.startswith("CONNECTION")
        await clock.sleep(2)
        assert p.health()[0].last_error is None
    assert [e.code for _, e in metrics.errors] == ["CONNECTION", "CONNECTION"]
    assert len(await streamed(backend)) == 1


async def test_an_outage_is_logged_once_and_its_end_too(backend, clock, caplog):
    caplog.set_level(logging.INFO, "promoter")
    faulty = FaultyBackend(backend)
    async with promoter(faulty, clock).running():
        await clock.sleep(1)
        faulty.disconnected = True
        await clock.sleep(60)
        faulty.disconnected = False
        await clock.sleep(2 * CALM_S)
        assert len([r for r in caplog.records if "recovered" in r.message]) == 1
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.message.endswith("; retrying")


async def test_an_outage_in_which_some_steps_succeed_is_one(backend, clock, caplog):
    caplog.set_level(logging.INFO, "promoter")
    faulty = FaultyBackend(backend)
    async with promoter(faulty, clock).running():
        for _ in range(30):
            faulty.disconnected = True
            await clock.sleep(2)
            faulty.disconnected = False
            await clock.sleep(2)
        assert [r.message for r in caplog.records if "recovered" in r.message] == []
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
        await clock.sleep(2 * CALM_S)
        (line,) = [r for r in caplog.records if "recovered" in r.message]
        assert (line.queue, line.code) == ("q", "CONNECTION")
        assert line.seconds >= CALM_S
        faulty.disconnected = True
        await clock.sleep(2)
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 2, "another outage"


async def test_an_outage_that_has_just_ended_when_it_stops_is_no_open_end(backend, clock, caplog):
    caplog.set_level(logging.INFO, "promoter")
    faulty = FaultyBackend(backend)
    async with promoter(faulty, clock).running():
        await clock.sleep(1)
        faulty.disconnected = True
        await clock.sleep(5)
        faulty.disconnected = False
        await clock.sleep(3)
    assert len([r for r in caplog.records if "recovered" in r.message]) == 1


async def test_a_lost_reply_of_promote_loses_no_job_and_repeats_none(backend, clock, queue):
    await queue.schedule_many([Job(data=i, delay=1) for i in range(5)])
    faulty = FaultyBackend(backend, Fault("promote", nth=2, after_effect=True))
    async with promoter(faulty, clock).running():
        await clock.sleep(3)
    assert len(await streamed(backend)) == 5


async def test_a_permanent_error_ends_run_with_it_and_releases_the_lock(backend, clock):
    refused = PermanentError("no", code="NOPERM")
    faulty = FaultyBackend(backend, Fault("promote", nth=2, error=lambda: refused))
    metrics = RecordingMetrics()
    p = promoter(faulty, clock, metrics=[metrics])
    with pytest.raises(PermanentError) as raised:
        await p.run()
    assert raised.value is refused
    assert metrics.errors == [("q", refused)]
    assert (await backend.stats("q")).holder is None
    assert p.health()[0].state == "stopped"
    assert p.health()[0].last_error == "NOPERM: no"


async def test_a_backends_own_exception_ends_run_as_a_permanent_error(backend, clock):
    class Broken(FaultyBackend):
        async def promote(self, lease, request):
            raise KeyError("oops")

    with pytest.raises(PermanentError, match=r"unexpected KeyError.*oops") as raised:
        await promoter(Broken(backend), clock).run()
    assert isinstance(raised.value.__cause__, KeyError)


async def test_running_raises_the_error_that_ended_it_on_exit(backend, clock):
    faulty = FaultyBackend(backend, Fault("lock", error=lambda: PermanentError("no", code="NOPERM")))
    with pytest.raises(PermanentError):
        async with promoter(faulty, clock).running():
            await clock.sleep(1)


class Raises(RecordingEvents, RecordingMetrics):
    def __init__(self):
        RecordingEvents.__init__(self)
        RecordingMetrics.__init__(self)

    async def emit(self, queue, jobs):
        raise RuntimeError("sink is broken")

    def on_tick(self, queue, tick):
        raise RuntimeError("sink is broken")


@pytest.mark.parametrize("kind", ["events", "metrics"])
async def test_a_sink_that_raises_is_logged_once_as_an_error_then_warned_with_a_count(
    backend, clock, queue, caplog, kind
):
    healthy = RecordingEvents()
    options = {"events": [healthy], "metrics": []}
    options[kind] = [Raises(), *options[kind]]
    await queue.schedule_many([Job(data=i, delay=i + 1) for i in range(4)])
    async with promoter(backend, clock, **options).running():
        await clock.sleep(6)
    assert len(healthy.jobs) == 4
    failures = [r for r in caplog.records if r.name == "promoter.sinks"]
    assert [r.levelno for r in failures].count(logging.ERROR) == 1
    assert failures[0].levelno == logging.ERROR
    assert failures[0].exc_info
    assert "(2 times)" in failures[1].getMessage()
    assert len(failures) >= 3


async def test_a_slow_event_sink_slows_nothing_else(backend, clock, queue):
    class Slow(RecordingEvents):
        async def emit(self, queue, jobs):
            await clock.sleep(3600)
            await super().emit(queue, jobs)

    slow, quick = Slow(), RecordingEvents()
    await queue.schedule_many([Job(data=i, delay=1 + i) for i in range(400)])
    p = promoter(backend, clock, events=[slow, quick])
    task = asyncio.create_task(p.run())
    await clock.sleep(402)
    assert len(quick.jobs) == 400
    assert max(j.promoted_ms - j.due_ms for j in quick.jobs) == 0
    p.stop()
    # the slow sink gets its grace by the real clock; do not wait for it here
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_transient_error_of_wait_is_waited_out(backend, clock, queue):
    await queue.schedule("x", delay=1)
    lost = lambda: TransientError("gone", code="CONNECTION")  # noqa: E731
    faulty = FaultyBackend(backend, Fault("wait", nth=1, error=lost))
    async with promoter(faulty, clock).running():
        await clock.sleep(2)
    assert len(await streamed(backend)) == 1


async def test_a_sink_that_does_not_finish_is_given_up_and_still_closed(caplog):
    class Stuck(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.Event().wait()

    sink = Stuck()
    feed = SinkQueue(sink, lambda sink, failure: None)
    feed.start()
    for _ in range(3):
        feed.offer("q", (PromotedJob("a", "", due_ms=1, promoted_ms=2, stream_id="2-0"),))
    await feed.close(timeout_s=0.05)
    assert sink.closed
    assert "did not finish" in caplog.text


class Monitoring(RecordingMetrics):
    """Keeps the failures of sinks."""

    def __init__(self):
        super().__init__()
        self.failures = []

    def on_sink_failure(self, sink, failure):
        self.failures.append((sink, failure))


async def test_a_metrics_sink_that_blocks_is_reported(backend, clock, queue, caplog):
    class Blocking(RecordingMetrics):
        def on_tick(self, queue, tick):
            super().on_tick(queue, tick)
            if tick.promotion.promoted:
                time.sleep(0.15)

    monitor = Monitoring()
    await queue.schedule("x", delay=1)
    async with promoter(backend, clock, metrics=[Blocking(), monitor]).running():
        await clock.sleep(2)
    assert monitor.failures == [("Blocking", SinkFailure.BLOCKED)]
    assert re.search(r"sink Blocking blocked the event loop for [1-9]\d\d+ ms in ", caplog.text)
    assert len(await streamed(backend)) == 1


async def test_an_event_sink_that_blocks_is_reported_by_name(backend, clock, queue, caplog, monkeypatch):
    monkeypatch.setattr(sink_dispatch, "EMIT_BLOCKED_S", 0.1)

    class Blocking(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.sleep(0)
            time.sleep(0.15)  # noqa: ASYNC251 - the mistake that is reported
            await asyncio.sleep(0)
            await super().emit(queue, jobs)

    class Waiting(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.sleep(0.15)
            await super().emit(queue, jobs)

    monitor, blocking, waiting = Monitoring(), Blocking(), Waiting()
    await queue.schedule("x", delay=1, job_id="a")
    async with promoter(backend, clock, metrics=[monitor], events=[blocking, waiting]).running():
        await clock.sleep(2)
        await asyncio.sleep(0.3)
    assert ("Blocking", SinkFailure.BLOCKED) in monitor.failures
    assert re.search(r"sink Blocking blocked the event loop for [1-9]\d\d+ ms in ", caplog.text)
    assert "in emit: due jobs waited" in caplog.text
    assert blocking.ids == waiting.ids == ["a"]


async def test_sinks_are_served_while_the_next_ticks_run_and_in_order(backend, clock, queue):
    metrics, seen = RecordingMetrics(), []

    class Slow(RecordingEvents):
        async def emit(self, queue, jobs):
            seen.append(metrics.promoted)
            await clock.sleep(1)
            await super().emit(queue, jobs)

    slow, quick = Slow(), RecordingEvents()
    await queue.schedule_many([Job(data=i, delay=1, job_id=f"{i:03}") for i in range(200)])
    async with promoter(
        backend, clock, metrics=[metrics], events=[slow, quick], promote_batch=10, max_tick_ms=0
    ).running():
        await clock.sleep(1.5)
        assert metrics.promoted == 200, "the drain did not wait for it"
        assert quick.ids == [f"{i:03}" for i in range(200)], "nor did the other sink"
        assert len(slow.jobs) < 20
        await clock.sleep(30)
    assert slow.ids == [f"{i:03}" for i in range(200)]
    assert seen[1] == 200


async def test_what_a_sink_loses_is_bounded_counted_and_reported(backend, clock, queue, caplog, monkeypatch):
    class Dead(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.Event().wait()

    monitor = Monitoring()
    monkeypatch.setattr(SinkQueue.__init__, "__kwdefaults__", {"batches": 256, "jobs": 1_000})
    async with promoter(backend, clock, metrics=[monitor], events=[Dead()]).running() as p:
        for i in range(400):
            await queue.schedule(i, delay=0.5)
            await clock.sleep(1)
        dropped = p.dropped_batches
        assert 400 - 256 - 3 <= dropped <= 400 - 256
        assert monitor.failures == [("Dead", SinkFailure.DROPPED)] * dropped
        assert sum("is too slow" in r.getMessage() for r in caplog.records) <= 10, "the log is not flooded"
    assert len(await streamed(backend)) == 400


async def test_what_a_sink_is_behind_with_is_bounded_in_jobs_too():
    feed, batch = SinkQueue(RecordingEvents(), lambda sink, failure: None, jobs=1_000), (JOB,) * 400
    for _ in range(5):
        feed.offer("q", batch)
    assert feed.dropped == 3
    feed.start()
    await asyncio.sleep(0.05)
    feed.offer("q", (JOB,) * 5_000)
    assert feed.dropped == 3, "one batch is always taken"
    await feed.close()


async def test_many_small_batches_are_served_many_at_a_time():
    sink = RecordingEvents()
    feed = SinkQueue(sink, lambda sink, failure: None)
    feed.start()
    for _ in range(500):
        feed.offer("q", (JOB,))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(sink.jobs) == 500
    await feed.close()
