"""`Runner`: the common parts of `Promoter` and `PromoterFleet`: identity, settings, sinks, and the end of a run."""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from ulid import ULID

from promoter_core.registry import Registry
from promoter_core.runner.health import Health, not_served
from promoter_core.runner.reporter import Reporter
from promoter_core.runner.stopping import StopRequest
from promoter_core.settings import PromoterSettings
from promoter_core.spi.clock import Clock, SystemClock
from promoter_core.spi.errors import ConfigError
from promoter_core.spi.sinks import EventSink, MetricsSink

MAX_HOLDER_BYTES = 512


class Runner(ABC):
    """Runs in an event loop until it is stopped, and can run again. `stop` is thread-safe."""

    def __init__(
        self,
        settings: PromoterSettings | None,
        holder_id: str | None,
        metrics: Sequence[MetricsSink | str],
        events: Sequence[EventSink | str],
        clock: Clock | None,
        registry: Registry | None,
    ) -> None:
        if settings is not None and not isinstance(settings, PromoterSettings):
            raise ConfigError(f"settings must be a PromoterSettings(…), not {settings!r:.60}")
        self.settings = settings or PromoterSettings()
        self.holder_id = new_holder_id() if holder_id is None else check_holder_id(holder_id)
        self._clock = clock or SystemClock()
        self._reporter = Reporter(
            metrics, events, clock=self._clock, registry=registry, settings=self.settings, holder_id=self.holder_id
        )
        self._stop = StopRequest()

    @abstractmethod
    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called; with `until_idle`, until nothing is due. Raises PermanentError."""

    @abstractmethod
    def health(self) -> list[Health]:
        """Return one `Health` for each queue served here. Thread-safe."""

    def unready(self) -> list[str]:
        """Return the reasons why this runner is not ready, a sentence each; empty when it is ready. Thread-safe."""
        return [reason for health in self._each_health() for reason in not_served(health, self.settings)]

    def _each_health(self) -> Iterator[Health]:
        """Like `health`, one at a time: creating thousands of objects at once triggers the garbage collector."""
        yield from self.health()

    def stop(self) -> None:
        """Finish the current round trip, release what is held, and end `run`. Returns at once. Thread-safe."""
        self._stop.ask()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run in the background for the length of an `async with`, inside an application.

        On exit the run is stopped. If it had ended by itself, its PermanentError is raised there.
        """
        task = asyncio.create_task(self.run(), name=f"promoter-{type(self).__name__}")
        try:
            yield self
        finally:
            if not task.done():
                self.stop()
            await task

    def exposition(self) -> tuple[bytes, str] | None:
        """Return the figures as a page with its content type, from the first metrics sink that has one, or None."""
        return self._reporter.exposition()

    @property
    def dropped_batches(self) -> int:
        """The number of batches that event sinks were too slow to take, in the current or last run."""
        return self._reporter.dropped_batches


def new_holder_id() -> str:
    """Return a unique holder id made of host, process and a ULID, so that an operator can find the process."""
    return f"{socket.gethostname()}-{os.getpid()}-{ULID()}"


def check_holder_id(holder_id: object) -> str:
    """Return `holder_id` if it is text of 1 to 512 bytes. Raises ConfigError."""
    if not isinstance(holder_id, str) or not 0 < len(holder_id.encode(errors="replace")) <= MAX_HOLDER_BYTES:
        raise ConfigError(
            f"holder_id must be text of 1 to {MAX_HOLDER_BYTES} bytes, and unique among the queue's promoters"
        )
    return holder_id
