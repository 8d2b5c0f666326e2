"""The event loop behind `promoter_core.sync`: one per process, in a thread; a forked child makes its own."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import selectors
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from promoter_core.client.ulids import ULIDS
from promoter_core.spi.errors import ConfigError, TransientError

T = TypeVar("T")

CLOSE_S = 1.5  # at interpreter exit, for all connections to close
WAKE_S = 1.0  # a signal just before a lock wait does not interrupt it, so waits are this short
END_S = 3.0  # at interpreter exit, for the loop to end; then the interpreter continues


class BackgroundLoop:
    """An event loop in a daemon thread, for calls from any thread. It runs until the interpreter ends.

    A call costs one switch to the loop's thread and one back. anyio's BlockingPortal first waits for the loop to accept
    the call, and then for the answer: two of each, and half the rate.
    """

    def __init__(self) -> None:
        self._selector = _Selector()
        self._at_end: dict[object, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._ends = False
        self.pid = os.getpid()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="promoter-sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as exc:  # since Python 3.12: no thread can be started at exit
            self._selector.close()
            raise ending_error() from exc
        ready.result()

    def call(self, function: Callable[..., Awaitable[T]], *args: object, inbox: Inbox | None = None) -> T:
        """Return the result of `await function(*args)` in the loop.

        Meanwhile run functions from `inbox` in this thread.

        Anything that ends the wait cancels the call: KeyboardInterrupt, other exceptions of signal handlers, and errors
        of a function from the inbox.
        """
        call = _Call(function, args, inbox or Inbox())
        try:
            self._loop.call_soon_threadsafe(lambda: self._spawn(call.run()))  # in the context of the caller
            call.wait(self._thread)
        except BaseException as exc:
            if self._ends and isinstance(exc, RuntimeError):
                raise ending_error() from None
            self._soon(call.cancel)
            raise
        return call.answer()

    def keep(self, key: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `close` called at the end of the interpreter. Call it in the loop."""
        self._at_end[key] = close

    def drop(self, key: object) -> None:
        """Undo `keep`. Call it in the loop."""
        self._at_end.pop(key, None)

    def close_soon(self, key: object) -> None:
        """Close a kept object without waiting for it. Thread-safe."""

        async def close() -> None:
            if (kept := self._at_end.pop(key, None)) is not None:
                with contextlib.suppress(Exception):
                    await kept()

        self._soon(lambda: self._spawn(close()))

    def end(self) -> None:
        """Close kept objects, cancel pending calls, and end the thread, all in bounded time."""
        self._ends = True
        self._soon(lambda: self._spawn(self._finish()))
        self._thread.join(END_S)

    def abandon(self) -> None:
        """In a forked child, release the parent's sockets without notifying the server or the parent's loop."""
        self._selector.abandon()

    def _run(self, ready: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self._selector)) as runner:
                runner.run(self._serve(ready))
        except BaseException as exc:
            if ready.done():
                raise
            ready.set_exception(exc)

    async def _serve(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        ready.set_result(None)
        await self._stop.wait()  # the runner then cancels pending calls

    async def _finish(self) -> None:
        closing = [asyncio.ensure_future(close()) for close in self._at_end.values()]
        self._at_end.clear()
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_S)
        self._stop.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _soon(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)


Inbox = SimpleQueue[Callable[[], object] | None]  # functions for the waiting thread; None: the call has ended


class _Call(Generic[T]):
    """One call, from the waiting thread to the loop and back."""

    def __init__(self, function: Callable[..., Awaitable[T]], args: tuple[object, ...], inbox: Inbox) -> None:
        self._function = function
        self._inbox = inbox
        self._args = args
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False
        self._result: T
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Run the call, in the loop. Never raises: a BaseException would end the loop."""
        self._task = asyncio.current_task()
        try:
            if self._given_up:
                raise asyncio.CancelledError
            self._result = await self._function(*self._args)
        except BaseException as exc:
            self._error = exc
        finally:
            self._task = None
            self._inbox.put(None)

    def wait(self, thread: threading.Thread) -> None:
        """Wait, in the calling thread, until `run` has ended."""
        while True:
            try:
                job = self._inbox.get(timeout=WAKE_S)
            except Empty:
                if thread.is_alive():
                    continue
                raise ending_error() from None  # cancelled before it started
            if job is None:
                return
            job()

    def cancel(self) -> None:
        """Cancel, in the loop, before, during or after `run`."""
        self._given_up = True
        if self._task is not None:
            self._task.cancel()

    def answer(self) -> T:
        """Return the answer, in the calling thread."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            if isinstance(error, asyncio.CancelledError):
                raise ending_error() from None
            raise error
        finally:
            del error  # breaks a reference cycle with this frame


class _Selector(selectors.DefaultSelector):
    """A selector that a forked child can abandon: the parent shares the kernel's set behind it."""

    _abandoned = False

    def abandon(self) -> None:
        """Replace every socket by /dev/null, so that closing one later has no effect."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in list(self.get_map() or ()):
            os.dup2(null, fd, inheritable=False)
        os.close(null)
        self._abandoned = True
        self.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {} if self._abandoned else super().get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        if self._abandoned:
            raise KeyError(fileobj)
        return super().get_key(fileobj)


lock = threading.RLock()  # reentrant, because a signal handler may make a call
_current: BackgroundLoop | None = None
_inherited: list[BackgroundLoop] = []  # kept in a child process: collecting one would close the parent's connections
_ended = False


def current_loop() -> BackgroundLoop:
    """Return this process's loop, started on first use. Raises ConfigError or TransientError."""
    check_caller()
    loop = _current
    if loop is not None and loop.pid == os.getpid():
        return loop
    if loop is not None:  # forked without Python's hooks, for example by uWSGI
        ULIDS.reset()
        _after_fork()
    return _begin()


def _begin() -> BackgroundLoop:
    global _current
    with lock:
        if _ended:
            raise ending_error()
        if _current is None:
            _current = BackgroundLoop()
        return _current


def is_current(loop: BackgroundLoop) -> bool:
    """Return whether the loop runs in this process."""
    return loop is _current and loop.pid == os.getpid()


def check_caller() -> None:
    """Raise ConfigError where a blocking call, or a thread with an event loop, cannot work."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigError(
            "promoter_core.sync would block the event loop that runs in this thread: here use `async with "
            "promoter_core.connect(…)` and `await` the methods of promoter_core.DelayedQueue"
        )
    for library, module, question in _PATCHES:
        if (patcher := sys.modules.get(module)) is not None and any(getattr(patcher, question)(m) for m in _PATCHED):
            raise ConfigError(
                f"promoter_core.sync runs an event loop in a thread, which {library}'s monkey patching does not allow: "
                "use threads instead, as with `gunicorn --worker-class gthread`"
            )
    if (uwsgi := sys.modules.get("uwsgi")) is not None and not _THREADS & set(uwsgi.opt):
        raise ConfigError(
            "promoter_core.sync runs an event loop in a thread, and uWSGI runs none without its option enable-threads: "
            "start it with --enable-threads"
        )


_THREADS = {"enable-threads", "threads", b"enable-threads", b"threads"}
_PATCHES = (
    ("gevent", "gevent.monkey", "is_module_patched"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched"),
)
_PATCHED = ("thread", "socket", "select")


def ending_error() -> TransientError:
    return TransientError("the interpreter is ending: promoter_core.sync accepts no more calls", code="CLOSED")


def _after_fork() -> None:
    global lock, _current
    lock = threading.RLock()
    if _current is not None:
        _inherited.append(_current)
        _current.abandon()
        _current = None


def _at_exit() -> None:
    global _current, _ended
    with lock:
        _ended, loop, _current = True, _current, None
    if loop is not None:
        loop.end()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
