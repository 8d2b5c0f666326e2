"""`Discovery`: finds the queues that match patterns, at a pace that does not burden the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from promoter_core.runner.fleet.rendezvous import fingerprint
from promoter_core.spi.change_flags import Flag, wait_for
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import BackendError, ConfigError, PermanentError, TransientError
from promoter_core.spi.names import check_queue_name
from promoter_core.spi.optional.fleet import FleetSupport

log = logging.getLogger("promoter.fleet")

REST = 1.0  # pause after each step of a sweep, in multiples of the step: half of the time is left for other work
PAUSE_S = 1.0  # minimum pause between sweeps
RETRY_S = 0.4  # before a failed step is retried
PARTIAL = 3  # after this many incomplete sweeps, start with the queues found so far
WARNED = 1_000  # invalid names reported in the log; further ones are skipped silently
SHOWN = 300  # characters of a name in a warning


class Discovery:
    """Sweeps through all queues of the backend every `every_s` seconds, and receives new ones in between."""

    def __init__(
        self,
        backend: FleetSupport,
        patterns: Sequence[str],
        found: Callable[[str], None],
        swept: Callable[[set[str]], None],
        clock: Clock,
        every_s: float,
    ) -> None:
        """`found` is called repeatedly for every matching queue.

        `swept` is called with all of them after a sweep that has read the whole store.
        """
        self._backend = backend
        self._patterns = [check_queue_name(p) for p in patterns]
        self._found = found
        self._swept = swept
        self._clock = clock
        self._every_s = every_s
        self._pages = 0  # of the previous sweep
        self._before: set[str] = set()  # queues found by the last complete sweep
        self._expedited = Flag()
        self._warned: set[int] = set()  # fingerprints of reported names
        self._refused = False

    def expedite(self) -> None:
        """Sweep soon, because announcements may have been missed."""
        self._expedited.set()

    def takes(self, queue: str) -> bool:
        """Return whether the queue matches and can be served.

        A matching name that cannot be served is reported once.
        """
        if not any(fnmatchcase(queue, pattern) for pattern in self._patterns):
            return False
        try:
            check_queue_name(queue)
        except ConfigError as exc:
            if len(self._warned) < WARNED and (known := fingerprint(queue)) not in self._warned:
                self._warned.add(known)
                name = queue if len(queue) <= 60 else f"{queue[:60]}…"
                log.warning("%s", f"queue {name!r} matches a pattern and is not served: {exc}"[:SHOWN])
            return False
        return True

    async def first_sweep(self) -> None:
        """Sweep at full speed, repeatedly until it succeeds. Raises PermanentError.

        If a part of the store is unavailable, such as one node of a cluster, the queues of the rest are enough after
        PARTIAL attempts; later sweeps find the others.
        """
        partial = 0
        while True:
            self._pages = 0
            try:
                await self._sweep(0.0)
                return
            except TransientError as exc:
                log.warning("cannot look for queues: %s", exc)
            partial += self._pages > 0
            if partial == PARTIAL:
                return
            await self._clock.sleep(RETRY_S)

    async def run(self) -> None:
        """Sweep until cancelled."""
        took_s = 0.0
        while self._patterns:
            await self._clock.sleep(min(PAUSE_S, self._every_s))
            await wait_for(self._expedited, self._clock, max(self._every_s - PAUSE_S - took_s, 0))
            self._expedited.clear()
            began_s = self._clock.monotonic()
            try:
                await self._sweep(REST)
            except BackendError as exc:
                self._failed(exc)
            took_s = self._clock.monotonic() - began_s

    def _failed(self, error: BackendError) -> None:
        if isinstance(error, PermanentError) and not self._refused:
            self._refused = True
            log.warning("the server refuses the sweep for queues: %s", error)
        else:
            log.debug("the sweep for queues ended early: %s", error)

    async def _sweep(self, rest: float) -> None:
        """Make one pass over the store, for all patterns. After each step, rest `rest` times as long as it took."""
        if not self._patterns:
            return
        found: set[str] = set()
        began_s = self._clock.monotonic()
        async for page in self._backend.find_queues(self._patterns):
            self._pages += 1
            for queue in page:
                if queue not in found and (queue in self._before or self.takes(queue)):
                    found.add(queue)
                    self._found(queue)
            await self._clock.sleep((self._clock.monotonic() - began_s) * rest)
            began_s = self._clock.monotonic()
        self._before = found
        self._swept(found)
