"""`PromoterFleet`: many queues in one process, and many processes on the same queues."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, Self

from promoter_core.clock import SystemClock
from promoter_core.contracts import ChangeFeed, Clock, EventSink, ManyQueues, MetricsSink, check_backend
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
SLICE_S = 0.005  # of looking at which queues are ours, before others have a turn
ANNOUNCED = 500  # queues announced at once


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
        """`settings` holds for every queue, but for its `queue`; `discover_s` is the time from sweep to sweep.

        Raises ConfigError or PluginError: no queue, a bad name, a backend that cannot serve many, or a sink that cannot
        be had.
        """
        for what, names in (("queues", queues), ("patterns", patterns)):
            if isinstance(names, str) or not isinstance(names, Iterable):
                raise ConfigError(f"{what} must be a list of names, such as [{names!r}], not {type(names).__name__}")
        queues, patterns = list(queues), list(patterns)
        check_backend(backend)
        if not isinstance(backend, ManyQueues):
            raise ConfigError(f"{type(backend).__name__} cannot serve many queues at once: run a Promoter for each")
        if not queues and not patterns:
            raise ConfigError("a fleet needs the name of a queue, or a pattern")
        self.settings = settings or PromoterSettings(queue="fleet")
        self._backend: Any = backend
        self._clock = clock or SystemClock()
        self._reporter = Reporter(metrics, events, self._clock, registry, self.settings)
        self._listed = frozenset(map(check_queue_name, queues))
        self._discovery = Discovery(backend, patterns, self._found, self._swept, self._clock, discover_s)
        self._group = group_of(queues, patterns)
        self._spread = spread
        self._stop = StopRequest()
        self._running = False
        self._begin(until_idle=False)

    def _begin(self, *, until_idle: bool) -> None:
        self._until_idle = until_idle
        self._started = self._settled = self._stopping = False
        self._known: set[str] = set()
        self._missed: set[str] = set()  # known queues that the last sweep did not find
        self._unsettled: OrderedDict[str, None] = OrderedDict()  # queues that may have become ours, or another's
        self._unannounced: OrderedDict[str, None] = OrderedDict()  # queues of others, who may not know them
        self._announcing = asyncio.Event()
        self._feed: ChangeFeed | None = None
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
        self._reporter.start(keep=until_idle)
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
        """Of each queue that is this fleet's to lead. Any thread may ask."""
        return [self._reporter.health(q, line.machine.state) for q, line in sorted(self._crew.lines.copy().items())]

    def unready(self) -> list[str]:
        """Why this fleet is not ready: it does not run, is no member of its group, or a queue of its is not led.

        Any thread may ask.
        """
        if not self._running or not self._settled:
            return ["the fleet has not started"]
        s, reasons = self.settings, [f"queue {queue!r}: {error}" for queue, (error, _) in self._aside.copy().items()]
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
        helpers: list[asyncio.Task[None]] = []
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait((starting, stopper), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                await self._leave()  # it may be a member already
            else:
                feed = starting.result()
                self._started = True
                helpers.append(asyncio.create_task(self._discovery.run(), name="promoter-discovery"))
                helpers.append(asyncio.create_task(self._announce(), name="promoter-announcing"))
                await self._loop(feed, stopper)
        finally:
            for task in (starting, *helpers):
                await ended(task)
            if self._feed is not None:
                self._feed.close()

    async def _start(self) -> ChangeFeed:
        """Know the queues before being a member: the others hand over what is ours as soon as we are one."""
        while self._feed is None:
            try:
                self._feed = await self._backend.feed()
            except TransientError as exc:
                log.warning("changes cannot be heard of yet: %s", exc)
                await self._clock.sleep(AGAIN_S)
        for queue in self._listed:
            self._add(queue)
        await self._discovery.first_sweep()
        if self._membership is not None:
            await self._membership.beat(self._clock.monotonic())
        self._unsettle(self._known)
        return self._feed

    async def _loop(self, feed: ChangeFeed, stopper: asyncio.Task[None]) -> None:
        crew = self._crew
        while True:
            if cancelled():
                raise asyncio.CancelledError  # a client has swallowed it
            if stopper.done() and not self._stopping:
                await self._wind_up()
            if not crew.lines and not self._unsettled and (self._stopping or self._until_idle or self._aside):
                break
            await self._keep_up()
            self._settle()
            crew.pass_time()
            if crew.busy:
                await crew.round()
                await asyncio.sleep(0)  # a store that answers at once must not starve the others
            busy = crew.busy or self._unsettled
            self._heard(await self._next(feed, 0.0 if busy else self._timeout_s(), stopper))
        if self._aside and not self._stopping:
            raise next(iter(self._aside.values()))[0]

    async def _keep_up(self) -> None:
        """What is due for all queues: membership, then leases, then queues that were set aside or have gone quiet."""
        now_s = self._clock.monotonic()
        member = self._membership
        if member is not None and not self._stopping and now_s >= member.next_s and await member.beat(now_s):
            self._unsettle(self._known)
        if self._crew.renews:
            await self._crew.renew()
            if not self._stopping:
                for queue in list(islice(self._quiet(now_s - FORGET_S), self._crew.room)):
                    self._forget(queue)
        while self._aside and not self._stopping and self._next_aside_s() <= now_s:
            queue = next(iter(self._aside))
            del self._aside[queue]
            self._unsettle([queue])

    def _quiet(self, since_s: float) -> Iterable[str]:
        return (q for q, x in self._crew.lines.items() if x.busy_s < since_s and q not in self._listed)

    def _next_aside_s(self) -> float:
        """When the first of the queues that were set aside is tried again: each is aside for the same time."""
        return next(iter(self._aside.values()))[1]

    def _unsettle(self, queues: Iterable[str]) -> None:
        """Have `_settle` look at these. In one order everywhere, so that who takes over is ahead of who hands over."""
        self._unsettled.update(dict.fromkeys(sorted(queues)))

    def _settle(self) -> None:
        """Lead what has become ours and hand over what has not: a slice of the queues, for ticks and renewals go on."""
        room, until_s = self._crew.room, time.perf_counter() + SLICE_S
        lines, lock_room = self._crew.lines, self._crew.lock_room
        most = len(lines) + lock_room
        while self._unsettled and room and len(lines) < most and time.perf_counter() < until_s:
            queue, _ = self._unsettled.popitem(last=False)
            if self._assign(queue):
                room -= 1
                if not self._stopping:
                    self._to_announce(queue)  # its new leader may not know it
        self._settled = self._settled or not self._unsettled

    def _timeout_s(self) -> float:
        times = [self._crew.next_s()]
        if self._aside:
            times.append(self._next_aside_s())
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
        if changes.everything:
            self._discovery.hurry()
        self._crew.heard(changes)
        if self._unsettled:
            for queue in changes.locks & self._unsettled.keys():  # it has been handed over to us, perhaps
                self._unsettled.move_to_end(queue, last=False)
        if self._until_idle or self._stopping:
            return
        for queue in changes.sets - self._known:
            if self._discovery.takes(queue):
                self._add(queue)
                self._unsettle([queue])

    def _found(self, queue: str) -> None:
        """By a sweep. A queue that is another's may be new to it."""
        if queue in self._known or self._stopping:
            return
        self._add(queue)
        if self._started:
            self._unsettle([queue])
            if self._membership is not None and not self._membership.mine(queue):
                self._to_announce(queue)

    def _swept(self, found: set[str]) -> None:
        """Drop queues that others led and that are gone: two sweeps have found neither a job nor a leader."""
        missed = self._known - found - self._listed - self._crew.lines.keys()
        for queue in missed & self._missed:
            self._drop(queue)
        self._missed = missed - self._missed

    def _to_announce(self, queue: str) -> None:
        self._unannounced[queue] = None
        self._announcing.set()

    async def _announce(self) -> None:
        """In the background: nothing waits for it."""
        while True:
            await self._announcing.wait()
            some = [self._unannounced.popitem(last=False)[0] for _ in range(min(ANNOUNCED, len(self._unannounced)))]
            if not self._unannounced:
                self._announcing.clear()
            try:
                await self._backend.announce(some)
            except Exception as exc:  # the sweeps of the others find them
                log.debug("queues could not be announced: %r", exc)

    def _add(self, queue: str) -> None:
        self._known.add(queue)
        if self._membership is not None:
            self._membership.add_queue(queue)

    def _drop(self, queue: str) -> None:
        self._known.discard(queue)
        if self._membership is not None:
            self._membership.drop_queue(queue)

    def _forget(self, queue: str) -> None:
        self._drop(queue)
        self._crew.retire(queue)

    def _assign(self, queue: str) -> bool:
        """Lead the queue if it is ours, and hand it over if it is not: then the answer is True."""
        ours = queue in self._known and (self._membership is None or self._membership.mine(queue))
        ours = ours and not self._stopping
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
        self._unsettled.clear()
        self._unsettle(self._crew.lines)
