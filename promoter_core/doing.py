"""How an action of a machine is done on a backend, and how what goes wrong becomes an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from promoter_core.actions import Action, Cleanup, Done, Emit, Failed, Look, Outcome, Unlock
from promoter_core.contracts import Backend
from promoter_core.ending import RELEASE_S, bounded, cancelled
from promoter_core.errors import BackendError, PermanentError, TransientError
from promoter_core.model import LeaseLost
from promoter_core.settings import PromoterSettings


async def do_alone(backend: Backend, action: Action, s: PromoterSettings) -> Outcome:
    """The actions that are one call for one queue, whoever runs the machine."""
    match action:
        case Cleanup(jobs):
            await backend.cleanup(s.queue, jobs)
        case Emit(jobs):
            await backend.emit(s.queue, jobs, s.events_max_stream_len)
        case Look():
            return await backend.stats(s.queue)
        case Unlock(lease):
            return Done() if await backend.unlock(lease) else LeaseLost()
        case _:
            raise TypeError(f"{action!r} is not done alone")
    return Done()


async def guarded(call: Awaitable[Outcome]) -> Outcome:
    """The outcome, or what went wrong as one."""
    try:
        return await call
    except Exception as exc:
        return Failed(as_backend_error(exc))
    except asyncio.CancelledError:
        if cancelled():
            raise
        return Failed(TransientError("the backend gave up the call by itself", code="CANCELLED"))


async def release(backend: Backend, unlock: Unlock, s: PromoterSettings) -> Outcome:
    """Release a lock at the end, in RELEASE_S seconds."""
    try:
        return await bounded(guarded(do_alone(backend, unlock, s)), RELEASE_S)
    except TimeoutError:
        return Failed(TransientError(f"the store did not answer in {RELEASE_S:g} s", code="TIMEOUT"))


def as_backend_error(exc: Exception) -> BackendError:
    """The contract allows only BackendErrors. Anything else is a breach of it by the backend, and permanent: the
    backends of this project call transient whatever they do not know of their clients.
    """
    if isinstance(exc, BackendError):
        return exc
    unexpected = PermanentError(f"unexpected {type(exc).__name__} from the backend: {exc}", code="UNEXPECTED")
    unexpected.__cause__ = exc
    return unexpected
