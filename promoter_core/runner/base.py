"""`Runner`: what `Promoter` and `PromoterFleet` have in common: identity, settings, sinks, and how a run ends."""

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
    """Runs in an event loop until it is stopped, and may run again. `stop` may be called from any thread."""

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
        """Promote until `stop` is called, or with `until_idle` until nothing is due."""

    @abstractmethod
    def health(self) -> list[Health]:
        """One `Health` for each queue that is served here. Any thread may ask."""

    def unready(self) -> list[str]:
        """Why this runner is not ready, a sentence for each reason; empty when it is ready. Any thread may ask."""
        return [reason for health in self._each_health() for reason in not_served(health, self.settings)]

    def _each_health(self) -> Iterator[Health]:
        """As `health`, one at a time: thousands of objects at once have the collector run."""
        yield from self.health()

    def stop(self) -> None:
        """Finish the round trip under way, release what is held and end `run`. Returns at once; any thread may call."""
        self._stop.ask()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run in the background for the length of an `async with`, inside an application.

        On exit the run is stopped; if it had ended by itself, its PermanentError is raised there.
        """
        task = asyncio.create_task(self.run(), name=f"promoter-{type(self).__name__}")
        try:
            yield self
        finally:
            if not task.done():
                self.stop()
            await task

    def exposition(self) -> tuple[bytes, str] | None:
        """The figures as a page with its content type, of the first metrics sink that has one."""
        return self._reporter.exposition()

    @property
    def dropped_batches(self) -> int:
        """Batches that event sinks were too slow to take, in this or the last run."""
        return self._reporter.dropped_batches


def new_holder_id() -> str:
    """A holder id that no other promoter has: host, process and a ULID, so that an operator can find it."""
    return f"{socket.gethostname()}-{os.getpid()}-{ULID()}"


def check_holder_id(holder_id: object) -> str:
    """Return `holder_id` if it is text of 1 to 512 bytes. Raises ConfigError."""
    if not isinstance(holder_id, str) or not 0 < len(holder_id.encode(errors="replace")) <= MAX_HOLDER_BYTES:
        raise ConfigError(
            f"holder_id must be text of 1 to {MAX_HOLDER_BYTES} bytes, and unique among the queue's promoters"
        )
    return holder_id
