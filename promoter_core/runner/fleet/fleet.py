"""`PromoterFleet`: many queues in one process, and many processes on the same queues."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import cast

from promoter_core.engine.machine import State
from promoter_core.registry import Registry
from promoter_core.runner.base import Runner
from promoter_core.runner.fleet.assignment import Assignment
from promoter_core.runner.fleet.discovery import Discovery
from promoter_core.runner.fleet.machine_pool import MachinePool
from promoter_core.runner.fleet.membership import Membership, group_of
from promoter_core.runner.fleet.round_robin import take
from promoter_core.runner.health import Health
from promoter_core.runner.stopping import RELEASE_S, until_stopped
from promoter_core.settings import PromoterSettings
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.batches import chunked
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import ConfigError, PermanentError, TransientError
from promoter_core.spi.names import check_queue_name, is_pattern
from promoter_core.spi.optional.fleet import ChangeFeed, Changes, FleetBackend, FleetSupport
from promoter_core.spi.sinks import EventSink, MetricsSink
from promoter_core.spi.tasks import being_cancelled, cancel_and_wait, run_within

log = logging.getLogger("promoter.fleet")

RETRY_S = 0.4  # before a failed subscription is retried
ADDED_AT_ONCE = 256  # queues added before the event loop continues
UPKEEP_S = 1.0  # how long to wait at most while the upkeep runs, whose end ends the wait too
SHORTEST_S = 0.0001  # the shortest useful wait: the resolution of timers


class PromoterFleet(Runner):
    """Moves due jobs of many queues: the named ones, and those that match glob patterns, including new ones.

    Fleets with equal `queues` share them: rendezvous hashing over the live processes decides which one leads a queue.
    With `spread=False`, a fleet tries to lead every queue, and leads those that no other promoter leads.
    """

    def __init__(
        self,
        backend: Backend,
        queues: Sequence[str],
        settings: PromoterSettings | None = None,
        *,
        holder_id: str | None = None,
        metrics: Sequence[MetricsSink | str] = (),
        events: Sequence[EventSink | str] = (),
        spread: bool = True,
        discover_s: float = 10.0,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`queues` contains names, and patterns such as `"mail-*"`. `settings` applies to each queue.

        `discover_s` is the interval between two sweeps for queues, in seconds.

        Raises ConfigError or PluginError: no queue, an invalid name, a backend without `FleetSupport`, or a sink that
        cannot be created.
        """
        if isinstance(queues, str) or not isinstance(queues, Iterable):
            raise ConfigError(f"queues must be a list of names, such as [{queues!r}], not {type(queues).__name__}")
        named = [check_queue_name(queue) for queue in queues]
        patterns = [name for name in named if is_pattern(name)]
        self._listed = frozenset(named).difference(patterns)
        check_backend(backend)
        if not isinstance(backend, FleetSupport):
            raise ConfigError(f"{type(backend).__name__} cannot serve many queues at once: run a Promoter for each")
        if not named:
            raise ConfigError("a fleet needs the name of a queue, or a pattern")
        super().__init__(settings, holder_id, metrics, events, clock, registry)
        self._backend = cast("FleetBackend", backend)
        self._discovery = Discovery(self._backend, patterns, self._found, self._swept, self._clock, discover_s)
        self._group = group_of(self._listed, patterns)
        self._spread = spread
        self._running = False
        self._begin(until_idle=False)

    def _begin(self, *, until_idle: bool) -> None:
        self._until_idle = until_idle
        self._started = False
        self._feed: ChangeFeed | None = None
        self._upkeep: asyncio.Task[None] | None = None  # while membership or leases are being renewed
        self._news: deque[str] = deque()  # changed queues, some of which may be unknown
        s = self.settings
        self._pool = MachinePool(
            self._backend, s, self.holder_id, self._reporter, self._clock, self._ended, until_idle=until_idle
        )
        spread = self._spread and not until_idle
        self._membership = Membership(self._backend, self._group, self.holder_id, s.lock_ttl_ms) if spread else None
        self._assignment = Assignment(
            *(self._pool, self._membership, self._listed, self._clock),
            until_idle=until_idle,
            forget=self._reporter.forget,
        )

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called; with `until_idle`, until nothing is due in any queue.

        Transient errors are retried indefinitely. A queue that fails permanently is suspended and retried after a
        minute; PermanentError is raised when no other queue is left, and at the end of `until_idle`.
        """
        if self._running:
            raise ConfigError("the fleet is already running")
        self._running = True
        self._begin(until_idle=until_idle)
        self._reporter.start(keep=until_idle)
        self._stop.begin()
        stopper = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._serve(stopper), name="promoter-fleet")
        try:
            await until_stopped(serving, self._stop, lambda: self._pool.steps)
        finally:
            stopper.cancel()
            try:
                await asyncio.gather(cancel_and_wait(serving), self._end_upkeep())
                clean = serving.done() and not serving.cancelled() and serving.exception() is None
                await asyncio.gather(*([] if clean else [self._leave(), self._pool.release()]), self._reporter.close())
            finally:
                self._running = False
                self._stop.end()
                self._reporter.end()
        if serving.done() and not serving.cancelled():
            serving.result()

    async def _leave(self) -> None:
        """After a cancellation or an error, leave the group, so that other processes take over our queues."""
        if self._membership is not None:
            with suppress(TimeoutError):
                await run_within(self._membership.leave(), RELEASE_S)

    def health(self) -> list[Health]:
        """Return the health of each queue that this fleet should lead, by name. Thread-safe.

        After a run, return that of each listed queue.
        """
        return list(self._each_health())

    def _each_health(self) -> Iterator[Health]:
        if not self._running:
            for queue in sorted(self._listed):
                yield self._reporter.health(queue, State.STOPPED)
            return
        queues = self._pool.queues
        for queue in sorted(queues.copy()):
            if (served := queues.get(queue)) is not None:
                yield self._reporter.health(queue, served.machine.state)

    def unready(self) -> list[str]:
        """Return the reasons why this fleet is not ready. Thread-safe.

        Reasons: it does not run, is not a member of its group, or one of its queues has no leader.
        """
        if not self._running or not self._assignment.settled:
            return ["the fleet has not started"]
        reasons = [f"queue {queue!r}: {error}" for queue, error in self._assignment.errors.items()]
        unheard_s = 2 * self.settings.lock_ttl_ms / 1000
        if self._membership is not None and self._membership.age_s(self._clock.monotonic()) > unheard_s:
            reasons.append("the processes that share the queues are currently unknown")
        return reasons + super().unready()

    async def _serve(self, stopper: asyncio.Task[None]) -> None:
        helpers: list[asyncio.Task[None]] = []
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait((starting, stopper), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await cancel_and_wait(starting)
                await self._leave()  # it may already be a member
            else:
                feed = starting.result()
                self._started = True
                helpers.append(asyncio.create_task(self._discovery.run(), name="promoter-discovery"))
                announcing = self._assignment.announcements.run(self._backend)
                helpers.append(asyncio.create_task(announcing, name="promoter-announcing"))
                await self._loop(feed, stopper)
        finally:
            for task in (starting, *helpers):
                await cancel_and_wait(task)
            if self._feed is not None:
                self._feed.close()

    async def _start(self) -> ChangeFeed:
        """Find the queues before joining the group: the other members hand over our queues as soon as we join."""
        while self._feed is None:
            try:
                self._feed = await self._backend.subscribe()
            except TransientError as exc:
                log.warning("changes cannot be received yet: %s", exc)
                await self._clock.sleep(RETRY_S)
        for some in chunked(sorted(self._listed), ADDED_AT_ONCE):
            for queue in some:
                self._assignment.add(queue)
            await asyncio.sleep(0)
        await self._discovery.first_sweep()
        if self._membership is not None:
            await self._membership.heartbeat(self._clock.monotonic())
        self._assignment.unsettle()
        return self._feed

    async def _loop(self, feed: ChangeFeed, stopper: asyncio.Task[None]) -> None:
        pool, assignment = self._pool, self._assignment
        while True:
            if being_cancelled():
                raise asyncio.CancelledError  # a client has swallowed the cancellation
            if stopper.done() and not assignment.stopping:
                await self._end_upkeep()
                await self._wind_up()
            failed = assignment.next_retry_s() is not None
            if not pool.queues and not assignment.pending and (assignment.stopping or self._until_idle or failed):
                break
            await self._keep_up()
            assignment.settle()
            pool.expire_waits()
            if pool.busy:
                await pool.step()
            busy = pool.busy or assignment.pending or self._news
            timeout_s = 0.0 if busy else self._timeout_s()
            if timeout_s <= 0:
                began_s = self._clock.monotonic()
                await asyncio.sleep(0)  # a store that answers immediately must not starve other tasks
                self._reporter.waited(0.0, self._clock.monotonic() - began_s)
            began_s = self._clock.monotonic()
            changes = await self._next(feed, timeout_s, stopper)
            self._reporter.waited(timeout_s, self._clock.monotonic() - began_s)
            self._on_changes(changes)
        if not assignment.stopping and (errors := assignment.errors):
            raise next(iter(errors.values()))

    async def _keep_up(self) -> None:
        """Maintain all queues beside the steps: on a slow link, due jobs do not wait for it."""
        if self._upkeep is None and self._next_upkeep_s() <= self._clock.monotonic():
            self._upkeep = asyncio.create_task(self._maintain(), name="promoter-upkeep")
            await asyncio.sleep(0)  # a store that answers immediately is done with it
        if self._upkeep is not None and self._upkeep.done():
            done, self._upkeep = self._upkeep, None
            done.result()
        if not self._assignment.stopping:
            self._assignment.retry_suspended()

    def _next_upkeep_s(self) -> float:
        member = None if self._assignment.stopping else self._membership
        return min(self._pool.next_renewal_s(), math.inf if member is None else member.next_s)

    async def _end_upkeep(self) -> None:
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is not None:
            await cancel_and_wait(upkeep)

    async def _maintain(self) -> None:
        """Renew membership, then leases, and drop queues that are idle."""
        now_s, assignment, member = self._clock.monotonic(), self._assignment, self._membership
        if member is not None and not assignment.stopping and now_s >= member.next_s:
            if await member.heartbeat(now_s):
                assignment.unsettle()
            if member.age_s(now_s) <= 0:
                self._pool.renew_soon()
        if self._pool.renews:
            renewed = await self._pool.renew()
            if not assignment.stopping:
                assignment.drop_idle(renewed)

    def _timeout_s(self) -> float:
        now_s = self._clock.monotonic()
        times = [self._pool.next_step_s(), now_s + UPKEEP_S if self._upkeep is not None else self._next_upkeep_s()]
        if (retry_s := self._assignment.next_retry_s()) is not None:
            times.append(retry_s)
        left_s = min(times) - now_s
        return max(left_s, SHORTEST_S) if left_s > 0 else 0.0

    async def _next(self, feed: ChangeFeed, timeout_s: float, stopper: asyncio.Task[None]) -> Changes:
        """Return the next changes; a stop ends the wait, and so does the end of the upkeep."""
        ends = {stopper} if not self._assignment.stopping else set()
        ends |= {self._upkeep} if self._upkeep is not None else set()
        if timeout_s <= 0 or not ends:
            return await feed.next(timeout_s)
        waiter = asyncio.ensure_future(feed.next(timeout_s))
        try:
            await asyncio.wait({waiter, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not waiter.done():
                await cancel_and_wait(waiter)
        return waiter.result() if waiter.done() and not waiter.cancelled() else Changes()

    def _on_changes(self, changes: Changes) -> None:
        assignment = self._assignment
        if self._membership is not None and (changes.members or changes.everything):
            self._membership.expedite()
        if changes.everything:
            self._discovery.expedite()
        self._pool.on_changes(changes)
        assignment.settle_first(changes.locks)
        if self._until_idle or assignment.stopping:
            self._news.clear()
            return
        self._news.extend(changes.jobs)
        for queue in take(self._news, ADDED_AT_ONCE):
            if not assignment.knows(queue) and self._discovery.takes(queue):
                assignment.add(queue)
                assignment.unsettle([queue])

    def _found(self, queue: str) -> None:
        """Handle a queue that a sweep found. It can be new to the process that owns it."""
        assignment = self._assignment
        if assignment.knows(queue) or assignment.stopping:
            return
        assignment.add(queue)
        if self._started:
            assignment.unsettle([queue])
            if not assignment.owns(queue):
                assignment.announcements.add(queue)

    def _swept(self, found: set[str]) -> None:
        self._assignment.swept(found)

    def _ended(self, queue: str, error: PermanentError | None) -> None:
        """Handle a queue whose machine has stopped."""
        if self._assignment.ended(queue, error):
            self._reporter.forget(queue)

    async def _wind_up(self) -> None:
        """Release all locks. Other processes take over as soon as each is released."""
        self._assignment.stopping = self._pool.ends = True
        if self._membership is not None:
            await self._membership.leave()
        self._assignment.stop()
