"""Generate blocking methods, functions and iterators from asynchronous ones, with the same arguments and answers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from promoter_core.spi.backend import Backend
from promoter_core.spi.errors import ConfigError, TransientError
from promoter_core.sync.connection import Connection
from promoter_core.sync.loop import Inbox

T = TypeVar("T")
F = Callable[..., Any]

PAGE = 100  # maximum results buffered by an iterator


class BlockingQueue:
    """The common part of blocking queues; `make_blocking` adds the methods."""

    _asynchronous: type[Any]

    def __init__(self, backend: Connection, *args: Any, **options: Any) -> None:
        self._connection = check_connection(backend, "DelayedQueue")
        self._arguments = args, options
        self._made = self._make(backend._backend)  # raises ConfigError
        for name, value in vars(self._made[1]).items():
            if not name.startswith("_"):
                setattr(self, name, value)

    def _make(self, backend: Backend) -> tuple[Backend, Any]:
        args, options = self._arguments
        return backend, self._asynchronous(backend, *args, **options)

    def _of(self, backend: Backend) -> Any:
        """Return the asynchronous queue on this backend, a different one after a fork."""
        made = self._made
        if made[0] is not backend:
            made = self._made = self._make(backend)
        return made[1]


def make_blocking(asynchronous: type[Any]) -> Callable[[type[T]], type[T]]:
    """Give a `BlockingQueue` every public method and property of `asynchronous` (a class decorator)."""

    def decorate(cls: Any) -> Any:
        cls._asynchronous = asynchronous
        cls.__doc__ = asynchronous.__doc__

        def __init__(self: Any, backend: Connection, *args: Any, **options: Any) -> None:  # noqa: N807
            BlockingQueue.__init__(self, backend, *args, **options)

        cls.__init__ = _looks_like(__init__, asynchronous.__init__, cls)
        for name, member in public_members(asynchronous).items():
            setattr(cls, name, _blocking_member(name, member, cls))
        return cls

    return decorate


def public_members(cls: type[Any]) -> dict[str, Any]:
    """Return methods and properties by name, including those of base classes."""
    return {
        name: member
        for base in reversed(cls.__mro__[:-1])
        for name, member in vars(base).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }


def blocking_function(function: F) -> F:
    """Return the blocking form of `function(backend, …)`, which returns an asynchronous iterator or a coroutine."""
    taken = _Arguments(function)

    def blocking(backend: Connection, *args: Any, **options: Any) -> Any:
        connection = check_connection(backend, function.__name__)
        args, options, inbox = taken(args, options)
        if gives_iterator(function):
            return _iterate(connection, lambda backend: function(backend, *args, **options))
        return connection._call(lambda backend: function(backend, *args, **options), inbox)

    return _looks_like(blocking, function)


def gives_iterator(function: F) -> bool:
    """Return whether the function returns an asynchronous iterator."""
    return inspect.isasyncgenfunction(function) or str(inspect.signature(function).return_annotation).startswith(
        "Async"
    )


def check_connection(backend: object, user: str) -> Connection:
    """Return `backend` if it is a Connection. Raises ConfigError."""
    if isinstance(backend, Connection):
        return backend
    raise ConfigError(
        f"promoter_core.sync.{user} takes what promoter_core.sync.connect(…) returns, not a {type(backend).__name__}"
    )


def _blocking_member(name: str, member: Any, owner: type[Any]) -> Any:
    if isinstance(member, property):
        return property(lambda self: getattr(self._made[1], name), doc=member.__doc__)
    taken = _Arguments(member)

    def call(self: BlockingQueue, *args: Any, **options: Any) -> Any:
        args, options, inbox = taken(args, options)
        return self._connection._call(lambda backend: member(self._of(backend), *args, **options), inbox)

    def iterate(self: BlockingQueue, *args: Any, **options: Any) -> Any:
        args, options, _ = taken(args, options)
        return _iterate(self._connection, lambda backend: member(self._of(backend), *args, **options))

    def pass_on(self: BlockingQueue, *args: Any, **options: Any) -> Any:
        return member(self._made[1], *args, **options)

    if gives_iterator(member):
        return _looks_like(iterate, member, owner)
    return _looks_like(call if inspect.iscoroutinefunction(member) else pass_on, member, owner)


def _looks_like(made: F, function: F, owner: type[Any] | None = None) -> F:
    """Return `made` with the name, docstring and blocking signature of `function`."""
    made.__name__ = function.__name__
    made.__qualname__ = f"{owner.__qualname__}.{function.__name__}" if owner else function.__name__
    made.__module__ = owner.__module__ if owner else made.__module__
    made.__doc__ = function.__doc__
    made.__signature__ = blocking_signature(function)  # type: ignore[attr-defined]
    return made


def blocking_signature(function: F) -> inspect.Signature:
    """Return the signature of the blocking form: a Connection instead of a Backend, and plain iterators."""
    signature = inspect.signature(function)
    parameters = [
        p.replace(annotation="Connection" if p.annotation == "Backend" else p.annotation)
        for p in signature.parameters.values()
    ]
    answer = signature.return_annotation
    if gives_iterator(function):
        answer = "Iterator[" + answer.split("[", 1)[1]
    return signature.replace(parameters=parameters, return_annotation=answer)


class _Arguments:
    """Work that has to happen in the caller's thread: a generator or a callback can use a database of that thread.

    Iterables are read before the call. Callbacks are wrapped so that the caller's thread runs them, through its
    `inbox`.
    """

    def __init__(self, function: F) -> None:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        kinds = {p.name: next((kind for kind in _KINDS if kind in str(p.annotation)), None) for p in parameters}
        self._kinds = {name: kind for name, kind in kinds.items() if kind}
        self._names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]

    def __call__(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Inbox | None]:
        if not self._kinds:
            return args, options, None
        inbox = Inbox()
        names = [*self._names, *args]  # the function itself rejects surplus arguments
        args = tuple(self._taken(name, value, inbox) for name, value in zip(names, args, strict=False))
        return args, {name: self._taken(name, value, inbox) for name, value in options.items()}, inbox

    def _taken(self, name: object, value: Any, inbox: Inbox) -> Any:
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind == "Progress" and callable(value) and not inspect.iscoroutinefunction(value):
            return lambda *args: inbox.put(lambda: value(*args))
        if kind == "Iterable[" and isinstance(value, Iterable) and not isinstance(value, _TAKEN_WHOLE):
            return list(value)
        return value  # the function itself rejects invalid values


_KINDS = ("Iterable[", "Progress")  # annotations that need conversion
_TAKEN_WHOLE = (list, tuple, str, bytes, Mapping, type)


def _iterate(connection: Connection, begin: Callable[[Backend], AsyncIterator[T]]) -> Iterator[T]:
    """Yield the results, fetched some at a time."""
    source: AsyncIterator[T] | None = None
    home: Backend | None = None

    async def fetch(backend: Backend) -> tuple[list[T], BaseException | None]:
        nonlocal source, home
        if source is None:
            source, home = begin(backend), backend
        if backend is not home:
            raise TransientError("the iterator was begun by another process or connection", code="CLOSED")
        some: list[T] = []
        try:
            while len(some) < PAGE:
                some.append(await anext(source))
        except Exception as exc:
            return some, exc
        return some, None

    async def close(backend: Backend) -> None:
        if backend is home and (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()

    end: BaseException | None = None
    try:
        while end is None:
            some, end = connection.call(fetch)
            yield from some
        if not isinstance(end, StopAsyncIteration):
            raise end
    finally:
        if source is not None and end is None:  # the caller has stopped iterating
            with contextlib.suppress(Exception):
                connection.call(close)
