"""`Promoter` runs one `Machine` against one backend and its sinks. All decisions are the machine's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from promoter_core.actions import (
    Action,
    Failed,
    Lock,
    Outcome,
    Promote,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.clock import SystemClock
from promoter_core.contracts import Backend, Clock, EventSink, MetricsSink, check_backend
from promoter_core.doing import do_alone, guarded, release
from promoter_core.ending import StopRequest, cancelled, ended, until_stopped
from promoter_core.errors import ConfigError
from promoter_core.machine import Machine, State
from promoter_core.model import Health, Wake
from promoter_core.registry import Registry
from promoter_core.reports import Reporter, unready
from promoter_core.settings import PromoterSettings


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
        self._reporter = Reporter(metrics, events, self._clock, registry, settings)
        self._machine: Machine | None = None
        self._stop = StopRequest()
        self._steps = 0  # that have gone well
        self._waiting: asyncio.Timeout | None = None  # the scope of the wait under way

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called, or with `until_idle` until nothing is due any more.

        Outages are waited out for ever. Raises PermanentError when the backend says that it cannot work. A
        cancelled `run` releases its lock too. Either way it ends in about two seconds, whatever the backend does.
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
        self._stop.begin(self._end_wait)
        driving = asyncio.create_task(self._drive(machine), name=f"promoter-drive-{self.settings.queue}")
        try:
            await until_stopped(driving, self._stop, lambda: self._steps)
        finally:
            try:
                await ended(driving)
                await asyncio.gather(self._abandon(machine), self._reporter.close())
            finally:
                machine.state = State.STOPPED
                self._stop.end()
        if not driving.cancelled():
            driving.result()

    def stop(self) -> None:
        """Finish the tick under way, release the lock and end `run`. Returns at once; any thread may call it."""
        self._stop.ask()

    def _end_wait(self) -> None:
        if self._machine is not None:
            self._machine.shutdown()
        if self._waiting is not None and not self._waiting.expired():
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
        decision = machine.start(self._clock.monotonic())
        queue = self.settings.queue
        while not isinstance(decision.action, Stop):
            self._reporter.report(queue, decision)
            if cancelled():
                raise asyncio.CancelledError  # a client has swallowed it
            outcome = await self._do(decision.action)
            if machine.state is State.STOPPED:
                return  # it came too late: this step was given up
            self._steps += not isinstance(outcome, Failed)
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
        if self._stop.asked:
            return False
        try:
            async with asyncio.timeout(None) as self._waiting:
                if not wait.deaf:
                    return await self._backend.wait(self.settings.queue, wait.seconds, wait.lease)
                await self._clock.sleep(wait.seconds)
        except TimeoutError:
            if not self._stop.asked:
                raise
        finally:
            self._waiting = None
        return False

    async def _abandon(self, machine: Machine) -> None:
        """After a cancellation, or a step that does not end: release the lock if it may be ours."""
        if machine.state is State.STOPPED:
            return
        decision = machine.abandon(self._clock.monotonic())
        if isinstance(decision.action, Unlock):
            outcome = await release(self._backend, decision.action, self.settings)
            decision = machine.handle(outcome, self._clock.monotonic())
        self._reporter.report(self.settings.queue, decision)
