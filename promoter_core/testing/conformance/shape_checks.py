"""`CheckedBackend`: passes calls on and checks what every answer owes: its type, and which exceptions may come."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any

from promoter_core.spi import (
    Backend,
    BackendError,
    CancelOutcome,
    Capabilities,
    FleetSupport,
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    PromotedJob,
    Promotion,
    QueueStats,
    Renewal,
    Scheduled,
    StreamEntry,
)
from promoter_core.testing.forward import optional_methods


def _methods(contract: type) -> tuple[str, ...]:
    return tuple(
        name for name, m in vars(contract).items() if inspect.iscoroutinefunction(m) and not name.startswith("_")
    )


METHODS = _methods(Backend)
OF_MANY = _methods(FleetSupport)

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
    "lock_many": (Sequence,),
    "promote_many": (Sequence,),
    "renew_many": (Sequence,),
    "subscribe": (object,),
    "announce": (type(None),),
    "join_group": (Members,),
    "leave_group": (type(None),),
}
_ITEMS: dict[str, tuple[type, ...]] = {
    "schedule": (Scheduled,),
    "cancel": (CancelOutcome,),
    "read": (StreamEntry,),
    "lock_many": (Lease, LeaseHeld, BackendError),
    "promote_many": (Promotion, LeaseLost, BackendError),
    "renew_many": (Renewal, LeaseLost, BackendError),
}
_NUMBERS = ("promoted", "depth", "oldest_pending_lag_ms", "now_ms", "malformed", "held_back")


class CheckedBackend:
    """A backend under test. Raises AssertionError, in one sentence, where an answer has the wrong shape."""

    def __init__(self, backend: Any) -> None:
        self.inner = backend
        for name in (*METHODS, *optional_methods(backend)):  # as attributes of its own, for `isinstance`
            if getattr(backend, name, None) is not None:
                setattr(self, name, getattr(self, name))

    @property
    def capabilities(self) -> Capabilities:
        capabilities = getattr(self.inner, "capabilities", None)
        if not isinstance(capabilities, Capabilities):
            raise AssertionError(f"Backend.capabilities must be a Capabilities, not {type(capabilities).__name__}")
        return capabilities

    def __getattr__(self, name: str) -> Any:
        if name in OF_MANY and hasattr(self.inner, name):
            where = f"FleetSupport.{name}"
        elif name in METHODS:
            where = f"Backend.{name}"
        else:
            return getattr(self.inner, name)
        method = getattr(self.inner, name, None)
        if method is None:
            raise AssertionError(f"the backend lacks the method {name!r}; see promoter_core.spi.{where}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            try:
                answer = method(*args, **kwargs)
            except TypeError as exc:
                raise AssertionError(f"{where} cannot be called as the contract says: {exc}") from exc
            if not isinstance(answer, Awaitable):
                raise AssertionError(f"{where} must be `async def`; it returned {type(answer).__name__}")
            try:
                value = await answer
            except (BackendError, AssertionError):
                raise
            except Exception as exc:
                raise AssertionError(
                    f"{where} raised {type(exc).__module__}.{type(exc).__qualname__} ({exc}): a backend raises "
                    "only TransientError and PermanentError"
                ) from exc
            _check_answer(name, where, value)
            if name in OF_MANY and name in _ITEMS and len(value) != len(args[0]):
                raise AssertionError(f"{where} must give one answer each: {len(value)} for {len(args[0])}")
            return value

        return call


def _check_answer(name: str, where: str, value: Any) -> None:
    expected = _ANSWERS[name]
    if not isinstance(value, expected):
        raise AssertionError(f"{where} must return {_names(expected)}, not {type(value).__name__}: {value!r}")
    items: Any = value if name in _ITEMS else (value,)
    for item in items:
        if name in _ITEMS and not isinstance(item, _ITEMS[name]):
            outer = "a sequence" if name in OF_MANY else "a tuple"
            raise AssertionError(f"{where} must return {outer} of {_names(_ITEMS[name])}, not of {item!r}")
        if isinstance(item, Promotion):
            _check_promotion(item)
        if isinstance(item, LeaseHeld):
            _check_held(item)
        if isinstance(item, Renewal):
            _check_renewal(item)
    entries: Any = value if name == "read" else ()
    for entry in entries:
        wrong = next(
            ((k, v) for k, v in entry.fields.items() if not (isinstance(k, str) and isinstance(v, bytes))), None
        )
        if wrong is not None:
            raise AssertionError(f"StreamEntry.fields must map str to bytes, not {wrong!r}")


def _names(types: tuple[type, ...]) -> str:
    return " or ".join("None" if t is type(None) else t.__name__ for t in types)


def _check_held(held: LeaseHeld) -> None:
    if not (held.remaining_ms is None or _is_int(held.remaining_ms)):
        raise AssertionError(f"LeaseHeld.remaining_ms must be int or None, not {held.remaining_ms!r}")
    if not isinstance(held.holder, str | None):
        raise AssertionError(f"LeaseHeld.holder must be text or None, not {held.holder!r}")
    if not _is_int(held.oldest_pending_lag_ms) or held.oldest_pending_lag_ms < 0:
        raise AssertionError(
            f"LeaseHeld.oldest_pending_lag_ms must be a whole number from 0, not {held.oldest_pending_lag_ms!r}"
        )


def _check_renewal(r: Renewal) -> None:
    if not _is_int(r.now_ms):
        raise AssertionError(f"Renewal.now_ms must be int, not {r.now_ms!r}")
    if not isinstance(r.due, bool):
        raise AssertionError(f"Renewal.due must be bool, not {r.due!r}")
    if not (r.next_due_ms is None or _is_int(r.next_due_ms)):
        raise AssertionError(f"Renewal.next_due_ms must be int or None, not {r.next_due_ms!r}")


def _check_promotion(p: Promotion) -> None:
    for field in _NUMBERS:
        if not _is_int(getattr(p, field)) or getattr(p, field) < 0:
            raise AssertionError(f"Promotion.{field} must be a whole number from 0, not {getattr(p, field)!r}")
    if not (p.next_due_ms is None or _is_int(p.next_due_ms)):
        raise AssertionError(f"Promotion.next_due_ms must be int or None, not {p.next_due_ms!r}")
    if not (p.work_ms is None or (isinstance(p.work_ms, int | float) and 0 <= p.work_ms < float("inf"))):
        raise AssertionError(f"Promotion.work_ms must be a number of ms from 0, or None, not {p.work_ms!r}")
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
