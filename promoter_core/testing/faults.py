"""`FaultyBackend`: any backend, with injected failures and delays."""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from promoter_core.spi import (
    Backend,
    BackendError,
    Capabilities,
    ChangeKind,
    Clock,
    JobOutcome,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    StreamEntry,
    StreamName,
    SystemClock,
    TransientError,
)
from promoter_core.testing.forward import OPTIONAL, members_of, offered

T = TypeVar("T")


def connection_lost() -> BackendError:
    return TransientError("injected: the connection was lost", code="CONNECTION")


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure or a delay of some calls of one method.

    `method` is a method of Backend or of an optional protocol. The fault affects the `nth` call (from 1), and with
    `onwards` all later ones. `error` creates the exception. With `after_effect`, the call takes effect first and only
    its reply is lost. `delay_s` delays the call, in seconds; with `error=None`, the call does not fail.
    """

    method: str
    nth: int = 1
    onwards: bool = False
    error: Callable[[], BackendError] | None = connection_lost
    after_effect: bool = False
    delay_s: float = 0.0

    def hits(self, method: str, call: int) -> bool:
        """Return whether the fault affects this call of the method; calls count from 1."""
        return method == self.method and (call == self.nth or (self.onwards and call > self.nth))


_DECLARED = {name: member for protocol in OPTIONAL for name, member in members_of(protocol).items()}


class FaultyBackend:
    """Passes every call on to `backend`, except as `faults` and `disconnected` say. `calls` counts calls by method.

    It offers the same optional protocols as `backend`.
    """

    def __init__(
        self,
        backend: Backend,
        *faults: Fault,
        clock: Clock | None = None,
        latency_ms: tuple[float, float] | None = None,
    ) -> None:
        """`latency_ms` delays every call except `close`, once before and once after it.

        Each delay is random between the two bounds, in milliseconds, and the same in every run of the program.
        """
        unknown = [f.method for f in faults if not hasattr(Backend, f.method) and f.method not in _DECLARED]
        if unknown:
            raise ValueError(f"Backend has no method {unknown[0]!r}")
        self.backend = backend
        self.faults = list(faults)
        self.calls: Counter[str] = Counter()
        self.disconnected = False  # while True, every call fails as if the server were unreachable
        self._clock = clock or SystemClock()
        self._latency_ms = latency_ms
        self._random = random.Random(1)  # noqa: S311  # no secret depends on it
        for name, member in offered(backend).items():
            if not hasattr(type(self), name):  # a subclass may define a method instead
                setattr(self, name, self._failing(name, member))

    @property
    def capabilities(self) -> Capabilities:
        return self.backend.capabilities

    async def _pass(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        hit = [f for f in self.faults if f.hits(method, self.calls[method])]
        for fault in hit:
            if fault.delay_s:
                await self._clock.sleep(fault.delay_s)
        failing = next((f for f in hit if f.error is not None), None)
        if self.disconnected or (failing and not failing.after_effect):
            raise failing.error() if failing and failing.error else connection_lost()
        await self._travel()
        result = await call()
        await self._travel()
        if failing and failing.error:
            raise failing.error()
        return result

    async def _travel(self) -> None:
        if self._latency_ms is not None:
            await self._clock.sleep(self._random.uniform(*self._latency_ms) / 1000)

    async def open(self) -> None:
        await self._pass("open", self.backend.open)

    async def close(self) -> None:
        self.calls["close"] += 1
        await self.backend.close()

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        return await self._pass("lock", lambda: self.backend.lock(queue, holder, ttl_ms))

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        return await self._pass("promote", lambda: self.backend.promote(lease, request))

    async def unlock(self, lease: Lease) -> bool:
        return await self._pass("unlock", lambda: self.backend.unlock(lease))

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        return await self._pass("wait", lambda: self.backend.wait(queue, change, timeout_s))

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        return await self._pass("schedule", lambda: self.backend.schedule(queue, jobs))

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        return await self._pass("cancel", lambda: self.backend.cancel(queue, ids))

    async def stats(self, queue: str) -> QueueStats:
        return await self._pass("stats", lambda: self.backend.stats(queue))

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        return await self._pass("read", lambda: self.backend.read(queue, stream, after, limit))

    def _failing(self, name: str, member: Any) -> Any:
        if inspect.iscoroutinefunction(_DECLARED[name]):

            async def call(*args: Any, **kwargs: Any) -> Any:
                return await self._pass(name, lambda: member(*args, **kwargs))

            return call
        if inspect.isfunction(_DECLARED[name]):

            async def iterate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                await self._pass(name, _nothing)
                async for item in member(*args, **kwargs):
                    yield item

            return iterate
        return member

    def __getattr__(self, name: str) -> Any:
        """Return attributes that a backend has beyond all contracts."""
        return getattr(self.backend, name)


async def _nothing() -> None:
    pass
