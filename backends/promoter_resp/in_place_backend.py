"""`InPlaceBackend`: `RespBackend` on another framework's sorted set, whose jobs only that framework schedules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from promoter_core.spi import (
    MAX_DUE_MS,
    REHEARSAL,
    BackendError,
    Capabilities,
    ConfigError,
    Finding,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Overflow,
    PermanentError,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    StoredJob,
    cancel_and_wait,
    chunked,
    in_place,
)
from promoter_resp import in_place_checks, replies
from promoter_resp.backend import RespBackend
from promoter_resp.driver import Call, Driver, Script
from promoter_resp.key_types import type_of
from promoter_resp.waiting_jobs import COUNTED_AT_ONCE

log = logging.getLogger("promoter")

ABSENT_S = 30.0  # time without any of the framework's keys before it is logged
REMEMBERED = 100_000  # maximum number of queues remembered


class InPlaceBackend(RespBackend):
    """Promotes, counts and diagnoses. Methods that create, list or change jobs are refused."""

    _move = "in_place"

    def __init__(self, driver: Driver, *, layout: in_place.InPlace, **more: Any) -> None:
        """Raises ConfigError when the layout's keys are not in one slot of a cluster."""
        if driver.clustered and not layout.one_slot:
            raise ConfigError(
                f"layout {layout.name!r}: in a cluster the keys of {layout.owner} must be in one slot, and "
                f"{in_place_checks.sets(layout)} is not in that of the keys that its jobs go to"
            )
        super().__init__(driver, layout=layout, **more)
        self._in_place, self._count = layout, Script("in_place_count", layout)
        self._sets: set[str] = set()  # queues whose keys have the expected type
        self._looked_at_versions = False
        self._absent_since_s: float | None = None  # since when none of the framework's keys exists
        self._is_there = False
        self._telling: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        found = super().capabilities
        return replace(found, traces=False) if found.traces else found

    async def diagnose(self) -> Sequence[Finding]:
        self._life.check()
        return await in_place_checks.diagnose(self, self._driver, self._in_place, wait_replicas=self._replicas.count)

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        if not self._looked_at_versions and not queues[0].startswith(REHEARSAL):
            self._looked_at_versions = True
            running = await in_place_checks.versions(self._driver, self._in_place)
            if (text := in_place_checks.unknown(self._in_place, running)) is not None:
                log.warning("%s: jobs may arrive otherwise than its own scheduler moves them", text)
        return await super().lock_many(queues, holder, ttl_ms)

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        answer = await super().promote(lease, request)
        self._notice(isinstance(answer, LeaseLost) or answer.depth + answer.promoted > 0)
        return answer

    async def promote_many(
        self, requests: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        answers = await super().promote_many(requests)
        if not self._is_there:
            self._notice(any(not isinstance(a, Promotion) or a.depth + a.promoted > 0 for a in answers))
        return answers

    async def close(self) -> None:
        if self._telling is not None:
            await cancel_and_wait(self._telling)
        await super().close()

    def _notice(self, there: bool) -> None:
        """Log once that the framework's set has been missing for a while. No tick waits for it."""
        if there or self._is_there:
            self._is_there = True
            return
        now_s = time.monotonic()
        if self._absent_since_s is None:
            self._absent_since_s = now_s
        elif now_s - self._absent_since_s > ABSENT_S:
            self._is_there = True  # assume that the framework's keys exist
            self._telling = asyncio.create_task(self._tell(), name="promoter-missing")

    async def _tell(self) -> None:
        """Log what exists instead. The search scans the keys of the store, and can take seconds."""
        log.warning("%s; %s", *await in_place_checks.missing(self._driver, self._in_place))

    def _promotion(self, lease: Lease, request: PromotionRequest) -> Call:
        if request.overflow is Overflow.TRIM:
            raise PermanentError(
                f"layout {self.layout.name!r}: overflow=trim would drop jobs of {self._in_place.owner}; use hold",
                code="TRIM",
            )
        call = super()._promotion(lease, request)
        return replace(call, keys=(*call.keys, *self._in_place.keys_for_script(lease.queue)))

    async def stats(self, queue: str) -> QueueStats:
        self._life.check()
        k = self._keys(queue)
        keys = (k.lock, k.delayed, k.stream, k.events, k.dlq, *self._in_place.keys_for_script(queue))
        return await self._read_stats(queue, keys)

    async def _types(self, queue: str) -> dict[bytes, str]:
        types = await super()._types(queue)
        if not self._in_place.target:
            del types[self._keys(queue).stream]
            types |= await in_place_checks.types_of_targets(self._driver, self._in_place, queue)
        return types

    async def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        if self._in_place.queues:
            self._life.check()
            yield [queue for queue in self._in_place.queues if any(fnmatchcase(queue, pattern) for pattern in patterns)]
            return
        found = False
        async for page in super().find_queues(patterns):
            kinds = await asyncio.gather(*map(self._kind, page))
            found = found or "zset" in kinds  # Promoter's lock alone is no sign of the framework
            yield [queue for queue, kind in zip(page, kinds, strict=True) if kind in ("zset", "none")]
        self._notice(found)

    async def _kind(self, queue: str) -> str:
        """Return the last known type of the queue's key: others may have keys of that form, too."""
        if queue in self._sets:
            return "zset"
        kind = await type_of(self._driver, self._keys(queue).delayed)
        if kind == "zset" and len(self._sets) < REMEMBERED:
            self._sets.add(queue)
        return kind

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        self._refuse()

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        self._refuse()

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        self._refuse()

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        self._refuse()

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        self._life.check()
        key, counts = self._keys(queue).delayed, list[int]()
        for some in chunked([self._before(bound_ms) for bound_ms in bounds_ms], COUNTED_AT_ONCE):
            (reply,) = await self._driver.run_scripts([Call(self._count, (key,), some)])
            counts += replies.integers(reply, len(some))
        return counts

    def _before(self, due_ms: int) -> bytes:
        """Return the bound of ZCOUNT for members due before a time, in the unit of the scores."""
        layout, due_ms = self._in_place, min(due_ms, MAX_DUE_MS + 1)
        if layout.score is in_place.Score.S:
            return b"(%.3f" % (due_ms / 1_000 - layout.offset_s - layout.whole)
        return b"(%d" % (due_ms - layout.offset_s * 1_000 - layout.whole)

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        self._refuse()

    async def requeue_dead_letter(self, queue: str, entry_id: str, envelope: bytes, name: str) -> bool:
        self._refuse()

    def _refuse(self) -> NoReturn:
        self._life.check()
        raise PermanentError(self._in_place.sentence(), code="INPLACE")


def resp_backend(driver: Driver, **more: Any) -> RespBackend:
    """Return the backend for a layout: `InPlaceBackend` for one in place."""
    make = InPlaceBackend if isinstance(more.get("layout"), in_place.InPlace) else RespBackend
    return make(driver, **more)
