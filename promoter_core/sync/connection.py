"""`connect` and `Connection`: a backend for blocking code, in any thread and process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn, Self, TypeVar

from promoter_core.registry import Registry, installed
from promoter_core.spi.backend import Backend
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import TransientError
from promoter_core.spi.layouts import Layout
from promoter_core.spi.urls import Credentials
from promoter_core.sync import loop as loops
from promoter_core.sync.loop import BackgroundLoop, Inbox, check_caller, current_loop

T = TypeVar("T")


def connect(
    url: str,
    *,
    credentials: Credentials | None = None,
    clock: Clock | None = None,
    layout: str | Layout | None = None,
    registry: Registry | None = None,
) -> Connection:
    """Return a connection to the store at `url`, for a `with` statement or to keep.

    The arguments are those of `promoter_core.connect`. The first call opens the connection. Without a `with`, it is
    closed by `close()` or at the end of the interpreter. Any number of threads can share it. A forked process can keep
    using it: it makes its own connections to the store on its first call.

        with connect("redis://localhost:6379") as backend:
            DelayedQueue(backend, "emails").schedule({"to": "ada@example.com"}, delay=300)

    Raises ConfigError (an invalid URL, an event loop running in this thread, threads patched by gevent or eventlet) or
    PluginError.
    """
    check_caller()
    make = (registry or installed()).backend
    return Connection(partial(make, url, credentials=credentials, clock=clock, layout=layout))


class Connection:
    """A backend for `promoter_core.sync`. Created by `connect`."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        """`make` returns a backend that is not open. It is called again after a fork."""
        self._make = make
        self._session = _Session(make())
        self._closed = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None and session.loop is not None and loops.is_current(session.loop):
            session.loop.close_soon(session)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection belongs to its process and cannot be pickled: call connect(…) in the other one")

    def open(self) -> None:
        """Open the connection before its first call, or again after `close`. Raises the errors of `Backend.open`."""
        check_caller()
        self._closed = False
        self.call(_nothing)

    def close(self) -> None:
        """Close the connection. Pending and later calls raise TransientError with the code CLOSED."""
        check_caller()
        with loops.lock:
            self._closed = True
            session, self._session = self._session, _Session(self._session.backend)
        if session.loop is not None and loops.is_current(session.loop):
            session.loop.call(session.close)

    def call(self, function: Callable[[Backend], Awaitable[T]]) -> T:
        """Return the result of `await function(backend)`, run in the background loop with the open backend."""
        return self._call(function, None)

    def _call(self, function: Callable[[Backend], Awaitable[T]], inbox: Inbox | None) -> T:
        """Like `call`; functions put into `inbox` meanwhile run in this thread."""
        loop = current_loop()
        session = self._session
        if session.loop is not loop or self._closed:
            session = self._enter(loop)
        answer: T = loop.call(session.run, function, inbox=inbox)
        return answer

    @property
    def _backend(self) -> Backend:
        """Return the asynchronous backend of this process. Its methods belong to the background loop."""
        return self._session.backend

    def _enter(self, loop: BackgroundLoop) -> _Session:
        with loops.lock:
            if self._closed:
                raise _closed_error()
            if self._session.loop not in (None, loop):  # after a fork: the backend's connections belong to the parent
                self._session = _Session(self._make())
            self._session.loop = loop
            return self._session


class _Session:
    """One backend from its opening to its end, in one event loop."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.loop: BackgroundLoop | None = None
        self._opening: asyncio.Lock | None = None
        self._is_open = False
        self._is_closed = False

    async def run(self, function: Callable[[Backend], Awaitable[T]]) -> T:
        if not self._is_open:
            await self._open()
        return await function(self.backend)

    async def _open(self) -> None:
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._is_closed:
                raise _closed_error()
            if self._is_open:
                return
            assert self.loop is not None
            self.loop.keep(self, self.close)
            try:
                await self.backend.open()
            except BaseException:
                self.loop.drop(self)
                with contextlib.suppress(Exception):
                    await self.backend.close()
                raise
            self._is_open = not self._is_closed
            if self._is_closed:  # closed meanwhile
                await self.backend.close()
                raise _closed_error()

    async def close(self) -> None:
        assert self.loop is not None
        self.loop.drop(self)
        self._is_open, self._is_closed = False, True
        await self.backend.close()


async def _nothing(backend: Backend) -> None:
    """Do nothing, to open the backend."""


def _closed_error() -> TransientError:
    return TransientError("the connection is closed: open() it, or use it inside `with connect(…)`", code="CLOSED")
