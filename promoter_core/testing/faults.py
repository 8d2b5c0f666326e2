"""`FaultyBackend`: any backend, with failures where you want them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from promoter_core.spi import (
    Backend,
    BackendError,
    CancelOutcome,
    Capabilities,
    Clock,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    StreamEntry,
    StreamName,
    SystemClock,
    TransientError,
)
from promoter_core.testing.forward import OPTIONAL, is_coroutine_method, optional_methods

T = TypeVar("T")


def connection_lost() -> BackendError:
    return TransientError("injected: the connection was lost", code="CONNECTION")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to some calls of one method.

    `method` is a method of Backend, FleetSupport, DeadLetterSupport or DiagnosticsSupport. It happens to the `nth` call (from 1), to it
    and all after it with `onwards`. `error` makes the exception; with `after_effect` the call takes effect first and
    only its reply is lost. `delay_s` makes the call slow; alone, it fails nothing.
    """

    method: str
    nth: int = 1
    onwards: bool = False
    error: Callable[[], BackendError] | None = connection_lost
    after_effect: bool = False
    delay_s: float = 0.0

    def hits(self, method: str, call: int) -> bool:
        return method == self.method and (call == self.nth or (self.onwards and call > self.nth))


class FaultyBackend:
    """Passes every call on to `backend`, but for what its faults and `disconnected` say. `calls` counts by method."""

    def __init__(self, backend: Backend, *faults: Fault, clock: Clock | None = None) -> None:
        unknown = [f.method for f in faults if not any(hasattr(c, f.method) for c in (Backend, *OPTIONAL))]
        if unknown:
            raise ValueError(f"Backend has no method {unknown[0]!r}")
        self.backend = backend
        self.faults = list(faults)
        self.calls: Counter[str] = Counter()
        self.disconnected = False  # while True every call fails as if the server had gone
        self._clock = clock or SystemClock()
        for name, method in optional_methods(backend).items():
            if not hasattr(type(self), name):  # a subclass may have a method instead
                setattr(self, name, self._failing(name, method) if is_coroutine_method(name) else method)

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
        result = await call()
        if failing and failing.error:
            raise failing.error()
        return result

    async def open(self) -> None:
        await self._pass("open", self.backend.open)

    async def close(self) -> None:
        self.calls["close"] += 1
        await self.backend.close()

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        return await self._pass("lock", lambda: self.backend.lock(queue, holder, ttl_ms))

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        return await self._pass("promote", lambda: self.backend.promote(lease, request))

    async def cleanup(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        await self._pass("cleanup", lambda: self.backend.cleanup(queue, jobs))

    async def emit(self, queue: str, jobs: Sequence[PromotedJob], max_stream_len: int) -> None:
        await self._pass("emit", lambda: self.backend.emit(queue, jobs, max_stream_len))

    async def unlock(self, lease: Lease) -> bool:
        return await self._pass("unlock", lambda: self.backend.unlock(lease))

    async def wait(self, queue: str, timeout_s: float, lease: Lease | None) -> bool:
        return await self._pass("wait", lambda: self.backend.wait(queue, timeout_s, lease))

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        return await self._pass("schedule", lambda: self.backend.schedule(queue, jobs))

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[CancelOutcome, ...]:
        return await self._pass("cancel", lambda: self.backend.cancel(queue, ids))

    async def stats(self, queue: str) -> QueueStats:
        return await self._pass("stats", lambda: self.backend.stats(queue))

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        return await self._pass("read", lambda: self.backend.read(queue, stream, after, limit))

    def _failing(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._pass(name, lambda: method(*args, **kwargs))

        return call

    def __getattr__(self, name: str) -> Any:
        """What a backend has beyond all contracts."""
        return getattr(self.backend, name)
