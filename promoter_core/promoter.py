"""`Promoter` runs one `Machine` against one backend and its sinks. All decisions are the machine's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from promoter_core.actions import (
    Action,
    Lock,
    Outcome,
    Promote,
    Stop,
    Wait,
    Waited,
)
from promoter_core.clock import SystemClock
from promoter_core.contracts import Backend, Clock, EventSink, MetricsSink, check_backend
from promoter_core.doing import do_alone, guarded
from promoter_core.errors import ConfigError
from promoter_core.machine import Machine, State
from promoter_core.model import Health, Lease, Wake
from promoter_core.registry import Registry
from promoter_core.reports import Reporter, unready
from promoter_core.settings import PromoterSettings

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
        """Raises ConfigError or PluginError when an argument cannot work."""
        if not isinstance(settings, PromoterSettings):
            raise ConfigError(f"expected PromoterSettings(queue=…), not {settings!r:.60}")
        self.settings = settings
        self._backend: Backend = check_backend(backend)
        self._clock = clock or SystemClock()
        self._reporter = Reporter(metrics, events, self._clock, registry)
        self._machine: Machine | None = None
        self._stopping = False
        self._waiting: asyncio.Timeout | None = None  # the scope of the wait under way
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called, or with `until_idle` until nothing is due any more.

        Outages are waited out for ever. Raises PermanentError when the backend says that it cannot work. A
        cancelled `run` releases its lock too.
        """
        if self._machine is not None and self._machine.state is not State.STOPPED:
            raise ConfigError(f"the promoter of queue {self.settings.queue!r} is running already")
        machine = self._machine = Machine(
            self.settings,
            fused=self._backend.capabilities.fused,
            want_jobs=self._reporter.wants_jobs,
            want_traces=self._reporter.wants_traces,
            until_idle=until_idle,
        )
        self._reporter.start(keep=until_idle)
        self._loop = asyncio.get_running_loop()
        try:
            await self._drive(machine)
        except asyncio.CancelledError:
            await self._release(machine)
            raise
        finally:
            machine.state = State.STOPPED
            self._stopping, self._loop = False, None
            await self._reporter.close()

    def stop(self) -> None:
        """Finish the tick under way, release the lock and end `run`. Returns at once; any thread may call it."""
        self._stopping = True
        if self._machine is not None:
            self._machine.shutdown()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_wait)

    def _end_wait(self) -> None:
        if self._stopping and self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

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
        return self._reporter.health(self.settings.queue, self._machine.state if self._machine else State.STOPPED)

    def unready(self) -> list[str]:
        """Why this promoter is not ready: its queue has not been seen to be led, by it or another, for two leases."""
        return unready(self.health(), self.settings)

    def exposition(self) -> tuple[bytes, str] | None:
        """The figures as a page with its content type, of the first metrics sink that has one."""
        return self._reporter.exposition()

    @property
    def dropped_batches(self) -> int:
        """Batches that event sinks were too slow to take, in this or the last run."""
        return self._reporter.dropped_batches

    async def _drive(self, machine: Machine) -> None:
        if self._stopping:
            machine.shutdown()
        decision = machine.start(self._clock.monotonic())
        queue = self.settings.queue
        while not isinstance(decision.action, Stop):
            self._reporter.report(queue, decision)
            outcome = await self._do(decision.action)
            self._reporter.outcome(queue, outcome)
            polls = self._backend.capabilities.wake is not Wake.ANY_WRITE
            machine.poll_s = self.settings.poll_interval_ms / 1000 if polls else None
            decision = machine.handle(outcome, self._clock.monotonic())
        self._reporter.report(queue, decision)
        self._reporter.stopped(queue, decision.action.error)
        if decision.action.error is not None:
            raise decision.action.error

    async def _do(self, action: Action) -> Outcome:
        backend, s = self._backend, self.settings

        async def call() -> Outcome:
            match action:
                case Lock():
                    return await backend.lock(s.queue, s.holder_id, s.lock_ttl_ms)
                case Promote(lease, request):
                    return await backend.promote(lease, request)
                case Wait():
                    return Waited(await self._wait(action))
            return await do_alone(backend, action, s)

        return await guarded(call())

    async def _wait(self, wait: Wait) -> bool:
        """Whether something changed. `stop` ends it at once, by letting its scope run out."""
        if self._stopping:
            return False
        try:
            async with asyncio.timeout(None) as self._waiting:
                if not wait.deaf:
                    return await self._backend.wait(self.settings.queue, wait.seconds, wait.lease)
                await self._clock.sleep(wait.seconds)
        except TimeoutError:
            if not self._stopping:
                raise
        finally:
            self._waiting = None
        return False

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
