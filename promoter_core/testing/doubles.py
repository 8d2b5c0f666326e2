"""Sinks that record what they receive."""

from __future__ import annotations

from promoter_core.spi import BackendError, LockOutcome, PromotedJob, Tick


class RecordingEvents:
    """An event sink that records: `batches` as received, and `jobs` of all batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, tuple[PromotedJob, ...]]] = []
        self.closed = False

    @property
    def jobs(self) -> list[PromotedJob]:
        """The jobs of all batches, in order."""
        return [job for _, batch in self.batches for job in batch]

    @property
    def ids(self) -> list[str | None]:
        """The ids of `jobs`; None for one that cannot be read."""
        return [job.id for job in self.jobs]

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        self.batches.append((queue, jobs))

    async def close(self) -> None:
        self.closed = True


class RecordingMetrics:
    """A metrics sink that records `ticks`, `outcomes` and `errors` with their queues, and `forgotten` queues."""

    def __init__(self, *, wants_jobs: bool = False) -> None:
        self.wants_jobs = wants_jobs
        self.ticks: list[tuple[str, Tick]] = []
        self.outcomes: list[tuple[str, LockOutcome]] = []
        self.errors: list[tuple[str, BackendError]] = []
        self.forgotten: list[str] = []

    @property
    def promoted(self) -> int:
        """The number of jobs promoted by all ticks."""
        return sum(tick.promotion.promoted for _, tick in self.ticks)

    def on_tick(self, queue: str, tick: Tick) -> None:
        self.ticks.append((queue, tick))

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        self.outcomes.append((queue, outcome))

    def on_error(self, queue: str, error: BackendError) -> None:
        self.errors.append((queue, error))

    def on_forget(self, queue: str) -> None:
        self.forgotten.append(queue)
