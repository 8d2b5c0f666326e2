"""`CheckedBackend`: passes calls on and checks what every answer owes: its type, and which exceptions may come."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any

from promoter_core.contracts import Backend
from promoter_core.errors import BackendError
from promoter_core.model import (
    CancelOutcome,
    Capabilities,
    Lease,
    LeaseHeld,
    LeaseLost,
    PromotedJob,
    Promotion,
    QueueStats,
    Scheduled,
    StreamEntry,
)

METHODS = tuple(
    name for name, member in vars(Backend).items() if inspect.iscoroutinefunction(member) and not name.startswith("_")
)

_ANSWERS: dict[str, tuple[type, ...]] = {
    "open": (type(None),),
    "close": (type(None),),
    "lock": (Lease, LeaseHeld),
    "promote": (Promotion, LeaseLost),
    "cleanup": (type(None),),
    "emit": (type(None),),
    "unlock": (bool,),
    "wait": (bool,),
    "schedule": (tuple,),
    "cancel": (tuple,),
    "stats": (QueueStats,),
    "read": (tuple,),
}
_ITEMS: dict[str, type] = {"schedule": Scheduled, "cancel": CancelOutcome, "read": StreamEntry}
_NUMBERS = ("promoted", "depth", "oldest_pending_lag_ms", "now_ms", "quarantined", "held_back")


class CheckedBackend:
    """A backend under test. Raises AssertionError, in one sentence, where an answer has the wrong shape."""

    def __init__(self, backend: Any) -> None:
        self.inner = backend

    @property
    def capabilities(self) -> Capabilities:
        capabilities = getattr(self.inner, "capabilities", None)
        if not isinstance(capabilities, Capabilities):
            raise AssertionError(f"Backend.capabilities must be a Capabilities, not {type(capabilities).__name__}")
        return capabilities

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            return getattr(self.inner, name)
        method = getattr(self.inner, name, None)
        if method is None:
            raise AssertionError(f"the backend lacks the method {name!r}; see promoter_core.contracts.Backend.{name}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            try:
                answer = method(*args, **kwargs)
            except TypeError as exc:
                raise AssertionError(f"Backend.{name} cannot be called as the contract says: {exc}") from exc
            if not isinstance(answer, Awaitable):
                raise AssertionError(f"Backend.{name} must be `async def`; it returned {type(answer).__name__}")
            try:
                value = await answer
            except (BackendError, AssertionError):
                raise
            except Exception as exc:
                raise AssertionError(
                    f"Backend.{name} raised {type(exc).__module__}.{type(exc).__qualname__} ({exc}): a backend raises "
                    "only TransientError and PermanentError"
                ) from exc
            _check_answer(name, value)
            return value

        return call


def _check_answer(name: str, value: Any) -> None:
    expected = _ANSWERS[name]
    if not isinstance(value, expected):
        names = " or ".join("None" if t is type(None) else t.__name__ for t in expected)
        raise AssertionError(f"Backend.{name} must return {names}, not {type(value).__name__}: {value!r}")
    if name in _ITEMS:
        items: Any = value
        wrong = next((item for item in items if not isinstance(item, _ITEMS[name])), None)
        if wrong is not None:
            raise AssertionError(f"Backend.{name} must return a tuple of {_ITEMS[name].__name__}, not of {wrong!r}")
    if isinstance(value, Promotion):
        _check_promotion(value)
    if isinstance(value, LeaseHeld):
        if not (value.remaining_ms is None or _is_int(value.remaining_ms)):
            raise AssertionError(f"LeaseHeld.remaining_ms must be int or None, not {value.remaining_ms!r}")
        if not isinstance(value.holder, str | None):
            raise AssertionError(f"LeaseHeld.holder must be text or None, not {value.holder!r}")
        if not _is_int(value.oldest_pending_lag_ms) or value.oldest_pending_lag_ms < 0:
            raise AssertionError(
                f"LeaseHeld.oldest_pending_lag_ms must be a whole number from 0, not {value.oldest_pending_lag_ms!r}"
            )
    entries: Any = value if name == "read" else ()
    for entry in entries:
        wrong = next(
            ((k, v) for k, v in entry.fields.items() if not (isinstance(k, str) and isinstance(v, bytes))), None
        )
        if wrong is not None:
            raise AssertionError(f"StreamEntry.fields must map str to bytes, not {wrong!r}")


def _check_promotion(p: Promotion) -> None:
    for field in _NUMBERS:
        if not _is_int(getattr(p, field)) or getattr(p, field) < 0:
            raise AssertionError(f"Promotion.{field} must be a whole number from 0, not {getattr(p, field)!r}")
    if not (p.next_due_ms is None or _is_int(p.next_due_ms)):
        raise AssertionError(f"Promotion.next_due_ms must be int or None, not {p.next_due_ms!r}")
    if not isinstance(p.jobs, Sequence) or not all(isinstance(job, PromotedJob) for job in p.jobs):
        raise AssertionError(f"Promotion.jobs must be a sequence of PromotedJob, not {p.jobs!r}")
    for job in p.jobs:
        if not isinstance(job.id, str | None) or not isinstance(job.name, str) or not _is_int(job.due_ms):
            raise AssertionError(f"PromotedJob must have id: str | None, name: str and due_ms: int: {job!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def shape_problems(backend: Any) -> list[str]:
    """What is wrong with a backend before anything is called: missing methods, wrong parameters, not async."""
    problems = []
    for name in METHODS:
        method = getattr(backend, name, None)
        if not callable(method):
            problems.append(f"it lacks the method {name!r}")
            continue
        if not inspect.iscoroutinefunction(inspect.unwrap(method)):
            problems.append(f"{name!r} must be `async def`")
        wanted = [p for p in inspect.signature(getattr(Backend, name)).parameters if p != "self"]
        try:
            inspect.signature(method).bind(*[None] * len(wanted))
            inspect.signature(method).bind(**dict.fromkeys(wanted))
        except TypeError as exc:
            problems.append(f"{name!r} must take ({', '.join(wanted)}): {exc}")
    return problems
