"""`Assignment`: decides which of the known queues are served here, leads those, and hands over the others."""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from promoter_core.runner.fleet.machine_pool import MachinePool
from promoter_core.runner.fleet.membership import Membership
from promoter_core.runner.fleet.round_robin import ServedQueue
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import PermanentError
from promoter_core.spi.optional.fleet import FleetSupport

log = logging.getLogger("promoter.fleet")

SUSPEND_S = 60.0  # before a queue that failed permanently is retried
IDLE_S = 3_600.0  # before an idle queue that was found is dropped until it is found again
SLICE_S = 0.005  # maximum time for settling queues before the event loop continues
ANNOUNCED = 500  # queues announced in one call


class Assignment:
    """Keeps the known queues and settles each: leads it, hands it over, or leaves it to another process."""

    def __init__(
        self,
        pool: MachinePool,
        membership: Membership | None,
        listed: frozenset[str],
        clock: Clock,
        *,
        until_idle: bool,
        forget: Callable[[str], None],
    ) -> None:
        """`listed` queues are never dropped. Without `membership`, every queue belongs to this process.

        `forget` is called for a queue that failed and is no longer served: another process leads it, or it is gone.
        """
        self.settled = False  # every known queue has been settled once
        self.stopping = False  # do not lead any queue again
        self.announcements = Announcements()
        self._pool = pool
        self._membership = membership
        self._listed = listed
        self._clock = clock
        self._until_idle = until_idle
        self._forget = forget
        self._known: set[str] = set()
        self._missed: set[str] = set()  # known queues that the last sweep did not find
        self._order: list[str] = []  # the known queues by name, for passes over all of them
        self._passed: str | None = None  # the last queue of the current pass; None when it is complete
        self._unsettled: OrderedDict[str, None] = OrderedDict()  # queues to settle before the pass continues
        self._suspended: dict[str, tuple[PermanentError, float]] = {}  # failed queues, and when they are retried
        self._failed: set[str] = set()  # failed queues, including those about to be retried: their state is kept

    @property
    def pending(self) -> bool:
        """Whether queues remain to be settled."""
        return bool(self._unsettled) or self._passed is not None

    @property
    def errors(self) -> dict[str, PermanentError]:
        """The errors of queues that failed permanently and are suspended."""
        return {queue: error for queue, (error, _) in self._suspended.copy().items()}

    def knows(self, queue: str) -> bool:
        """Return whether the queue was added and has not been dropped."""
        return queue in self._known

    def add(self, queue: str) -> None:
        """Add the queue to the known ones."""
        if queue not in self._known:
            self._known.add(queue)
            insort(self._order, queue)
        if self._membership is not None:
            self._membership.add_queue(queue)

    def drop(self, queue: str) -> None:
        """Remove the queue from the known ones."""
        if queue in self._known:
            self._known.remove(queue)
            del self._order[bisect_left(self._order, queue)]
        if self._membership is not None:
            self._membership.drop_queue(queue)

    def owns(self, queue: str) -> bool:
        """Return whether this process should lead the queue."""
        return self._membership is None or self._membership.owns(queue)

    def unsettle(self, queues: Iterable[str] | None = None) -> None:
        """Have `settle` check these queues, or all known ones. The call itself is cheap.

        The order is the same in every process, so that a process that takes over is ahead of the one that hands over.
        """
        if queues is not None:
            self._unsettled.update(dict.fromkeys(sorted(queues)))
        elif self._order:
            self._passed = ""

    def settle_first(self, queues: Iterable[str]) -> None:
        """Settle these first: their lock was released, possibly to hand them over to us."""
        for queue in queues if self.pending else ():
            ahead = self._passed is not None and queue > self._passed and queue in self._known
            if ahead or queue in self._unsettled:
                self._unsettled[queue] = None
                self._unsettled.move_to_end(queue, last=False)

    def settle(self) -> None:
        """Lead our queues and hand over the others. Settles some at a time, so that ticks and renewals continue."""
        room, until_s = self._pool.room, time.perf_counter() + SLICE_S
        served = self._pool.queues
        most = len(served) + self._pool.lock_room
        while self.pending and room and len(served) < most and time.perf_counter() < until_s:
            if (queue := self._next()) is not None and self._settle(queue):
                room -= 1
                if not self.stopping:
                    self.announcements.add(queue)  # the new leader may not know the queue
        self.settled = self.settled or not self.pending

    def _next(self) -> str | None:
        """Return the next queue to settle."""
        if self._unsettled:
            return self._unsettled.popitem(last=False)[0]
        i = bisect_right(self._order, self._passed or "")
        queue = self._order[i] if i < len(self._order) else None
        self._passed = queue if i + 1 < len(self._order) else None
        return queue

    def _settle(self, queue: str) -> bool:
        """Lead the queue if it is ours; otherwise hand it over. Return True for a handover."""
        ours = queue in self._known and self.owns(queue) and not self.stopping
        served = self._pool.queues.get(queue)
        if served is None and queue not in self._suspended:
            failed = queue in self._failed
            self._failed.discard(queue)
            if ours:
                self._pool.lead(queue)
            elif failed:
                self._forget(queue)
        elif not ours and served is not None and not served.handed_over:
            self._pool.retire(queue)
            return True
        return False

    def ended(self, queue: str, error: PermanentError | None) -> bool:
        """Handle a queue whose machine has stopped: handed over, idle or failed.

        Return whether it is no longer served.
        """
        if error is not None:
            self._suspended[queue] = (error, self._clock.monotonic() + SUSPEND_S)
            self._failed.add(queue)
            return False
        if not self.stopping and not self._until_idle:
            self._settle(queue)  # it may belong to this process again
        return queue not in self._pool.queues

    def swept(self, found: set[str]) -> None:
        """Drop queues that others led and that are gone: two sweeps have found neither a job nor a leader."""
        missed = self._known - found - self._listed - self._pool.queues.keys()
        for queue in missed & self._missed:
            self.drop(queue)
        self._missed = missed - self._missed

    def drop_idle(self, some: Iterable[ServedQueue]) -> None:
        """Drop those of the found queues that have been idle for IDLE_S, as many as there is room for."""
        since_s, room = self._clock.monotonic() - IDLE_S, self._pool.room
        for served in some:
            waits = served.due_s is not None and self._pool.queues.get(served.queue) is served
            if waits and served.busy_s < since_s and served.queue not in self._listed and not served.handed_over:
                self.drop(served.queue)
                self._pool.retire(served.queue)
                room -= 1
                if not room:
                    return

    def next_retry_s(self) -> float | None:
        """Return when the first suspended queue is retried: all are suspended for the same time."""
        return next(iter(self._suspended.values()))[1] if self._suspended else None

    def retry_suspended(self) -> None:
        """Settle the queues whose suspension is over."""
        now_s = self._clock.monotonic()
        while (retry_s := self.next_retry_s()) is not None and retry_s <= now_s:
            queue = next(iter(self._suspended))
            del self._suspended[queue]
            self.unsettle([queue])

    def stop(self) -> None:
        """Hand over all queues."""
        self.stopping = True
        self._unsettled.clear()
        self.unsettle()


class Announcements:
    """Announces queues that other processes may not know, in the background."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, None] = OrderedDict()
        self._added = asyncio.Event()

    def add(self, queue: str) -> None:
        """Announce the queue soon."""
        self._queues[queue] = None
        self._added.set()

    async def run(self, backend: FleetSupport) -> None:
        """Announce queues until cancelled."""
        while True:
            await self._added.wait()
            try:
                await backend.announce(self._take())
            except Exception as exc:  # other processes find the queues in their sweeps
                log.debug("queues could not be announced: %r", exc)

    def _take(self) -> Sequence[str]:
        taken = [self._queues.popitem(last=False)[0] for _ in range(min(ANNOUNCED, len(self._queues)))]
        if not self._queues:
            self._added.clear()
        return taken
