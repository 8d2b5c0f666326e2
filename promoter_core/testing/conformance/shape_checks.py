"""Check the shape of a backend: `shape_problems` checks its methods, `CheckedBackend` every call and answer."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from promoter_core.spi import (
    Backend,
    BackendError,
    Capabilities,
    ChangeFeed,
    Changes,
    Phase,
    SeparateCleanup,
    SeparateEmit,
)
from promoter_core.testing.conformance.answers import ANSWERS, check_answer, check_changes
from promoter_core.testing.forward import OPTIONAL, members_of, offered

REQUIRED = {name: member for name, member in members_of(Backend).items() if inspect.isfunction(member)}
SEPARATE: dict[Phase, type] = {Phase.CLEANUP: SeparateCleanup, Phase.EMIT: SeparateEmit}
_DECLARED = {
    name: member for protocol in (*reversed(OPTIONAL), Backend) for name, member in members_of(protocol).items()
}
_OWNERS = {name: protocol for protocol in reversed(OPTIONAL) for name in members_of(protocol)}  # who declares it


def shape_problems(backend: Any) -> list[str]:
    """Return faults that show before any call: missing methods, wrong parameters, methods that are not async."""
    problems: list[str] = []
    for name, declared in REQUIRED.items():
        if callable(method := getattr(backend, name, None)):
            problems += _method_problems(name, method, declared)
        else:
            problems.append(f"it lacks the method {name!r}")
    fused: frozenset[Phase] = getattr(getattr(backend, "capabilities", None), "fused", frozenset())
    for phase, protocol in SEPARATE.items():
        if phase not in fused and not isinstance(backend, protocol):
            problems.append(f"it lacks the method {phase.value!r}: {phase.name} is not in capabilities.fused")
    optional = {n: m for protocol in OPTIONAL if isinstance(backend, protocol) for n, m in members_of(protocol).items()}
    for name, declared in optional.items():
        if inspect.isfunction(declared):
            problems += _method_problems(name, getattr(backend, name), declared)
    return problems


def _method_problems(name: str, method: Any, declared: Callable[..., Any]) -> Iterator[str]:
    if not callable(method):
        yield f"{name!r} must be a method"
        return
    is_async = inspect.iscoroutinefunction(inspect.unwrap(method))
    if inspect.iscoroutinefunction(declared) and not is_async:
        yield f"{name!r} must be `async def`"
    if is_async and not inspect.iscoroutinefunction(declared):
        yield f"{name!r} must return an async iterator, without being awaited"
    wanted = [p for p in inspect.signature(declared).parameters if p != "self"]
    try:
        inspect.signature(method).bind(*[None] * len(wanted))
        inspect.signature(method).bind(**dict.fromkeys(wanted))
    except TypeError as exc:
        yield f"{name!r} must take ({', '.join(wanted)}): {exc}"


NOT_ENTERED = (
    "the fixture gives what connect() returns before it is entered, and no backend: write `async with connect(url) as "
    "backend: yield backend`, or open_url(parse_url(url)) for one that is not open"
)


class CheckedBackend:
    """A backend under test. Raises AssertionError, in one sentence, if a call or an answer has the wrong shape.

    It offers exactly the optional protocols of the backend.
    """

    def __init__(self, backend: Any) -> None:
        self.inner = backend
        required = {name: method for name in REQUIRED if (method := getattr(backend, name, None)) is not None}
        if not required and isinstance(backend, AbstractAsyncContextManager):
            raise AssertionError(NOT_ENTERED)
        for name, member in (required | offered(backend)).items():
            setattr(self, name, _checked(name, member))

    @property
    def capabilities(self) -> Capabilities:
        capabilities = getattr(self.inner, "capabilities", None)
        if not isinstance(capabilities, Capabilities):
            raise AssertionError(f"Backend.capabilities must be a Capabilities, not {type(capabilities).__name__}")
        return capabilities

    def __getattr__(self, name: str) -> Any:
        """Handle a member that the backend lacks, or that no contract defines."""
        if (name in REQUIRED or name in _OWNERS) and not hasattr(self.inner, name):
            raise _Lacking(f"the backend lacks the method {name!r}; see promoter_core.spi.{_where(name)}")
        return getattr(self.inner, name)


class _Lacking(AssertionError, AttributeError):
    """Also an AttributeError, so that `hasattr` and `isinstance` work."""


def _where(name: str) -> str:
    """Return the method's name in the contracts, such as Backend.lock."""
    return f"{_OWNERS.get(name, Backend).__name__}.{name}"


_CALLS = frozenset(name for name, declared in _DECLARED.items() if inspect.iscoroutinefunction(declared))
_PAGES = frozenset(name for name, declared in _DECLARED.items() if inspect.isfunction(declared)) - _CALLS


def _checked(name: str, member: Any) -> Any:
    if name in _CALLS:
        return _checked_call(name, member)
    return _checked_pages(name, member) if name in _PAGES else member


def _checked_call(name: str, method: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    where, gives_feed = _where(name), ANSWERS[name] == (ChangeFeed,)

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
        except Exception as exc:
            _check_error(where, exc)
        check_answer(name, where, args, value)
        return _CheckedFeed(value) if gives_feed else value

    return call


def _checked_pages(name: str, method: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    where = _where(name)

    async def pages(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        __tracebackhide__ = True
        try:
            answer = method(*args, **kwargs)
        except TypeError as exc:
            raise AssertionError(f"{where} cannot be called as the contract says: {exc}") from exc
        if not isinstance(answer, AsyncIterator):
            raise AssertionError(f"{where} must return an async iterator, not {type(answer).__name__}")
        while True:
            try:
                page = await anext(answer)
            except StopAsyncIteration:
                return
            except Exception as exc:
                _check_error(where, exc)
            check_answer(name, where, args, page)
            yield page

    return pages


class _CheckedFeed:
    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self.close = feed.close

    async def next(self, timeout_s: float) -> Changes:
        __tracebackhide__ = True
        try:
            changes = await self._feed.next(timeout_s)
        except Exception as exc:
            raise AssertionError(f"ChangeFeed.next raised {_in_words(exc)}: it never raises") from exc
        check_changes(changes)
        return changes


def _check_error(where: str, error: Exception) -> NoReturn:
    """Raise the error if a backend may raise it, otherwise an AssertionError."""
    if isinstance(error, BackendError) or (isinstance(error, AssertionError) and str(error)):  # the kit's have words
        raise error
    raise AssertionError(
        f"{where} raised {_in_words(error)}: a backend raises only TransientError and PermanentError"
    ) from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__} ({error})"
