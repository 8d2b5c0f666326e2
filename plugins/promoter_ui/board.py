"""`Board`: the state of all queues, for the pages. It reads the store only while a page is open."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isinf, isnan, nan

from promoter_core import Backend, BackendError, ConfigError
from promoter_core.monitor import LatenessProbe, QueueSnapshot, Sampler, SamplerState, snapshot
from promoter_core.spi import Clock, SystemClock, cancel_and_wait, is_pattern
from promoter_ui import text

log = logging.getLogger("promoter.ui")

IDLE_S = 60.0  # reading stops this long after the last visit
FIRST_S = 1.5  # how long a first visit waits for the store
STALE_S = 2.0  # a visible row is read again when it is older
LATE_S = 5.0  # a job that has been due for longer is late
ROWS = 50  # of a page of a table
SHARED_PER_S = ROWS / STALE_S  # row refreshes, shared by all visitors: as many as for one visitor
SEEN_S = 3 * STALE_S  # a row not requested for this long is on no screen
TRAIL = 120  # samples of lateness kept for each queue
TRAIL_QUEUES = 10_000
PROBES = 32  # queues whose promotions are observed: the most recently visited
PROBE_S = 1.0  # minimum time between two reads of a probe

STATES = {"late": "late", "unled": "no leader", "dead": "dead letters", "error": "unreadable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All queues together."""

    queues: int = 0
    jobs: int = 0
    due: int = 0
    overdue_s: float = 0.0
    minute: int = 0
    hour: int = 0
    day: int = 0
    states: Mapping[str, int] = field(default_factory=dict)  # number of queues by problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """One promoter, and the queues that it leads."""

    holder: str
    queues: int
    jobs: int
    lease_s: float | None  # the shortest of its leases
    overdue_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """The requested rows of the table of queues."""

    find: str = ""
    state: str = ""
    leader: str = ""
    sort: str = "name"
    descending: bool = False
    page: int = 1

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Asked:
        """Read a request, ignoring invalid values."""
        sort = params.get("sort", "name")
        state = params.get("state", "")
        return cls(
            find=params.get("find", "")[:200].strip(),
            state=state if state in STATES else "",
            leader=params.get("leader", ""),
            sort=sort if sort in SORTS else "name",
            descending=params.get("order") == "desc",
            page=max(text.whole_number(params, "page") or 1, 1),
        )

    def link(self, **changes: object) -> str:
        """Return the link to these rows, with changes."""
        now: dict[str, object] = {
            "find": self.find,
            "state": self.state,
            "leader": self.leader,
            "sort": self.sort if self.sort != "name" else None,
            "order": "desc" if self.descending else None,
            "page": self.page if self.page > 1 else None,
        }
        return text.link("./", **(now | {"page": None} | changes))


SORTS = {
    "name": lambda q: q.name,
    "jobs": lambda q: q.stats.depth if q.stats else -1,
    "due": lambda q: q.stats.due if q.stats else -1,
    "overdue": lambda q: q.overdue_s,
    "next": lambda q: (q.stats.next_due_ms if q.stats else None) or 2**60,
    "hour": lambda q: q.coming.hour if q.coming else -1,
    "rate": lambda q: -1 if q.added_per_s is None else q.added_per_s,
    "stream": lambda q: q.stats.stream_len if q.stats else -1,
    "dead": lambda q: q.stats.dlq_len if q.stats else -1,
    "leader": lambda q: (q.stats.holder if q.stats else None) or "",
}


def states_of(queue: QueueSnapshot) -> list[str]:
    """Return the problems of a queue."""
    found = {
        "error": queue.error is not None,
        "late": queue.overdue_s > LATE_S,
        "unled": queue.unled_jobs > 0,
        "dead": queue.stats is not None and queue.stats.dlq_len > 0,
    }
    return [name for name, so in found.items() if so]


class Board:
    """Reads the matching queues, and records their lateness."""

    def __init__(
        self,
        backend: Backend,
        queues: str | Sequence[str],
        *,
        every_s: float = 5.0,
        idle_s: float = IDLE_S,
        clock: Clock | None = None,
    ) -> None:
        """Raises ConfigError for an invalid queue."""
        self.backend = backend
        self.clock = clock or SystemClock()
        self.sampler = Sampler(backend, queues, every_s=every_s, max_queues=TRAIL_QUEUES, clock=self.clock)
        self._patterns = [queues] if isinstance(queues, str) else list(queues)
        self._idle_s = idle_s
        self._looked_s = self._recorded_s = self.clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._trails: dict[str, array[float]] = {}
        self._slot = 0
        self._probes: dict[str, tuple[float, LatenessProbe]] = {}  # with the time of the last read
        self._fresh: dict[str, QueueSnapshot] = {}
        self._reading: set[str] = set()  # rows being read
        self._seen: dict[str, float] = {}  # visible rows, with the time of the last request
        self._made: tuple[float, list[QueueSnapshot], Summary] | None = None

    @property
    def is_endless(self) -> bool:
        """Whether the store is read even while no page is open."""
        return isinf(self._idle_s)

    def allows(self, name: str) -> bool:
        """Return whether a queue can be shown."""
        return any(fnmatchcase(name, p) if is_pattern(p) else name == p for p in self._patterns)

    async def look(self) -> None:
        """Start or continue reading the store for a visitor. The first call waits briefly for an answer."""
        self._looked_s = self.clock.monotonic()
        if self._task is not None and not self._task.done():
            return
        before = self.sampler.state()
        self._task = asyncio.create_task(self._run(), name="promoter-ui")
        for _ in range(30):
            await self.clock.sleep(FIRST_S / 30)
            if self._has_read(before):
                break
        self._made = None

    def _has_read(self, before: SamplerState) -> bool:
        """Return whether every queue has been read since, or the store has failed."""
        state = self.sampler.state()
        searched = state.discovery_s is not None or not any(map(is_pattern, self._patterns))
        failed = state.failed_reads > before.failed_reads or state.failed_discoveries > before.failed_discoveries
        return failed or (searched and state.reads - before.reads >= len(state.queues))

    async def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while self._is_watched():
            async with self.sampler.running():
                while self._is_watched():
                    answered = self.sampler.state().last_read_s is not None
                    await self.clock.sleep(self.sampler.every_s if answered else FIRST_S)
                    state = self.sampler.state()
                    if state.last_read_s is None and state.failed_discoveries:
                        break  # restart: a sampler that has found nothing waits some seconds before it searches again
                    self._record()

    def _is_watched(self) -> bool:
        return self.clock.monotonic() - self._looked_s < self._idle_s

    def _record(self) -> None:
        """Record how late each queue is: one number per sample, dropped with the queue."""
        queues, _ = self.queues()
        self._slot += 1
        there = set[str]()
        for queue in queues[:TRAIL_QUEUES]:
            there.add(queue.name)
            if queue.name not in self._trails:
                self._trails[queue.name] = array("f", [nan]) * TRAIL
            known = queue.stats is not None and queue.error is None
            self._trails[queue.name][self._slot % TRAIL] = queue.overdue_s if known else nan
        worst = [queue.overdue_s for queue in queues if queue.stats is not None and queue.error is None]
        self._trails.setdefault("", array("f", [nan]) * TRAIL)[self._slot % TRAIL] = max(worst, default=nan)
        for name in [name for name in self._trails if name and name not in there]:
            del self._trails[name]

    def trail(self, name: str = "") -> list[float | None]:
        """Return how late a queue was, oldest first; all queues without a name. None for times without a reading."""
        kept = self._trails.get(name)
        if kept is None:
            return []
        first = self._slot % TRAIL + 1
        values = [*kept[first:], *kept[:first]]
        return [None if isnan(value) else value for value in values][-min(self._slot, TRAIL) :]

    def queues(self) -> tuple[list[QueueSnapshot], Summary]:
        """Return all queues and their summary, computed once a second."""
        now_s = self.clock.monotonic()
        if self._made is None or now_s - self._made[0] >= 1.0:
            state = self.sampler.state()
            queues = [*state.queues, *(queue for rest in state.rest.values() for queue in rest)]
            self._fresh = {name: seen for name, seen in self._fresh.items() if now_s - (seen.read_s or 0) < 60}
            queues = [self._newest(queue) for queue in queues]
            self._made = now_s, queues, _summed(queues)
        return self._made[1], self._made[2]

    def _newest(self, queue: QueueSnapshot) -> QueueSnapshot:
        fresh = self._fresh.get(queue.name)
        if fresh is None or (fresh.read_s or 0) <= (queue.read_s or 0):
            return queue
        return replace(fresh, added_per_s=queue.added_per_s)  # a rate needs two reads, so keep the older one

    async def probe(self, name: str) -> LatenessProbe:
        """Return the lateness probe of a queue, after a read if one is due."""
        now_s = self.clock.monotonic()
        if name not in self._probes:
            self._probes[name] = now_s - PROBE_S, LatenessProbe(self.backend, name)
        looked_s, probe = self._probes.pop(name)
        due = now_s - looked_s >= PROBE_S
        self._probes[name] = now_s if due else looked_s, probe
        if len(self._probes) > PROBES:
            del self._probes[next(iter(self._probes))]
        if due:
            try:
                await probe.look()
            except BackendError as exc:
                log.debug("no look at the promotions of %r: %s", name, exc)
        return probe

    async def rows(self, asked: Asked) -> tuple[list[QueueSnapshot], int]:
        """Return a page of the requested queues, in their current state, and their total number."""
        queues, _ = self.queues()
        glob = asked.find if is_pattern(asked.find) else ""
        wanted = [
            queue
            for queue in queues
            if (not asked.find or (fnmatchcase(queue.name, glob) if glob else asked.find.lower() in queue.name.lower()))
            and (not asked.leader or (queue.stats is not None and queue.stats.holder == asked.leader))
            and (not asked.state or asked.state in states_of(queue))
        ]
        wanted.sort(key=lambda queue: queue.name)
        wanted.sort(key=SORTS[asked.sort], reverse=asked.descending)
        first = (asked.page - 1) * ROWS
        shown = wanted[first : first + ROWS]
        await self._refresh(self._old(shown, self._stale_s(shown)))
        return [self._newest(queue) for queue in shown], len(wanted)

    def _stale_s(self, shown: Sequence[QueueSnapshot]) -> float:
        """Return the maximum age of a row. It grows with the rows on all screens, so the store's work is limited."""
        now_s = self.clock.monotonic()
        self._seen |= {queue.name: now_s for queue in shown}
        self._seen = {name: at_s for name, at_s in self._seen.items() if now_s - at_s < SEEN_S}
        return max(STALE_S, len(self._seen) / SHARED_PER_S)

    def _old(self, queues: Sequence[QueueSnapshot], stale_s: float = STALE_S) -> list[str]:
        """Return stale queues that are not being read. With many queues, the sampler's own pass takes a minute."""
        now_s = self.clock.monotonic()
        old = [q.name for q in queues if now_s - (self._newest(q).read_s or -stale_s) > stale_s]
        return [
            name for name in old if name not in self._reading and not is_pattern(name)
        ]  # a pattern would match other queues

    async def _refresh(self, names: Sequence[str]) -> None:
        if not names or not self.sampler.state().reached:
            return
        self._reading.update(names)
        try:
            seen = await snapshot(self.backend, names, clock=self.clock, timeout_s=2.0)
        finally:
            self._reading.difference_update(names)
        self._fresh |= {queue.name: queue for queue in seen.queues if queue.error is None}

    async def one(self, name: str) -> QueueSnapshot:
        """Return one queue in its current state, known or not. Raises ConfigError for an invalid name."""
        known = next((queue for queue in self.queues()[0] if queue.name == name), None)
        if known is not None and (is_pattern(name) or self.sampler.state().reached):
            await self._refresh(self._old([known]))
            return self._newest(known)
        if is_pattern(name):
            raise ConfigError(f"no queue {name!r} has been found")
        return (await snapshot(self.backend, name, clock=self.clock, timeout_s=2.0)).queues[0]

    def leaders(self) -> list[Leader]:
        """Return the leaders, the one with the most queues first."""
        led: dict[str, list[QueueSnapshot]] = {}
        for queue in self.queues()[0]:
            if queue.stats is not None and queue.stats.holder is not None:
                led.setdefault(queue.stats.holder, []).append(queue)
        found = [
            Leader(
                holder=holder,
                queues=len(queues),
                jobs=sum(queue.stats.depth for queue in queues if queue.stats is not None),
                lease_s=min((queue.lease_s for queue in queues if queue.lease_s is not None), default=None),
                overdue_s=max(queue.overdue_s for queue in queues),
            )
            for holder, queues in led.items()
        ]
        return sorted(found, key=lambda leader: (-leader.queues, leader.holder))


def _summed(queues: Sequence[QueueSnapshot]) -> Summary:
    states = dict.fromkeys(STATES, 0)
    jobs = due = minute = hour = day = 0
    overdue_s = 0.0
    for queue in queues:
        for state in states_of(queue):
            states[state] += 1
        if queue.stats is not None:
            jobs, due = jobs + queue.stats.depth, due + queue.stats.due
            overdue_s = max(overdue_s, queue.overdue_s)
        if queue.coming is not None:
            minute, hour, day = minute + queue.coming.minute, hour + queue.coming.hour, day + queue.coming.day
    return Summary(
        queues=len(queues), jobs=jobs, due=due, overdue_s=overdue_s, minute=minute, hour=hour, day=day, states=states
    )
