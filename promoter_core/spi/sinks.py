"""`EventSink` and `MetricsSink`, which report what happened, and their optional protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from promoter_core.spi.errors import BackendError
from promoter_core.spi.model import LockOutcome, PromotedJob, Tick


class SinkFailure(StrEnum):
    """How a sink failed. Promotion goes on."""

    FAILED = "failed"  # it raised
    DROPPED = "dropped"  # it was too slow for a batch, which is lost to it
    BLOCKED = "blocked"  # it did not return at once, and held up promotion
    REFUSED = "refused"  # its receiver will not have a batch, which is lost


@runtime_checkable
class EventSink(Protocol):
    """Receives promoted jobs, after the promotion, batch by batch and in order. Best effort.

    Served from a bounded queue in a separate task: a slow sink loses batches (counted), and slows nothing else.
    """

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        """Take one batch, never empty and of some hundred jobs at most. An exception is logged and counted, and the
        next batch comes all the same.
        """
        ...

    async def close(self) -> None:
        """Flush and give up resources. Called at the end of each run, after its last batch.

        A promoter may run again, with the same sink and perhaps on another event loop: the next `emit` opens again
        what it needs.
        """
        ...


@runtime_checkable
class FailureReportSupport(Protocol):
    """An event sink that reports failures which show after `emit` has returned. Optional."""

    def report_to(self, report: Callable[[SinkFailure], None]) -> None:
        """Keep `report`, and call it on the event loop for each batch that is refused or lost. Called before each
        run; the figures reach metrics sinks as those of `SinkMonitor.on_sink_failure`.
        """
        ...


@runtime_checkable
class MetricsSink(Protocol):
    """Receives ticks, lock transitions and errors. Synchronous: it must return at once and never block.

    `wants_jobs` asks for `tick.promotion.jobs` to be filled. A sink may have `wants_traces` as well, which asks for
    `tick.promotion.traces`.
    """

    wants_jobs: bool

    def on_tick(self, queue: str, tick: Tick) -> None:
        """After every good tick, promoted or not."""
        ...

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        """When the lock was won, is another's or was released; on transitions only."""
        ...

    def on_error(self, queue: str, error: BackendError) -> None:
        """When a step failed. `error.code` says how; TransientError is retried, PermanentError ends the run."""
        ...

    def on_forget(self, queue: str) -> None:
        """The queue is served here no longer: drop what is kept for it.

        Called when a fleet has handed the queue over or dropped it, and at the end of a run that was stopped, after the
        last of the other calls. Not at the end of a run with `until_idle`: its figures are its result. The queue may
        come back later. A sink without this method works, and keeps what it has.
        """
        ...


@runtime_checkable
class SinkMonitor(Protocol):
    """A metrics sink that counts failures of the sinks. Optional."""

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        """Whenever a sink, named by its class, raised, blocked, or lost a batch."""
        ...


@runtime_checkable
class SinkListSupport(Protocol):
    """A metrics sink that wants the names of all sinks before any of them fails, to count from zero. Optional."""

    def on_sinks(self, sinks: Sequence[str]) -> None:
        """At the start of each run, with the names that `SinkMonitor.on_sink_failure` uses."""
        ...


@runtime_checkable
class ExpositionSupport(Protocol):
    """A metrics sink that renders its figures as a page, for `promoter run --http`. Optional."""

    def exposition(self) -> tuple[bytes, str]:
        """The page and its content type. Called from a separate thread, one at a time, while the other methods are
        called on the event loop: it must not keep them waiting.
        """
        ...
