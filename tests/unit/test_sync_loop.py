"""The event loop of `promoter_core.sync`: signals, other libraries, and the end of the interpreter."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import types
from importlib.util import find_spec

import pytest

from promoter_core import ConfigError, TransientError
from promoter_core.sync import DelayedQueue, connect
from promoter_memory.backend import MemoryBackend
from tests.typed import present
from tests.unit.sync_backends import made


@pytest.fixture
def backend():
    with connect("memory://") as backend:
        yield backend


@pytest.fixture
def queue(backend):
    return DelayedQueue(backend, "q")


def python(code, *arguments, timeout=60):
    """A process that runs `code`. The time is generous: it tells an end from none."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_where_an_event_loop_runs_the_asynchronous_names_are_given(queue):
    async def main():
        for call in (queue.stats, lambda: connect("memory://"), lambda: queue.schedule(1)):
            with pytest.raises(ConfigError, match=r"promoter_core.connect\(…\).*promoter_core.DelayedQueue"):
                call()
        return await asyncio.to_thread(queue.stats)  # a thread beside it has none

    assert asyncio.run(main()).depth == 0


PATCHED = """
import {library}.{module}
{library}.{patch}()
from promoter_core import ConfigError
from promoter_core.sync import connect
try:
    connect("memory://")
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("library", "module", "patch"), [("gevent", "monkey", "monkey.patch_all"), ("eventlet", "patcher", "monkey_patch")]
)
def test_gevent_and_eventlet_are_refused_in_one_line(library, module, patch):
    if find_spec(library) is None:  # not imported: eventlet then warns at each fork
        pytest.skip(f"{library} is not installed")
    run = subprocess.run(
        [sys.executable, "-c", PATCHED.format(library=library, module=module, patch=patch)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"{library}'s monkey patching does not allow" in run.stdout, run.stderr
    assert "gthread" in run.stdout


@pytest.mark.parametrize(("option", "refused"), [("processes", True), ("threads", False), ("enable-threads", False)])
def test_uwsgi_without_threads_is_refused_in_one_line(monkeypatch, option, refused):
    uwsgi = types.ModuleType("uwsgi")
    vars(uwsgi)["opt"] = {option: b"4"}
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    if refused:
        with pytest.raises(ConfigError, match="start it with --enable-threads"):
            connect("memory://")
    else:
        connect("memory://")


def test_gevent_without_patched_threads_is_no_obstacle():
    if find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    code = """
import gevent.monkey
from promoter_core.sync import *
with connect("memory://") as backend:
    DelayedQueue(backend, "q").stats()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class Hanging(MemoryBackend):
    """Its `stats` waits until it is cancelled."""

    def __init__(self):
        super().__init__()
        self.begun, self.cancelled = threading.Event(), threading.Event()

    async def stats(self, queue):
        if queue != "hang":
            return await super().stats(queue)
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_signal_during_a_call_cancels_it_and_the_next_call_works(error):
    hanging = Hanging()

    def handler(*_):
        raise error

    def interrupt():
        hanging.begun.wait()
        signal.pthread_kill(present(threading.main_thread().ident), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with connect("made://", registry=made(lambda: hanging)) as backend:
            threading.Thread(target=interrupt).start()
            with pytest.raises(error):
                DelayedQueue(backend, "hang").stats()
            assert hanging.cancelled.wait(30)
            assert DelayedQueue(backend, "q").stats().depth == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signals_handler_may_make_a_call_during_a_call(queue):
    answers = []

    def handler(*_):
        answers.append(queue.stats().depth)
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        for n in range(300):
            queue.schedule(n, delay=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert queue.stats().depth == 300
    assert answers == sorted(answers)
    assert answers


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_whatever_a_call_raises_the_loop_goes_on(error):
    class Raising(MemoryBackend):
        async def stats(self, queue):
            raise error

    with connect("made://", registry=made(Raising)) as backend:
        queue = DelayedQueue(backend, "q")
        with pytest.raises(TransientError if error is asyncio.CancelledError else error):
            queue.stats()
        assert queue.schedule(1, delay=60).created


def test_a_connection_that_nobody_keeps_is_closed():
    closed = threading.Event()

    class Noted(MemoryBackend):
        async def close(self):
            closed.set()
            await super().close()

    connect("made://", registry=made(Noted)).open()
    gc.collect()
    assert closed.wait(30)


EXITS = {
    "used and left open": "queue.stats()",
    "never used": "",
    "an iterator is left": "import promoter_core.sync.blocking as b; it = b._iterate(backend, numbers); next(it)",
    "a call of a daemon thread": "threading.Thread(target=hang, daemon=True).start(); begun.wait()",
    "a call in an exit handler": "queue.stats(); atexit.register(lambda: print(queue.stats().depth))",
    "sys.exit in a call": "threading.Thread(target=hang, daemon=True).start(); begun.wait(); print('end'); sys.exit(0)",
    "a close that hangs": "backend._backend.close = forever; queue.stats()",
}
EXIT = """
import asyncio, atexit, sys, threading
from promoter_core.sync import DelayedQueue, connect

backend = connect("memory://")
queue = DelayedQueue(backend, "q")
begun = threading.Event()

async def forever(*_):
    begun.set()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if sys.argv[1] != "a close that hangs":
                raise

async def numbers(backend):
    while True:
        yield 1

def hang():
    try:
        backend.call(forever)
    except Exception:
        pass
"""


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends(how):
    run = python(EXIT + EXITS[how] + "\nprint('end')\n", how)
    assert (run.returncode, run.stderr) == (0, ""), run
    assert run.stdout == ("end\n0\n" if "handler" in how else "end\n")


def test_after_the_end_of_the_loop_a_call_says_so():
    code = """
import atexit
atexit.register(lambda: print(error()))
from promoter_core.sync import DelayedQueue, connect
queue = DelayedQueue(connect("memory://"), "q")
def error():
    try:
        queue.stats()
    except Exception as exc:
        return f"{exc.code} {exc}"
"""
    assert python(code).stdout == "CLOSED the interpreter is ending: promoter_core.sync accepts no more calls\n"
