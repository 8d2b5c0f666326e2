"""Serves the sinks: guarded, in order, bounded. Nothing a sink does can stop or slow promotion."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from promoter_core.contracts import EventSink, MetricsSink
from promoter_core.errors import BackendError
from promoter_core.model import LockOutcome, PromotedJob, Tick

log = logging.getLogger("promoter.sinks")

LAST_WORDS_S = 1.0  # for the `close` of a sink that has had its time already
QUEUED_BATCHES = 256  # of one event sink; beyond that its newest batches are dropped and counted


class _Guard:
    """Logs a sink's first failure with its traceback as an error, and later ones as warnings with a count."""

    def __init__(self, sink: object) -> None:
        self.name = type(sink).__name__
        self.failures = 0

    def failed(self, what: str, exc: BaseException) -> None:
        self.failures += 1
        if self.failures == 1:
            log.error("sink %s failed in %s; promotion goes on", self.name, what, exc_info=exc)
        else:
            log.warning("sink %s failed in %s again (%d times): %r", self.name, what, self.failures, exc)


class MetricsFanout:
    """Calls every metrics sink, each on its own."""

    def __init__(self, sinks: Sequence[MetricsSink]) -> None:
        self._sinks = [(sink, _Guard(sink)) for sink in sinks]

    @property
    def wants_jobs(self) -> bool:
        return any(getattr(sink, "wants_jobs", False) for sink, _ in self._sinks)

    def on_tick(self, queue: str, tick: Tick) -> None:
        self._each("on_tick", lambda sink: sink.on_tick(queue, tick))

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        self._each("on_lock", lambda sink: sink.on_lock(queue, outcome))

    def on_error(self, queue: str, error: BackendError) -> None:
        self._each("on_error", lambda sink: sink.on_error(queue, error))

    def _each(self, what: str, call: Callable[[MetricsSink], Any]) -> None:
        for sink, guard in self._sinks:
            try:
                call(sink)
            except Exception as exc:
                guard.failed(what, exc)


class EventFeed:
    """Feeds one event sink from a bounded queue, in order, in a task of its own."""

    def __init__(self, sink: EventSink, *, bound: int = QUEUED_BATCHES) -> None:
        self.dropped = 0  # batches
        self._sink = sink
        self._guard = _Guard(sink)
        self._batches: asyncio.Queue[tuple[str, tuple[PromotedJob, ...]] | None] = asyncio.Queue(bound)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._serve(), name=f"promoter-sink-{self._guard.name}")

    def offer(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        """Hand over a batch without waiting; drop it, and say so, when the sink is too far behind."""
        try:
            self._batches.put_nowait((queue, jobs))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a dead sink must not flood the log
                log.warning("sink %s is too slow: %d batches dropped so far", self._guard.name, self.dropped)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Give the sink `timeout_s` seconds for what is queued and for its own `close`."""
        task, self._task = self._task, None
        if task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._batches.put(None)
                await asyncio.shield(task)
                await self._closed()
                return
        log.warning("sink %s did not finish in %g s; what it had queued is lost", self._guard.name, timeout_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._closed()

    async def _serve(self) -> None:
        while (batch := await self._batches.get()) is not None:
            try:
                await self._sink.emit(*batch)
            except Exception as exc:
                self._guard.failed("emit", exc)

    async def _closed(self) -> None:
        try:
            await self._sink.close()
        except Exception as exc:
            self._guard.failed("close", exc)
