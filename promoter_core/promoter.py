"""`Promoter` runs one `Machine` against one backend and its sinks. All decisions are the machine's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Self

from promoter_core.actions import (
    Action,
    Cleanup,
    Decision,
    Done,
    Emit,
    Failed,
    Lock,
    Look,
    Outcome,
    Promote,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.clock import SystemClock
from promoter_core.contracts import Backend, Clock, EventSink, MetricsSink
from promoter_core.errors import BackendError, ConfigError, PermanentError
from promoter_core.machine import Machine, State
from promoter_core.model import Health, Lease, LockOutcome, Tick, Wake
from promoter_core.registry import Registry
from promoter_core.settings import PromoterSettings
from promoter_core.sinks import EventFeed, MetricsFanout

log = logging.getLogger("promoter")

RELEASE_TIMEOUT_S = 2.0  # for releasing the lock when the task that runs us is cancelled


class Promoter:
    """Moves due jobs of one queue from its sorted set to its stream, for as long as it leads.

    `metrics` and `events` take sinks, or names of installed ones (`"prometheus"`, `"logging:level=debug"`).
    Any number of promoters may run for one queue; one of them leads.
    """

    def __init__(
        self,
        backend: Backend,
        settings: PromoterSettings,
        *,
        metrics: Sequence[MetricsSink | str] = (),
        events: Sequence[EventSink | str] = (),
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """Raises ConfigError or PluginError when a named sink cannot be had."""
        if any(isinstance(s, str) for s in (*metrics, *events)):
            registry = registry or Registry()
        self.settings = settings
        self._backend = backend
        self._clock = clock or SystemClock()
        self._metrics = MetricsFanout(
            [registry.metrics_sink(s) if registry and isinstance(s, str) else s for s in metrics]  # type: ignore[misc]
        )
        self._event_sinks: list[EventSink] = [
            registry.event_sink(s) if registry and isinstance(s, str) else s  # type: ignore[misc]  # never a str here
            for s in events
        ]
        self._feeds: list[EventFeed] = []
        self._machine: Machine | None = None
        self._stop = asyncio.Event()
        self._last_tick_s: float | None = None
        self._last_error: BackendError | None = None

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called, or with `until_idle` until nothing is due any more.

        Outages are waited out for ever. Raises PermanentError when the backend says that it cannot work. A
        cancelled `run` releases its lock too.
        """
        if self._machine is not None and self._machine.state is not State.STOPPED:
            raise ConfigError(f"the promoter of queue {self.settings.queue!r} is running already")
        self._feeds = [EventFeed(sink) for sink in self._event_sinks]
        machine = self._machine = Machine(
            self.settings,
            fused=self._backend.capabilities.fused,
            want_jobs=bool(self._feeds) or self._metrics.wants_jobs,
            until_idle=until_idle,
        )
        for feed in self._feeds:
            feed.start()
        stopper = asyncio.create_task(self._stop.wait())
        try:
            await self._drive(machine, stopper)
        except asyncio.CancelledError:
            await self._release(machine)
            raise
        finally:
            stopper.cancel()
            machine.state = State.STOPPED
            self._stop.clear()
            for feed in self._feeds:
                await feed.close()

    def stop(self) -> None:
        """Finish the tick under way, release the lock and end `run`. Returns at once."""
        self._stop.set()
        if self._machine is not None:
            self._machine.shutdown()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run in the background for the length of an `async with`, inside an application.

        On exit the promoter is stopped; if it had ended by itself, its PermanentError is raised there.
        """
        task = asyncio.create_task(self.run(), name=f"promoter-{self.settings.queue}")
        try:
            yield self
        finally:
            if not task.done():
                self.stop()
            await task

    def health(self) -> Health:
        state = self._machine.state if self._machine else State.STOPPED
        age = None if self._last_tick_s is None else self._clock.monotonic() - self._last_tick_s
        error = None if self._last_error is None else _shown(self._last_error)
        return Health(self.settings.queue, str(state), state is State.LEADER, age, error)

    @property
    def dropped_batches(self) -> int:
        """Batches that event sinks were too slow to take, in this or the last run."""
        return sum(feed.dropped for feed in self._feeds)

    async def _drive(self, machine: Machine, stopper: asyncio.Task[bool]) -> None:
        if stopper.done() or self._stop.is_set():
            machine.shutdown()
        decision = machine.start(self._clock.monotonic())
        while not isinstance(decision.action, Stop):
            self._report(decision)
            outcome = await self._do(decision.action, stopper)
            if self._last_error is not None and not isinstance(outcome, Failed | Waited | Done):
                log.info("queue %r: recovered from %s", self.settings.queue, self._last_error.code)
                self._last_error = None
            machine.polls = self._backend.capabilities.wake is not Wake.ANY_WRITE
            decision = machine.handle(outcome, self._clock.monotonic())
        self._report(decision)
        if decision.action.error is not None:
            log.error("promoter of queue %r stops: %s", self.settings.queue, _shown(decision.action.error))
            raise decision.action.error

    async def _do(self, action: Action, stopper: asyncio.Task[bool]) -> Outcome:
        backend, s = self._backend, self.settings
        try:
            match action:
                case Lock():
                    return await backend.lock(s.queue, s.holder_id, s.lock_ttl_ms)
                case Promote(lease, request):
                    return await backend.promote(lease, request)
                case Cleanup(jobs):
                    await backend.cleanup(s.queue, jobs)
                case Emit(jobs):
                    await backend.emit(s.queue, jobs, s.events_max_stream_len)
                case Wait():
                    return Waited(await self._wait(action, stopper))
                case Look():
                    return await backend.stats(s.queue)
                case Unlock(lease):
                    await backend.unlock(lease)
            return Done()
        except BackendError as error:
            return Failed(error)
        except Exception as exc:
            unexpected = PermanentError(f"unexpected {type(exc).__name__} from the backend: {exc}", code="UNEXPECTED")
            unexpected.__cause__ = exc
            return Failed(unexpected)

    async def _wait(self, wait: Wait, stopper: asyncio.Task[bool]) -> bool:
        if stopper.done():
            return False
        sleep: Awaitable[bool | None] = (
            self._clock.sleep(wait.seconds)
            if wait.deaf
            else self._backend.wait(self.settings.queue, wait.seconds, wait.lease)
        )
        waiter = asyncio.ensure_future(sleep)
        try:
            await asyncio.wait((waiter, stopper), return_when=asyncio.FIRST_COMPLETED)
            return bool(waiter.done() and waiter.result())
        finally:
            if not waiter.done():
                waiter.cancel()
                await asyncio.gather(waiter, return_exceptions=True)

    def _report(self, decision: Decision) -> None:
        queue = self.settings.queue
        for report in decision.reports:
            match report:
                case LockOutcome():
                    log.info("queue %r: lock %s", queue, report)
                    self._metrics.on_lock(queue, report)
                case Tick():
                    self._last_tick_s = self._clock.monotonic()
                    self._metrics.on_tick(queue, report)
                    if report.promotion.jobs:
                        for feed in self._feeds:
                            feed.offer(queue, report.promotion.jobs)
                case BackendError():
                    again = self._last_error is not None and self._last_error.code == report.code
                    level = logging.DEBUG if again else logging.WARNING  # an outage is logged once, not every 400 ms
                    log.log(level, "queue %r: %s", queue, _shown(report))
                    self._last_error = report
                    self._metrics.on_error(queue, report)

    async def _release(self, machine: Machine) -> None:
        """After a cancellation: release the lock if it may be ours. The cancellation goes on whatever comes."""
        s = self.settings
        if machine.state is State.STOPPED:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._backend.unlock(Lease(s.queue, s.holder_id, s.lock_ttl_ms))
        except Exception as exc:
            log.warning("queue %r: the lock could not be released (%r); it ends with its lease", s.queue, exc)


def _shown(error: BackendError) -> str:
    """The error with its code in front; a server's own message has it there already."""
    text = str(error)
    return text if text.startswith(error.code) else f"{error.code}: {text}"
