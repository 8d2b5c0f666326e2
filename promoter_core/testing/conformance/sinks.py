"""`EventSinkContract` and `MetricsSinkContract`: the obligations of a sink."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import (
    ExpositionSupport,
    FailureReportSupport,
    LockOutcome,
    PermanentError,
    PromotedJob,
    Promotion,
    SinkFailure,
    SinkListSupport,
    SinkMonitor,
    Tick,
    TransientError,
)
from promoter_core.testing.conformance.base import Guarded, missing, optional
from promoter_core.testing.conformance.obligations import obliges

JOBS = (
    PromotedJob("a", "", due_ms=1_000, promoted_ms=1_001, stream_id="1001-0"),
    PromotedJob("ü \x00 \udcff", "näme", due_ms=1_000, promoted_ms=1_001, stream_id="1001-1"),
    PromotedJob(None, "no id", due_ms=1_000, promoted_ms=61_001, stream_id="1001-2"),
)
BLOCKED_S = 0.5  # far more than a call that "returns at once" takes, far less than one that waits for something


@pytest.mark.asyncio
class EventSinkContract(Guarded):
    """A subclass provides a fixture `sink`; its receiver may be a test double.

    Optional fixture: `delivered`, a function, plain or async, that returns the ids of the jobs delivered so far.
    """

    sink: Any = missing("sink", "give your contract class a fixture `sink`")
    delivered: Any = optional("delivered", "a function that returns the ids of the jobs delivered so far")

    async def test_it_has_the_shape_of_an_event_sink(self, sink: Any) -> None:
        for name in ("emit", "close"):
            method = getattr(sink, name, None)
            is_async = inspect.iscoroutinefunction(method)
            obliges("EventSink", "Receives promoted jobs", is_async, expected=f"async def {name}", seen=method)
        await sink.close()

    async def test_it_takes_any_batch(self, sink: Any) -> None:
        for batch in (JOBS[:1], JOBS, JOBS * 500):
            await sink.emit("queue – ünïcode", batch)
        await sink.close()

    async def test_it_keeps_no_hold_of_the_loop(self, sink: Any) -> None:
        longest_s, last_s, done = 0.0, time.monotonic(), False

        async def beat() -> None:
            nonlocal longest_s, last_s
            while not done:
                await asyncio.sleep(0)
                longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()

        beating = asyncio.ensure_future(beat())
        await sink.emit("q", JOBS[:1])
        done = True
        await beating
        await sink.close()
        obliges("EventSink", "slows nothing else", longest_s < BLOCKED_S, longest_s=longest_s)

    async def test_it_closes_without_having_been_used(self, sink: Any) -> None:
        await sink.close()

    async def test_it_works_again_after_close(self, sink: Any) -> None:
        for _ in range(3):
            await sink.emit("q", JOBS[:2])
            await sink.emit("q", JOBS)
            await sink.close()

    async def test_a_second_run_delivers_every_job(self, sink: Any, delivered: Any) -> None:
        for run in range(3):
            told: list[SinkFailure] = []
            if isinstance(sink, FailureReportSupport):
                sink.report_to(told.append)
            for number in range(4):
                await sink.emit(
                    "q",
                    (
                        PromotedJob(
                            f"{run}-{number}", "", due_ms=1_000, promoted_ms=1_001, stream_id=f"{1001 + run}-{number}"
                        ),
                    ),
                )
                await asyncio.sleep(0.01)
            await sink.close()
            ids = delivered()
            ids = set(await ids if inspect.isawaitable(ids) else ids)
            wanted = {f"{run}-{number}" for number in range(4)}
            again = "the next `emit` reopens what it needs"
            obliges("EventSink.close", again, wanted <= ids, run=run + 1, missing=sorted(wanted - ids), reported=told)


class MetricsSinkContract(Guarded):
    """A subclass provides a fixture `sink`."""

    sink: Any = missing("sink", "give your contract class a fixture `sink`")

    def test_it_has_the_shape_of_a_metrics_sink(self, sink: Any) -> None:
        lacking = [name for name in ("wants_jobs", "on_tick", "on_lock", "on_error") if not hasattr(sink, name)]
        obliges("MetricsSink", "Receives ticks, lock transitions and errors.", not lacking, lacking=lacking)
        wants = sink.wants_jobs
        asks = "`wants_jobs` requests `tick.promotion.jobs`."
        obliges("MetricsSink", asks, isinstance(wants, bool), expected="True or False", wants_jobs=wants)
        for name in ("on_tick", "on_lock", "on_error"):
            is_async = inspect.iscoroutinefunction(getattr(sink, name))
            obliges("MetricsSink", "Synchronous", not is_async, expected=f"def {name}", seen=f"async def {name}")

    def test_it_takes_whatever_a_promoter_tells(self, sink: Any) -> None:
        for queue in ("q", "queue – ünïcode"):
            sink.on_lock(queue, LockOutcome.ACQUIRED)
            sink.on_tick(queue, Tick(Promotion(), 0.0))
            sink.on_tick(
                queue,
                Tick(
                    Promotion(
                        3,
                        depth=2**40,
                        oldest_pending_lag_ms=5_000,
                        next_due_ms=7_000,
                        now_ms=2_000,
                        malformed=1,
                        held_back=9,
                        jobs=JOBS,
                        lateness_counts=(3, 2, 1),
                    ),
                    0.25,
                ),
            )
            sink.on_error(queue, TransientError("gone", code="CONNECTION"))
            sink.on_error(queue, PermanentError("no", code="NOPERM"))
            sink.on_lock(queue, LockOutcome.HELD)
            sink.on_lock(queue, LockOutcome.RELEASED)
        if isinstance(sink, SinkListSupport):
            sink.on_sinks(("SomeSink",))
        if isinstance(sink, SinkMonitor):
            for trouble in SinkFailure:
                sink.on_sink_failure("SomeSink", trouble)
        if isinstance(sink, ExpositionSupport):
            page, content_type = sink.exposition()
            gives = isinstance(page, bytes) and isinstance(content_type, str)
            answer = "Return the page and its content type."
            obliges("ExpositionSupport.exposition", answer, gives, page=page, content_type=content_type)

    def test_it_forgets_a_queue_and_takes_it_again(self, sink: Any) -> None:
        if not hasattr(sink, "on_forget"):
            pytest.skip(
                "needs a sink with on_forget: without it what is kept for a queue stays when the queue has gone"
            )
        is_async = inspect.iscoroutinefunction(sink.on_forget)
        obliges("MetricsSink", "Synchronous", not is_async, expected="def on_forget", seen="async def on_forget")
        name = f"forgotten-{ULID()}"
        sink.on_forget(name)
        for _ in range(2):
            sink.on_lock(name, LockOutcome.ACQUIRED)
            sink.on_tick(
                name,
                Tick(
                    Promotion(
                        3,
                        depth=2,
                        oldest_pending_lag_ms=5_000,
                        next_due_ms=7_000,
                        now_ms=2_000,
                        malformed=1,
                        held_back=9,
                        jobs=JOBS,
                        lateness_counts=(3, 2, 1),
                    ),
                    0.25,
                ),
            )
            sink.on_error(name, TransientError("gone", code="CONNECTION"))
            if isinstance(sink, ExpositionSupport):
                page = sink.exposition()[0]
                obliges("ExpositionSupport", "renders its figures", name.encode() in page, queue=name, page=page)
            sink.on_forget(name)
            if isinstance(sink, ExpositionSupport):
                gone = name.encode() not in sink.exposition()[0]
                obliges(
                    "MetricsSink.on_forget",
                    "Drop all data of `queue`, which this process no longer serves.",
                    gone,
                    queue=name,
                )
        sink.on_forget(name)

    def test_it_returns_at_once(self, sink: Any) -> None:
        began_s = time.monotonic()
        for _ in range(3):
            sink.on_tick("q", Tick(Promotion(promoted=1, jobs=JOBS), 0.001))
        took_s = (time.monotonic() - began_s) / 3
        obliges("MetricsSink", "it must return at once and never block", took_s < BLOCKED_S, took_s=took_s)
