"""Perform one action on a backend, and turn exceptions into outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from promoter_core.engine.actions import Action, CheckIdle, Cleanup, Done, Emit, Failed, Outcome, Unlock
from promoter_core.runner.stopping import RELEASE_S
from promoter_core.settings import PromoterSettings
from promoter_core.spi.backend import Backend
from promoter_core.spi.errors import BackendError, PermanentError, TransientError
from promoter_core.spi.model import LeaseLost
from promoter_core.spi.optional.phases import SeparateCleanup, SeparateEmit
from promoter_core.spi.tasks import being_cancelled, run_within


async def execute(backend: Backend, queue: str, action: Action, settings: PromoterSettings) -> Outcome:
    """Perform an action that takes a single backend call and is not batched over queues."""
    match action:
        case Cleanup(jobs):
            await cast("SeparateCleanup", backend).cleanup(queue, jobs)
        case Emit(jobs):
            await cast("SeparateEmit", backend).emit(queue, jobs, settings.events_max_stream_len)
        case CheckIdle():
            return await backend.stats(queue)
        case Unlock(lease):
            return Done() if await backend.unlock(lease) else LeaseLost()
        case _:
            raise TypeError(f"{action!r} is not a single call")
    return Done()


async def as_outcome(call: Awaitable[Outcome]) -> Outcome:
    """Return the outcome of `call`; `Failed` when it raises."""
    try:
        return await call
    except Exception as exc:
        return Failed(as_backend_error(exc))
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        return Failed(TransientError("the backend gave up the call by itself", code="CANCELLED"))


async def release(backend: Backend, queue: str, unlock: Unlock, settings: PromoterSettings) -> Outcome:
    """Release a lock at the end of a run, within RELEASE_S seconds."""
    try:
        return await run_within(as_outcome(execute(backend, queue, unlock, settings)), RELEASE_S)
    except TimeoutError:
        return Failed(TransientError(f"the store did not answer in {RELEASE_S:g} s", code="TIMEOUT"))


def as_backend_error(exc: Exception) -> BackendError:
    """Return a BackendError unchanged.

    Any other exception breaks the contract and becomes permanent: it would recur.
    """
    if isinstance(exc, BackendError):
        return exc
    unexpected = PermanentError(f"unexpected {type(exc).__name__} from the backend: {exc}", code="UNEXPECTED")
    unexpected.__cause__ = exc
    return unexpected
