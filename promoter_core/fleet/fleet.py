"""`PromoterFleet`: many queues in one process, and many processes on the same queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from promoter_core.clock import SystemClock
from promoter_core.contracts import ChangeFeed, Clock, EventSink, ManyQueues, MetricsSink
from promoter_core.ending import RELEASE_S, StopRequest, bounded, cancelled, ended, until_stopped
from promoter_core.errors import ConfigError, PermanentError, TransientError
from promoter_core.fleet.crew import Crew
from promoter_core.fleet.discovery import Discovery
from promoter_core.fleet.membership import Membership, group_of
from promoter_core.model import Changes, Health
from promoter_core.registry import Registry
from promoter_core.reports import Reporter, unready
from promoter_core.settings import PromoterSettings, check_queue_name

log = logging.getLogger("promoter.fleet")

ASIDE_S = 60.0  # before a queue that failed for good is tried again
FORGET_S = 3_600.0  # before a queue that was found, and has nothing to do, is dropped until it is found again
AGAIN_S = 0.4
SHORTEST_S = 0.0001  # of a wait: a timer cannot do less


class PromoterFleet:
    """Moves due jobs of many queues: those named, and those that match glob patterns, found as they come.

    Equal fleets share the queues: each leads those that rendezvous hashing over the live processes gives to it. With
    `spread=False` a fleet tries to lead every queue, and leads those that nobody else does.
    """

    def __init__(
        self,
        backend: Any,
        queues: Sequence[str] = (),
        *,
        patterns: Sequence[str] = (),
        settings: PromoterSettings | None = None,
        metrics: Sequence[MetricsSink | str] = (),
        events: Sequence[EventSink | str] = (),
        spread: bool = True,
        discover_s: float = 10.0,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`settings` holds for every queue, but for its `queue`; `discover_s` is the pause between sweeps for queues.

        Raises ConfigError or PluginError: no queue, a bad name, a backend that cannot serve many, or a sink that cannot
        be had.
        """
        if not isinstance(backend, ManyQueues):
            raise ConfigError(f"{type(backend).__name__} cannot serve many queues at once: run a Promoter for each")
        if not queues and not patterns:
            raise ConfigError("a fleet needs the name of a queue, or a pattern")
        self.settings = settings or PromoterSettings(queue="fleet")
        self._backend: Any = backend
        self._clock = clock or SystemClock()
        self._reporter = Reporter(metrics, events, self._clock, registry, self.settings)
        self._listed = frozenset(map(check_queue_name, queues))
        self._discovery = Discovery(backend, patterns, self._found, self._clock, discover_s)
        self._group = group_of(queues, patterns)
        self._spread = spread
        self._stop = StopRequest()
        self._running = False
        self._begin(until_idle=False)

    def _begin(self, *, until_idle: bool) -> None:
        self._until_idle = until_idle
        self._started = self._stopping = False
        self._known: set[str] = set()
        self._aside: dict[str, tuple[PermanentError, float]] = {}  # failed queues, and when they are tried again
        s = self.settings
        self._crew = Crew(self._backend, s, self._reporter, self._clock, self._ended, until_idle=until_idle)
        spread = self._spread and not until_idle
        self._membership = Membership(self._backend, self._group, s.holder_id, s.lock_ttl_ms) if spread else None

    async def run(self, *, until_idle: bool = False) -> None:
        """Promote until `stop` is called, or with `until_idle` until nothing is due in any queue.

        Outages are waited out for ever. A queue that fails for good is set aside and tried again after a minute;
        PermanentError is raised when none is left, and at the end of `until_idle`.
        """
        if self._running:
            raise ConfigError("the fleet is running already")
        self._running = True
        self._begin(until_idle=until_idle)
        self._reporter.start()
        self._stop.begin()
        stopper = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._serve(stopper), name="promoter-fleet")
        try:
            await until_stopped(serving, self._stop, lambda: self._crew.steps)
        finally:
            stopper.cancel()
            try:
                await ended(serving)
                clean = serving.done() and not serving.cancelled() and serving.exception() is None
                await asyncio.gather(*([] if clean else [self._leave(), self._crew.release()]), self._reporter.close())
            finally:
                self._running = False
                self._stop.end()
        if not serving.cancelled():
            serving.result()

    async def _leave(self) -> None:
        """After a cancellation or an error: another process may go on with what is ours."""
        if self._membership is not None:
            with suppress(TimeoutError):
                await bounded(self._membership.leave(), RELEASE_S)

    def stop(self) -> None:
        """Finish the round trip under way, release the locks and end `run`. Returns at once; any thread may call it."""
        self._stop.ask()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run in the background for the length of an `async with`, as `Promoter.running`."""
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            if not task.done():
                self.stop()
            await task

    def health(self) -> list[Health]:
        """Of each queue that is this fleet's to lead."""
        return [self._reporter.health(q, line.machine.state) for q, line in sorted(self._crew.lines.items())]

    def unready(self) -> list[str]:
        """Why this fleet is not ready: it does not run, is no member of its group, or a queue of its is not led."""
        if not self._running or not self._started:
            return ["the fleet has not started"]
        s, reasons = self.settings, [f"queue {queue!r}: {error}" for queue, (error, _) in self._aside.items()]
        if self._membership is not None and self._membership.age_s(self._clock.monotonic()) > 2 * s.lock_ttl_ms / 1000:
            reasons.append("the processes that share the queues cannot be heard of")
        return reasons + [reason for health in self.health() for reason in unready(health, s)]

    def exposition(self) -> tuple[bytes, str] | None:
        """The figures as a page with its content type, of the first metrics sink that has one."""
        return self._reporter.exposition()

    @property
    def dropped_batches(self) -> int:
        """Batches that event sinks were too slow to take, in this or the last run."""
        return self._reporter.dropped_batches

    async def _serve(self, stopper: asyncio.Task[None]) -> None:
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait((starting, stopper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not starting.done():
                await ended(starting)
        if starting.cancelled():
            await self._leave()
            return
        feed = starting.result()
        self._started = True
        discovering = asyncio.create_task(self._discovery.run(), name="promoter-discovery")
        try:
            await self._loop(feed, stopper)
        finally:
            feed.close()
            await ended(discovering)

    async def _start(self) -> ChangeFeed:
        """Know the queues before being a member: the others hand over what is ours as soon as we are one."""
        while True:
            try:
                feed: ChangeFeed = await self._backend.feed()
                break
            except TransientError as exc:
                log.warning("changes cannot be heard of yet: %s", exc)
                await self._clock.sleep(AGAIN_S)
        for queue in self._listed:
            self._add(queue)
        await self._discovery.first_sweep()
        if self._membership is not None:
            await self._membership.beat(self._clock.monotonic())
        for queue in self._known:
            self._assign(queue)
        return feed

    async def _loop(self, feed: ChangeFeed, stopper: asyncio.Task[None]) -> None:
        crew = self._crew
        while True:
            if cancelled():
                raise asyncio.CancelledError  # a client has swallowed it
            if stopper.done() and not self._stopping:
                await self._wind_up()
            if not crew.lines and (self._stopping or self._until_idle or self._aside):
                break
            if not self._stopping:
                await self._keep_up()
            crew.pass_time()
            if crew.busy:
                await crew.round()
                await asyncio.sleep(0)  # a store that answers at once must not starve the others
            self._heard(await self._next(feed, 0.0 if crew.busy else self._timeout_s(), stopper))
        if self._aside and not self._stopping:
            raise next(iter(self._aside.values()))[0]

    async def _keep_up(self) -> None:
        """What is due for all queues: membership, then leases, then queues that were set aside or have gone quiet."""
        now_s = self._clock.monotonic()
        if self._membership is not None and now_s >= self._membership.next_s:
            for queue in await self._membership.beat(now_s):
                if self._assign(queue):
                    await self._backend.announce(queue)  # its new leader may not know it
        for queue in [q for q, (_, retry_s) in self._aside.items() if retry_s <= now_s]:
            del self._aside[queue]
            self._assign(queue)
        if now_s >= self._crew.renew_s:
            await self._crew.renew()
            quiet_s = now_s - FORGET_S
            for queue in [q for q, x in self._crew.lines.items() if x.busy_s < quiet_s and q not in self._listed]:
                self._forget(queue)

    def _timeout_s(self) -> float:
        times = [self._crew.next_s(), *(retry_s for _, retry_s in self._aside.values())]
        if self._membership is not None:
            times.append(self._membership.next_s)
        left_s = min(times) - self._clock.monotonic()
        return max(left_s, SHORTEST_S) if left_s > 0 else 0.0

    async def _next(self, feed: ChangeFeed, timeout_s: float, stopper: asyncio.Task[None]) -> Changes:
        """What has changed; a stop ends the wait."""
        if timeout_s <= 0 or self._stopping:
            return await feed.next(timeout_s)
        waiter = asyncio.ensure_future(feed.next(timeout_s))
        try:
            await asyncio.wait((waiter, stopper), return_when=asyncio.FIRST_COMPLETED)
            return waiter.result() if waiter.done() else Changes()
        finally:
            if not waiter.done():
                await ended(waiter)

    def _heard(self, changes: Changes) -> None:
        if self._membership is not None and (changes.members or changes.everything):
            self._membership.hurry()
        self._crew.heard(changes)
        for queue in changes.sets - self._known:
            if self._discovery.matches(queue) and not self._until_idle and not self._stopping:
                self._add(queue)
                self._assign(queue)

    async def _found(self, queue: str) -> None:
        """By a sweep. A queue that is another's may be new to it."""
        if queue in self._known or self._stopping:
            return
        self._add(queue)
        if self._membership is not None and self._membership.joined:
            self._assign(queue)
            if not self._membership.mine(queue):
                await self._backend.announce(queue)

    def _add(self, queue: str) -> None:
        self._known.add(queue)
        if self._membership is not None:
            self._membership.add_queue(queue)

    def _forget(self, queue: str) -> None:
        self._known.discard(queue)
        if self._membership is not None:
            self._membership.drop_queue(queue)
        self._crew.retire(queue)

    def _assign(self, queue: str) -> bool:
        """Lead the queue if it is ours, and hand it over if it is not: then the answer is True."""
        ours = queue in self._known and (self._membership is None or self._membership.mine(queue))
        line = self._crew.lines.get(queue)
        if ours and line is None and queue not in self._aside:
            self._crew.lead(queue)
        elif not ours and line is not None and not line.handed_over:
            self._crew.retire(queue)
            return True
        return False

    def _ended(self, queue: str, error: PermanentError | None) -> None:
        """The queue's machine has stopped: it was handed over, is idle or failed."""
        if error is not None:
            self._aside[queue] = (error, self._clock.monotonic() + ASIDE_S)
        elif not self._stopping and not self._until_idle:
            self._assign(queue)  # it may be ours again by now
        if queue not in self._crew.lines and error is None:
            self._reporter.forget(queue)

    async def _wind_up(self) -> None:
        """The others take over as soon as each lock is released."""
        self._stopping = self._crew.ends = True
        if self._membership is not None:
            await self._membership.leave()
        for queue in list(self._crew.lines):
            self._crew.retire(queue)
