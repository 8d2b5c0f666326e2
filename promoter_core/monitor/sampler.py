"""`Sampler`: reads many queues again and again, at a pace that does not burden the store."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Self

from promoter_core.monitor.looking import (
    AT_ONCE,
    TIMEOUT_S,
    can_be_read,
    check_above,
    check_patterns,
    matched,
)
from promoter_core.monitor.reading import read_queue
from promoter_core.monitor.values import QueueSnapshot, SamplerState
from promoter_core.spi import (
    Backend,
    BackendError,
    Clock,
    DiscoverySupport,
    SystemClock,
    TransientError,
    cancel_and_wait,
    chunked,
    is_pattern,
)
from promoter_core.spi.backend import check_backend

log = logging.getLogger("promoter.monitor")

EVERY_S = 5.0  # time between two passes over the queues
QUEUES_PER_S = 80  # maximum rate: about 0.6 % of the time of a Redis-protocol server
FORGET_S = 300.0  # a found queue is dropped this long after it last had a job or a leader
STEP_PAUSE_S = 0.06  # pause after each step of a search for queues
LONG_SEARCH = 200  # a search with more steps is long
LONG_PAUSE_S = 0.2  # pause after each step of a long search
LONG_PASS, LONGER_PASS = 400, 800  # with more queues, upcoming jobs are counted in every second read, or every fourth
SLOWER = 1.25  # factor for the pauses of a longer pass: reads that miss the caches cost more
FOCUS = 12  # queues that are read at every refresh even during a long pass
REST = 20.0  # minimum pause after a step, in multiples of its duration, so that a slow store gets fewer requests
LONGEST_REST_S = 5.0
SEARCH_EVERY_S = 10.0
UNREADY_S = 30.0


@dataclass(slots=True)
class _Known:
    """A queue that is sampled."""

    seen: QueueSnapshot
    named: bool  # given by name, so never dropped
    live_s: float  # when it was last found, or last had a job or a leader
    tried_s: float = 0.0  # when the last read ended, successfully or not
    reads: int = 0


class Sampler:
    """Keeps a recent sample of each matching queue. Asking for it never waits for the store.

    A pass over the queues starts every `every_s` seconds and reads at most `queues_per_s` a second; with more queues, a
    pass takes longer and the load on the store stays the same. With more than 400 queues, upcoming jobs are counted in
    every second pass; with more than 800, in every fourth, and a fifth fewer queues are read a second. A search for
    queues scans the whole store, at most 16 small steps a second, or 5 if a search takes more than 200 steps. The first
    search is faster, to have results soon. An error affects only its queue. A discovered queue is dropped after
    `forget_s` seconds with neither jobs nor a leader; a named one stays.

        async with Sampler(backend, ["billing", "mail-*"]).running() as sampler:
            ...
            sampler.state().queues
    """

    def __init__(
        self,
        backend: Backend,
        patterns: str | Sequence[str] = "*",
        *,
        every_s: float = EVERY_S,
        max_queues: int = 1_000,
        queues_per_s: float = QUEUES_PER_S,
        forget_s: float = FORGET_S,
        timeout_s: float = TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        """The first `max_queues` named or found queues are shown individually; the rest by pattern.

        `timeout_s` limits the answer about one queue, in seconds. Raises ConfigError.
        """
        self._patterns = check_patterns(check_backend(backend), patterns)
        check_above(max_queues, "max_queues", 1)
        for what, value in (("every_s", every_s), ("queues_per_s", queues_per_s), ("timeout_s", timeout_s)):
            check_above(value, what, 0)
        check_above(forget_s, "forget_s", 0)
        self.every_s = float(every_s)
        self._backend = backend
        self._globs = [p for p in self._patterns if is_pattern(p)]
        self._max_queues = int(max_queues)
        self._chunk_s = AT_ONCE / queues_per_s
        self._forget_s = forget_s
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._known: dict[str, _Known] = {}
        self._shown: dict[str, None] = {}  # in order of appearance
        self._unled: dict[str, None] = {}  # queues with waiting jobs and no leader; the least recently read first
        self._focus: tuple[str, ...] = ()
        self._steps = 0  # number of steps of the previous search
        self._reached = False
        self._error: BackendError | None = None
        self._last_read_s: float | None = None
        self._pass_s: float | None = None
        self._discovery_s: float | None = None
        self._reads = self._failed_reads = self._failed_discoveries = 0
        self._searched_s: float | None = None  # when the last completed search began

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Sample in the background for the length of an `async with`."""
        task = asyncio.create_task(self.run(), name="promoter-sampler")
        try:
            yield self
        finally:
            await cancel_and_wait(task)

    async def run(self) -> None:
        """Sample until cancelled. Errors of the store become part of the state; none is raised."""
        for name in self._patterns:
            if not is_pattern(name):
                self._add(name, name, named=True)
        searching = asyncio.create_task(self._search_on(), name="promoter-sampler-search")
        try:
            while True:
                began_s = self._clock.monotonic()
                await self._pass()
                took_s = self._clock.monotonic() - began_s
                await self._clock.sleep(max(self.every_s - took_s, self._chunk_s))
        finally:
            await cancel_and_wait(searching)

    def state(self) -> SamplerState:
        """Return the current sample. Thread-safe."""
        known = self._known.copy()
        shown = [name for name in self._shown.copy() if name in known]
        rest: dict[str, list[QueueSnapshot]] = {}
        for name in known.keys() - set(shown):
            seen = known[name].seen
            rest.setdefault(seen.pattern, []).append(seen)
        return SamplerState(
            queues=tuple(known[name].seen for name in shown),
            rest={pattern: tuple(rest[pattern]) for pattern in sorted(rest)},
            now_s=self._clock.monotonic(),
            reached=self._reached,
            error=self._error,
            last_read_s=self._last_read_s,
            pass_s=self._pass_s,
            discovery_s=self._discovery_s,
            reads=self._reads,
            failed_reads=self._failed_reads,
            failed_discoveries=self._failed_discoveries,
        )

    def focus(self, names: Iterable[str]) -> None:
        """Read these queues, at most 12, every `every_s` seconds even if a whole pass takes longer.

        They take the turns of other queues, so the load on the store stays the same. Unknown queues are ignored.
        """
        self._focus = tuple(islice(dict.fromkeys(names), FOCUS))

    def unready(self) -> list[str]:
        """Return why there is no recent sample, one sentence per reason; empty when there is one."""
        if self._last_read_s is None:
            return ["the store has not answered yet"]
        age_s = self._clock.monotonic() - self._last_read_s
        return [f"the store has not answered for {age_s:.0f} s"] if age_s > max(3 * self.every_s, UNREADY_S) else []

    def _add(self, name: str, pattern: str, *, named: bool = False) -> None:
        now_s = self._clock.monotonic()
        if (known := self._known.get(name)) is not None:
            known.live_s = now_s
            return
        self._known[name] = _Known(QueueSnapshot(name=name, pattern=pattern), named, now_s)
        if len(self._shown) < self._max_queues:
            self._shown[name] = None

    def _drop(self, name: str) -> None:
        del self._known[name]
        self._unled.pop(name, None)
        if name in self._shown:
            del self._shown[name]
            if (next_one := next((n for n in self._known if n not in self._shown), None)) is not None:
                self._shown[next_one] = None

    async def _pass(self) -> None:
        """Read every queue once, the least recently read first, so that failures do not keep others from a turn."""
        began_s = self._clock.monotonic()
        waiting = deque(sorted(self._known, key=lambda name: self._known[name].tried_s))
        first = True
        while waiting:
            if not first:
                await self._clock.sleep(self._chunk_s * (SLOWER if len(self._known) > LONGER_PASS else 1))
            first = False
            names = self._urgent()
            while waiting and len(names) < AT_ONCE:
                if (name := waiting.popleft()) in self._known and name not in names:
                    names.append(name)
            if not await self._read(names):
                return  # the store is unavailable, and each further read would wait for its timeout
            self._pass_s = self._clock.monotonic() - began_s if not waiting else self._pass_s

    def _urgent(self) -> list[str]:
        """Return queues to read again during a long pass, leaving some turns for the others.

        These are queues that somebody looks at, or that an alert waits for: they had jobs and no leader.
        """
        before_s = self._clock.monotonic() - self.every_s

        def old(names: Iterable[str]) -> Iterator[str]:
            known = (name for name in names if name in self._known)
            return (name for name in known if (at_s := self._known[name].seen.read_s) and at_s <= before_s)

        names = [*old(self._focus), *islice(old(self._unled), AT_ONCE // 2)]
        return list(dict.fromkeys(names))[: AT_ONCE - 2]

    async def _read(self, names: Sequence[str]) -> bool:
        """Read some queues together. Return False when the store answered for none of them."""
        seen = await asyncio.gather(*(self._read_one(self._known[name]) for name in names))
        now_s, away = self._clock.monotonic(), bool(names)
        for queue in seen:
            if (known := self._known.get(queue.name)) is None:  # dropped meanwhile
                continue
            known.seen, known.tried_s = queue, now_s
            self._unled.pop(queue.name, None)
            if queue.unled_jobs and queue.error is None:
                self._unled[queue.name] = None
            self._reads += 1
            self._failed_reads += queue.error is not None
            away = away and isinstance(queue.error, TransientError)
            if queue.error is None and (queue.led or (queue.stats is not None and queue.stats.depth)):
                known.live_s = now_s
            if not known.named and now_s - known.live_s > self._forget_s and self._is_gone(known):
                self._drop(queue.name)
        if names:
            self._answered(not away, seen[0].error)
        return not away

    async def _read_one(self, known: _Known) -> QueueSnapshot:
        known.reads += 1
        every = 1 if len(self._known) <= LONG_PASS else 2 if len(self._known) <= LONGER_PASS else 4
        count = known.reads % every == 1 % every or known.seen.name in self._focus
        return await read_queue(self._backend, known.seen, self._clock, self._timeout_s, count=count)

    def _answered(self, does: bool, error: BackendError | None = None) -> None:
        """Remember, and log once, whether the store answers.

        Some queues failing together do not mean that it does not.
        """
        now_s = self._clock.monotonic()
        if does:
            self._last_read_s = now_s
        elif self._last_read_s is not None and now_s - self._last_read_s < self.every_s:
            return
        self._error = None if does else error
        if does is not self._reached:
            self._reached = does
            log.log(
                logging.INFO if does else logging.WARNING,
                "the store answers%s",
                "" if does else f" no longer: {error}",
            )

    def _is_gone(self, known: _Known) -> bool:
        """Return whether the queue is empty, rather than unreadable."""
        return known.seen.error is None or (self._searched_s is not None and self._searched_s > known.live_s)

    async def _search_on(self) -> None:
        rest = 1.0  # the first search is faster
        while self._globs:
            began_s = self._clock.monotonic()
            try:
                await self._search(rest)
                self._discovery_s, self._searched_s, rest = self._clock.monotonic() - began_s, began_s, REST
            except BackendError as exc:
                self._failed_discoveries += 1
                if not self._known:
                    self._answered(False, exc)
                log.log(
                    logging.WARNING if self._failed_discoveries == 1 else logging.DEBUG,
                    "cannot look for queues: %s",
                    exc,
                )
            except Exception:
                self._failed_discoveries += 1
                log.exception("the search for queues failed; it begins again")
            took_s = self._clock.monotonic() - began_s
            await self._clock.sleep(max(SEARCH_EVERY_S - took_s, 1.0))

    async def _search(self, rest: float) -> None:
        """Scan the store once, and read new queues at once."""
        finder: object = self._backend
        assert isinstance(finder, DiscoverySupport)
        longer = self._steps > LONG_SEARCH
        pause_s = 0.0 if rest != REST else LONG_PAUSE_S if longer else STEP_PAUSE_S
        began_s, steps = self._clock.monotonic(), 0
        async for page in finder.find_queues(self._globs):
            took_s, steps = self._clock.monotonic() - began_s, steps + 1
            if not self._known:  # otherwise, reads show whether the store answers
                self._answered(True)
            found = [name for name in dict.fromkeys(page) if can_be_read(name)]
            new = [name for name in found if name not in self._known]
            for name in found:
                self._add(name, matched(name, self._globs))
            for some in chunked(new, AT_ONCE):
                await self._read(some)
                await self._clock.sleep(self._chunk_s * len(some) / AT_ONCE)
            await self._clock.sleep(min(max(took_s * rest, pause_s), LONGEST_REST_S))
            began_s = self._clock.monotonic()
        self._steps = steps
