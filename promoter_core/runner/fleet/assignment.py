"""`Assignment`: which of the known queues are served here. Leads what is ours, and hands over what is another's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice

from promoter_core.runner.fleet.machine_pool import MachinePool
from promoter_core.runner.fleet.membership import Membership
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import PermanentError
from promoter_core.spi.optional.fleet import FleetSupport

log = logging.getLogger("promoter.fleet")

SUSPEND_S = 60.0  # before a queue that failed permanently is tried again
IDLE_S = 3_600.0  # before a found queue that has nothing to do is dropped until it is found again
SLICE_S = 0.005  # of looking at which queues are ours, before others have a turn
ANNOUNCED = 500  # queues announced at once


class Assignment:
    """Keeps the known queues, and settles each: leads it, hands it over, or leaves it to another process."""

    def __init__(
        self,
        pool: MachinePool,
        membership: Membership | None,
        listed: frozenset[str],
        clock: Clock,
        *,
        until_idle: bool,
    ) -> None:
        """`listed` queues are never dropped. Without `membership` every queue is ours."""
        self.settled = False  # every known queue has been looked at once
        self.stopping = False  # nothing is led any more
        self.announcements = Announcements()
        self._pool = pool
        self._membership = membership
        self._listed = listed
        self._clock = clock
        self._until_idle = until_idle
        self._known: set[str] = set()
        self._missed: set[str] = set()  # known queues that the last sweep did not find
        self._unsettled: OrderedDict[str, None] = OrderedDict()  # queues that may have become ours, or another's
        self._suspended: dict[str, tuple[PermanentError, float]] = {}  # failed queues, and when they are tried again

    @property
    def pending(self) -> bool:
        """Queues are still to be settled."""
        return bool(self._unsettled)

    @property
    def errors(self) -> dict[str, PermanentError]:
        """Of the queues that failed permanently and are suspended."""
        return {queue: error for queue, (error, _) in self._suspended.copy().items()}

    def knows(self, queue: str) -> bool:
        """Whether the queue has been added, and not dropped since."""
        return queue in self._known

    def add(self, queue: str) -> None:
        """Know the queue from now on."""
        self._known.add(queue)
        if self._membership is not None:
            self._membership.add_queue(queue)

    def drop(self, queue: str) -> None:
        """Know the queue no longer."""
        self._known.discard(queue)
        if self._membership is not None:
            self._membership.drop_queue(queue)

    def owns(self, queue: str) -> bool:
        """Whether the queue is this process's to lead."""
        return self._membership is None or self._membership.owns(queue)

    def unsettle(self, queues: Iterable[str] | None = None) -> None:
        """Have `settle` look at these, or at all known ones.

        In one order in every process, so that who takes over is ahead of who hands over.
        """
        self._unsettled.update(dict.fromkeys(sorted(self._known if queues is None else queues)))

    def settle_first(self, queues: Iterable[str]) -> None:
        """Their lock has been released, perhaps by who hands them over to us."""
        for queue in self._unsettled.keys() & queues if self._unsettled else ():
            self._unsettled.move_to_end(queue, last=False)

    def settle(self) -> None:
        """Lead what has become ours and hand over what has not: a slice of the queues, for ticks and renewals go on."""
        room, until_s = self._pool.room, time.perf_counter() + SLICE_S
        served = self._pool.queues
        most = len(served) + self._pool.lock_room
        while self._unsettled and room and len(served) < most and time.perf_counter() < until_s:
            queue, _ = self._unsettled.popitem(last=False)
            if self._settle(queue):
                room -= 1
                if not self.stopping:
                    self.announcements.add(queue)  # its new leader may not know it
        self.settled = self.settled or not self._unsettled

    def _settle(self, queue: str) -> bool:
        """Lead the queue if it is ours, and hand it over if it is not: then the answer is True."""
        ours = queue in self._known and self.owns(queue) and not self.stopping
        served = self._pool.queues.get(queue)
        if ours and served is None and queue not in self._suspended:
            self._pool.lead(queue)
        elif not ours and served is not None and not served.handed_over:
            self._pool.retire(queue)
            return True
        return False

    def ended(self, queue: str, error: PermanentError | None) -> bool:
        """The queue's machine has stopped: it was handed over, is idle or failed. Whether it is served no longer."""
        if error is not None:
            self._suspended[queue] = (error, self._clock.monotonic() + SUSPEND_S)
            return False
        if not self.stopping and not self._until_idle:
            self._settle(queue)  # it may be ours again by now
        return queue not in self._pool.queues

    def swept(self, found: set[str]) -> None:
        """Drop queues that others led and that are gone: two sweeps have found neither a job nor a leader."""
        missed = self._known - found - self._listed - self._pool.queues.keys()
        for queue in missed & self._missed:
            self.drop(queue)
        self._missed = missed - self._missed

    def drop_idle(self) -> None:
        """Drop some of the found queues that have had nothing to do for IDLE_S."""
        since_s = self._clock.monotonic() - IDLE_S
        idle = (q for q, x in self._pool.queues.items() if x.busy_s < since_s and q not in self._listed)
        for queue in list(islice(idle, self._pool.room)):
            self.drop(queue)
            self._pool.retire(queue)

    def next_retry_s(self) -> float | None:
        """When the first suspended queue is tried again: each is suspended for the same time."""
        return next(iter(self._suspended.values()))[1] if self._suspended else None

    def retry_suspended(self) -> None:
        """Settle the queues again whose suspension is over."""
        now_s = self._clock.monotonic()
        while (retry_s := self.next_retry_s()) is not None and retry_s <= now_s:
            queue = next(iter(self._suspended))
            del self._suspended[queue]
            self.unsettle([queue])

    def stop(self) -> None:
        """Hand everything over, in the order of the pool."""
        self.stopping = True
        self._unsettled.clear()
        self.unsettle(self._pool.queues)


class Announcements:
    """Queues of which other processes may not know, announced in the background: nothing waits for it."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, None] = OrderedDict()
        self._added = asyncio.Event()

    def add(self, queue: str) -> None:
        """Announce the queue soon."""
        self._queues[queue] = None
        self._added.set()

    async def run(self, backend: FleetSupport) -> None:
        """Until cancelled."""
        while True:
            await self._added.wait()
            try:
                await backend.announce(self._take())
            except Exception as exc:  # the sweeps of the others find them
                log.debug("queues could not be announced: %r", exc)

    def _take(self) -> Sequence[str]:
        taken = [self._queues.popitem(last=False)[0] for _ in range(min(ANNOUNCED, len(self._queues)))]
        if not self._queues:
            self._added.clear()
        return taken
