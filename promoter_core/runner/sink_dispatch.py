"""Serves the sinks: guarded, in order, bounded. No sink can stop or slow promotion."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any

from promoter_core.spi.errors import BackendError
from promoter_core.spi.model import LockOutcome, PromotedJob, Tick
from promoter_core.spi.sinks import (
    EventSink,
    ExpositionSupport,
    FailureReportSupport,
    MetricsSink,
    SinkFailure,
    SinkListSupport,
    SinkMonitor,
)
from promoter_core.spi.tasks import being_cancelled, cancel_and_wait, run_within

log = logging.getLogger("promoter.sinks")

FINISH_S = 5.0  # at the end, for a sink to process its queue
STUCK_S = 1.0  # a sink that processes nothing for this long is given up earlier
CLOSE_S = 2.0  # for the `close` of a sink
LAST_WORDS_S = 0.5  # for the `close` of a sink that was given up
QUEUED_BATCHES = 10_000  # per event sink; beyond this, its newest batches are dropped and counted
QUEUED_JOBS = 50_000
SLICE = 100  # jobs handed to a sink at once, to keep the event loop responsive
BLOCKED_S = 0.1  # a metrics sink that takes longer delays promotion
EMIT_BLOCKED_S = 0.5  # so does an event sink that keeps the event loop for longer without awaiting anything

OnFailure = Callable[[str, SinkFailure], None]


class SinkGuard:
    """Counts a sink's failures, and logs the 1st, 2nd, 4th, 8th …; the first one with its traceback."""

    def __init__(self, sink: object, told: OnFailure) -> None:
        self.name = type(sink).__name__
        self._told = told
        self._counts: Counter[SinkFailure] = Counter()

    def failed(self, what: str, exc: BaseException) -> None:
        if self._again(SinkFailure.FAILED) == 1:
            log.error("sink %s failed in %s; promotion continues", self.name, what, exc_info=exc)
        else:
            count = self._counts[SinkFailure.FAILED]
            self._warn(SinkFailure.FAILED, "sink %s failed in %s again (%d times): %r", self.name, what, count, exc)

    def dropped(self) -> None:
        count = self._again(SinkFailure.DROPPED)
        self._warn(SinkFailure.DROPPED, "sink %s is too slow: %d batches dropped so far", self.name, count)

    def blocked(self, what: str, seconds: float) -> None:
        self._again(SinkFailure.BLOCKED)
        text = "sink %s blocked the event loop for %.0f ms in %s: due jobs waited"
        self._warn(SinkFailure.BLOCKED, text, self.name, seconds * 1000, what)

    def reported(self, failure: SinkFailure) -> None:
        """Count a failure that the sink reported, and logged, itself."""
        self._again(failure)

    def _again(self, failure: SinkFailure) -> int:
        self._counts[failure] += 1
        self._told(self.name, failure)
        return self._counts[failure]

    def _warn(self, failure: SinkFailure, text: str, *args: object) -> None:
        count = self._counts[failure]
        if count & (count - 1) == 0:  # do not flood the log with a dead sink
            log.warning(text, *args)


def _keep(queue: str) -> None:
    pass


class MetricsFanout:
    """Calls every metrics sink, each guarded separately."""

    def __init__(self, sinks: Sequence[MetricsSink]) -> None:
        self._sinks = [(sink, SinkGuard(sink, self.on_sink_failure)) for sink in sinks]
        self._monitors = [sink for sink in sinks if isinstance(sink, SinkMonitor)]

    @property
    def wants_jobs(self) -> bool:
        return any(getattr(sink, "wants_jobs", False) for sink, _ in self._sinks)

    @property
    def wants_traces(self) -> bool:
        return any(getattr(sink, "wants_traces", False) for sink, _ in self._sinks)

    def exposition(self) -> tuple[bytes, str] | None:
        """Return the page of the first sink that has one."""
        return next((sink.exposition() for sink, _ in self._sinks if isinstance(sink, ExpositionSupport)), None)

    def on_sinks(self, events: Sequence[EventSink]) -> None:
        """Announce the start of a run, with the names of all sinks."""
        names = tuple(dict.fromkeys(type(sink).__name__ for sink in (*(sink for sink, _ in self._sinks), *events)))
        self._each("on_sinks", lambda sink: sink.on_sinks(names) if isinstance(sink, SinkListSupport) else None)

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        for monitor in self._monitors:
            # already reported; reporting it again could recurse
            with contextlib.suppress(Exception, asyncio.CancelledError):
                monitor.on_sink_failure(sink, failure)

    def on_tick(self, queue: str, tick: Tick) -> None:
        self._each("on_tick", lambda sink: sink.on_tick(queue, tick))

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        self._each("on_lock", lambda sink: sink.on_lock(queue, outcome))

    def on_error(self, queue: str, error: BackendError) -> None:
        self._each("on_error", lambda sink: sink.on_error(queue, error))

    def on_forget(self, queue: str) -> None:
        self._each("on_forget", lambda sink: getattr(sink, "on_forget", _keep)(queue))  # missing in older sinks

    def _each(self, what: str, call: Callable[[MetricsSink], Any]) -> None:
        for sink, guard in self._sinks:
            began_s = time.perf_counter()
            try:
                call(sink)
            except (Exception, asyncio.CancelledError) as exc:  # nothing is awaited here: the sink raised it
                guard.failed(what, exc)
            if (took_s := time.perf_counter() - began_s) > BLOCKED_S:
                guard.blocked(what, took_s)


class _Steps:
    """Await `awaitable`, and call `blocked` with the seconds of each step that keeps the event loop for too long."""

    def __init__(self, awaitable: Awaitable[None], blocked: Callable[[float], None]) -> None:
        self._steps = awaitable.__await__()
        self._blocked = blocked

    def __await__(self) -> Generator[Any, Any, None]:
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                wanted = self._step(answer, error)
            except StopIteration:
                return
            answer = error = None
            try:
                answer = yield wanted
            except BaseException as exc:
                error = exc

    def _step(self, answer: Any, error: BaseException | None) -> Any:
        began_s = time.perf_counter()
        try:
            if error is None:
                return self._steps.send(answer)
            return self._steps.throw(error)
        finally:
            if (took_s := time.perf_counter() - began_s) > EMIT_BLOCKED_S:
                self._blocked(took_s)


class SinkQueue:
    """Feeds one event sink from a bounded queue, in order, in a separate task."""

    def __init__(
        self, sink: EventSink, told: OnFailure, *, batches: int = QUEUED_BATCHES, jobs: int = QUEUED_JOBS
    ) -> None:
        self.dropped = 0  # dropped batches
        self._sink = sink
        self._guard = SinkGuard(sink, told)
        self._batches: asyncio.Queue[tuple[str, Sequence[PromotedJob]] | None] = asyncio.Queue()
        self._most_batches, self._most_jobs = batches, jobs
        self._taken = 0  # batches that the sink has taken
        self._jobs = 0  # jobs in the queue
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if isinstance(self._sink, FailureReportSupport):
            self._sink.report_to(self._guard.reported)
        self._task = asyncio.create_task(self._serve(), name=f"promoter-sink-{self._guard.name}")

    def offer(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        """Queue a batch without waiting. If the sink is too far behind, drop the batch and report it."""
        if self._batches.qsize() >= self._most_batches or (self._jobs and self._jobs + len(jobs) > self._most_jobs):
            self.dropped += 1
            self._guard.dropped()
        else:
            self._jobs += len(jobs)
            self._batches.put_nowait((queue, jobs))

    async def close(self, timeout_s: float = FINISH_S) -> None:
        """Give the sink `timeout_s` seconds for the queued batches, or less if it accepts nothing; then close it."""
        task, self._task = self._task, None
        if task is None:
            return
        self._batches.put_nowait(None)
        finished = await self._finished(task, timeout_s)
        if not finished:
            log.warning("sink %s did not finish in time; its queued batches are lost", self._guard.name)
            await cancel_and_wait(task, within_s=LAST_WORDS_S)
        try:
            await run_within(self._closed(), CLOSE_S if finished else LAST_WORDS_S)
        except TimeoutError:
            log.warning("sink %s did not close in time; its remaining events are lost", self._guard.name)

    async def _finished(self, task: asyncio.Task[None], timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while not task.done() and (left_s := until_s - loop.time()) > 0:
            taken = self._taken
            await asyncio.wait((task,), timeout=min(STUCK_S, left_s))
            if taken == self._taken:
                break
        return task.done()

    async def _serve(self) -> None:
        served = 0  # jobs since the last yield
        while (batch := await self._batches.get()) is not None:
            queue, jobs = batch
            self._jobs -= len(jobs)
            for first in range(0, len(jobs), SLICE):
                some = tuple(jobs[first : first + SLICE])
                served += len(some)
                if served >= SLICE:
                    served = 0
                    await asyncio.sleep(0)  # let the event loop handle a tick's reply first
                try:
                    await _Steps(self._sink.emit(queue, some), partial(self._guard.blocked, "emit"))
                except Exception as exc:
                    self._guard.failed("emit", exc)
                except asyncio.CancelledError as exc:
                    if being_cancelled():
                        raise
                    self._guard.failed("emit", exc)
                self._taken += 1

    async def _closed(self) -> None:
        try:
            await self._sink.close()
        except Exception as exc:
            self._guard.failed("close", exc)
        except asyncio.CancelledError as exc:
            if being_cancelled():
                raise
            self._guard.failed("close", exc)
