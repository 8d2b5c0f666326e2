"""The runner, against the memory backend on a virtual clock: errors, and sinks that misbehave."""

from __future__ import annotations

import asyncio
import logging

import pytest

from promoter_core import Job, PermanentError, TransientError
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics
from tests.unit.memory_bench import promoter, streamed


async def test_transient_errors_are_waited_out_and_reported(backend, clock, queue):
    metrics = RecordingMetrics()
    await queue.schedule("x", delay=1)
    faulty = FaultyBackend(backend, Fault("promote", nth=1), Fault("promote", nth=2))
    async with promoter(faulty, clock, metrics=[metrics]).running() as p:
        await clock.sleep(0.01)
        assert p.health().last_error.startswith("CONNECTION")
        await clock.sleep(2)
        assert p.health().last_error is None
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
        await clock.sleep(1)
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
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
    assert p.health().state == "stopped"
    assert p.health().last_error == "NOPERM: no"


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


async def test_a_slow_event_sink_loses_batches_and_slows_nothing_else(backend, clock, queue, caplog):
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
    assert p.dropped_batches == 400 - 256 - 1
    assert "batches dropped" in caplog.text


async def test_a_transient_error_of_wait_is_waited_out(backend, clock, queue):
    await queue.schedule("x", delay=1)
    lost = lambda: TransientError("gone", code="CONNECTION")  # noqa: E731
    faulty = FaultyBackend(backend, Fault("wait", nth=1, error=lost))
    async with promoter(faulty, clock).running():
        await clock.sleep(2)
    assert len(await streamed(backend)) == 1


async def test_a_sink_that_does_not_finish_is_given_up_and_still_closed(caplog):
    from promoter_core.model import PromotedJob
    from promoter_core.sinks import EventFeed

    class Stuck(RecordingEvents):
        async def emit(self, queue, jobs):
            await asyncio.Event().wait()

    sink = Stuck()
    feed = EventFeed(sink, lambda sink, trouble: None)
    feed.start()
    for _ in range(3):
        feed.offer("q", (PromotedJob("a", "", 1, 2, "2-0"),))
    await feed.close(timeout_s=0.05)
    assert sink.closed
    assert "did not finish" in caplog.text
