"""`Promoter` runs one `Machine` against one backend and its sinks. All decisions are the machine's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from promoter_core.engine.actions import Action, Failed, Lock, Outcome, Promote, Stop, Unlock, Wait, Waited
from promoter_core.engine.machine import Machine, State
from promoter_core.registry import Registry
from promoter_core.runner.base import Runner
from promoter_core.runner.execute import as_outcome, execute, release
from promoter_core.runner.health import Health
from promoter_core.runner.stopping import until_stopped
from promoter_core.settings import PromoterSettings
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import ConfigError
from promoter_core.spi.model import Wake
from promoter_core.spi.names import check_queue_name
from promoter_core.spi.sinks import EventSink, MetricsSink
from promoter_core.spi.tasks import being_cancelled, cancel_and_wait


class Promoter(Runner):
    """Moves due jobs of one queue from its sorted set to its stream, for as long as it leads.

    `metrics` and `events` take sinks, or names of installed ones (`"prometheus"`, `"logging:level=debug"`).
    Any number of promoters may run for one queue; one of them leads.
    """

    def __init__(
        self,
        backend: Backend,
        queue: str,
        settings: PromoterSettings | None = None,
        *,
        holder_id: str | None = None,
        metrics: Sequence[MetricsSink | str] = (),
        events: Sequence[EventSink | str] = (),
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`holder_id` names this promoter on the lock: unique among all promoters of the queue, made up by default.

        Raises ConfigError or PluginError when an argument cannot work.
        """
        self._backend = check_backend(backend)
        self.queue = check_queue_name(queue)
        super().__init__(settings, holder_id, metrics, events, clock, registry)
        self._machine: Machine | None = None
        self._steps = 0  # that have gone well
        self._waiting: asyncio.Timeout | None = None  # the scope of the wait under way

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called, or with `until_idle` until nothing is due any more.

        Transient errors are retried indefinitely. Raises PermanentError when the backend reports one. A cancelled
        `run` releases its lock too. Either way it ends in about two seconds, whatever the backend does.
        """
        if self._machine is not None:
            raise ConfigError(f"the promoter of queue {self.queue!r} is running already")
        machine = self._machine = Machine(
            self.queue,
            self.holder_id,
            self.settings,
            fused=self._backend.capabilities.fused,
            want_jobs=self._reporter.wants_jobs,
            want_traces=self._reporter.wants_traces,
            until_idle=until_idle,
        )
        self._reporter.start(keep=until_idle)
        self._stop.begin(self._end_wait)
        driving = asyncio.create_task(self._drive(machine), name=f"promoter-drive-{self.queue}")
        try:
            await until_stopped(driving, self._stop, lambda: self._steps)
        finally:
            try:
                await cancel_and_wait(driving)
                await asyncio.gather(self._abandon(machine), self._reporter.close())
            finally:
                self._machine = None
                self._stop.end()
                self._reporter.end()
        if driving.done() and not driving.cancelled():
            driving.result()

    def health(self) -> list[Health]:
        """The queue's, alone in a list. Any thread may ask."""
        machine = self._machine
        return [self._reporter.health(self.queue, machine.state if machine is not None else State.STOPPED)]

    def _end_wait(self) -> None:
        if self._machine is not None:
            self._machine.shutdown()
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _drive(self, machine: Machine) -> None:
        decision = machine.start(self._clock.monotonic())
        while not isinstance(decision.action, Stop):
            self._reporter.report(self.queue, decision)
            if being_cancelled():
                raise asyncio.CancelledError  # a client has swallowed it
            outcome = await as_outcome(self._perform(decision.action))
            if machine.abandoned:
                return  # it came too late: this step was given up
            self._steps += not isinstance(outcome, Failed)
            self._reporter.outcome(self.queue, outcome)
            polls = self._backend.capabilities.wake is not Wake.ANY_WRITE
            poll_s = self.settings.poll_interval_ms / 1000 if polls else None
            decision = machine.handle(outcome, self._clock.monotonic(), poll_s)
        self._reporter.report(self.queue, decision)
        self._reporter.stopped(self.queue, decision.action.error)
        if decision.action.error is not None:
            raise decision.action.error

    async def _perform(self, action: Action) -> Outcome:
        match action:
            case Lock():
                return await self._backend.lock(self.queue, self.holder_id, self.settings.lock_ttl_ms)
            case Promote(lease, request):
                return await self._backend.promote(lease, request)
            case Wait():
                return Waited(await self._wait(action))
        return await execute(self._backend, self.queue, action, self.settings)

    async def _wait(self, wait: Wait) -> bool:
        """Whether something changed. `stop` ends it at once, by letting its scope run out."""
        if self._stop.asked:
            return False
        try:
            async with asyncio.timeout(None) as self._waiting:
                if wait.interruptible:
                    return await self._backend.wait(self.queue, wait.change, wait.seconds)
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
            outcome = await release(self._backend, self.queue, decision.action, self.settings)
            decision = machine.handle(outcome, self._clock.monotonic())
        self._reporter.report(self.queue, decision)
