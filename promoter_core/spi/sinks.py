"""`EventSink` and `MetricsSink`, which report what happened, and their optional protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from promoter_core.spi.errors import BackendError
from promoter_core.spi.model import LockOutcome, PromotedJob, Tick


class SinkFailure(StrEnum):
    """How a sink failed. Promotion continues."""

    FAILED = "failed"  # it raised an exception
    DROPPED = "dropped"  # it was too slow, and missed a batch
    BLOCKED = "blocked"  # it kept the event loop, and delayed promotion
    REFUSED = "refused"  # its receiver refused a batch, which is lost


@runtime_checkable
class EventSink(Protocol):
    """Receives promoted jobs after the promotion, in batches and in order. Best effort.

    Fed from a bounded queue in a separate task: a slow sink loses batches, which are counted, and slows nothing else.
    """

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        """Handle one batch, never empty, of some hundred jobs at most.

        An exception is logged and counted, and the next batch still arrives. So is a step that keeps the event loop for
        more than half a second, because due jobs wait meanwhile: call blocking code by `asyncio.to_thread`.
        """
        ...

    async def close(self) -> None:
        """Flush and release resources. Called at the end of each run, after the last batch.

        A promoter can run again with the same sink, even on another event loop: the next `emit` reopens what it needs.
        """
        ...


@runtime_checkable
class FailureReportSupport(Protocol):
    """An event sink that reports failures which show after `emit` has returned. Optional."""

    def report_to(self, report: Callable[[SinkFailure], None]) -> None:
        """Store `report`, and call it on the event loop for each batch that is refused or lost.

        Called before each run. Metrics sinks receive the reports through `SinkMonitor.on_sink_failure`.
        """
        ...


@runtime_checkable
class MetricsSink(Protocol):
    """Receives ticks, lock transitions and errors. Synchronous: it must return at once and never block.

    `wants_jobs` requests `tick.promotion.jobs`. A sink can also have `wants_traces`, which requests
    `tick.promotion.traces`.
    """

    wants_jobs: bool

    def on_tick(self, queue: str, tick: Tick) -> None:
        """Called after every successful tick, whether or not it promoted a job."""
        ...

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        """Called when the lock was acquired, is held by another, or was released; only on transitions."""
        ...

    def on_error(self, queue: str, error: BackendError) -> None:
        """Called when a step failed. `error.code` says why. TransientError is retried; PermanentError ends the run."""
        ...

    def on_forget(self, queue: str) -> None:
        """Drop all data of `queue`, which this process no longer serves.

        Called when a fleet has handed over or dropped the queue, and at the end of a run that was stopped, after all
        other calls. Not called at the end of a run with `until_idle`, whose figures are its result. The queue can come
        back later. A sink without this method works, and keeps its data.
        """
        ...


@runtime_checkable
class SinkMonitor(Protocol):
    """A metrics sink that counts failures of the sinks. Optional."""

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        """Called whenever a sink, named by its class, raised, blocked, or lost a batch."""
        ...


@runtime_checkable
class SinkListSupport(Protocol):
    """A metrics sink that receives the names of all sinks before any of them fails, to count from zero. Optional."""

    def on_sinks(self, sinks: Sequence[str]) -> None:
        """Called at the start of each run, with the names that `SinkMonitor.on_sink_failure` uses."""
        ...


@runtime_checkable
class ExpositionSupport(Protocol):
    """A metrics sink that renders its figures as a page, for `promoter run --http`. Optional."""

    def exposition(self) -> tuple[bytes, str]:
        """Return the page and its content type.

        Called from a separate thread, one call at a time, while the other methods run on the event loop. It must not
        block them.
        """
        ...
