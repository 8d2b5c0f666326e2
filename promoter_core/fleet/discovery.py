"""`Discovery`: finds the queues that match patterns, at a pace that a store does not feel."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase

from promoter_core.contracts import Clock, ManyQueues
from promoter_core.errors import BackendError, ConfigError, TransientError
from promoter_core.settings import check_queue_name

log = logging.getLogger("promoter.fleet")

PACE_S = 0.05  # between the steps of a sweep
AGAIN_S = 0.4  # after a step that failed
PARTIAL = 3  # sweeps that found only a part, before work begins with that
WILD = "*?["


def is_pattern(name: str) -> bool:
    return any(c in name for c in WILD)


class Discovery:
    """Sweeps through all queues of the backend, again every `every_s` seconds, and hears of new ones in between."""

    def __init__(
        self,
        backend: ManyQueues,
        patterns: Sequence[str],
        found: Callable[[str], Awaitable[None]],
        clock: Clock,
        every_s: float,
    ) -> None:
        """`found` is called for every queue that matches, again and again."""
        self._backend = backend
        self._patterns = [check_queue_name(p) for p in patterns]
        self._found = found
        self._clock = clock
        self._every_s = every_s
        self._pages = 0  # of the last sweep

    def matches(self, queue: str) -> bool:
        return any(fnmatchcase(queue, pattern) for pattern in self._patterns)

    async def first_sweep(self) -> None:
        """At full speed, and until it has succeeded. Raises PermanentError.

        When a part of the store is away, such as one node of a cluster, what the rest has is enough after PARTIAL
        times: the later sweeps find the others.
        """
        partial = 0
        while True:
            self._pages = 0
            try:
                await self._sweep(0.0)
                return
            except TransientError as exc:
                log.warning("queues cannot be looked for: %s", exc)
            partial += self._pages > 0
            if partial == PARTIAL:
                return
            await self._clock.sleep(AGAIN_S)

    async def run(self) -> None:
        """For ever."""
        while self._patterns:
            await self._clock.sleep(self._every_s)
            try:
                await self._sweep(PACE_S)
            except BackendError as exc:
                log.debug("the sweep for queues ends early: %s", exc)

    async def _sweep(self, pace_s: float) -> None:
        for pattern in self._patterns:
            async for page in self._backend.find(pattern):
                self._pages += 1
                for queue in page:
                    if fnmatchcase(queue, pattern):
                        await self._take(queue)
                await self._clock.sleep(pace_s)

    async def _take(self, queue: str) -> None:
        try:
            check_queue_name(queue)
        except ConfigError as exc:
            log.debug("a queue is passed over: %s", exc)
            return
        await self._found(queue)
