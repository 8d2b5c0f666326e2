"""`run` and `Popen` as in subprocess, for this Python: a process begins as a fork of one that has imported everything.

An import of the command line, the drivers and their libraries takes 0.3 s of CPU, and the suite starts a thousand
processes. The child is a process like another: with its pid, its signals, its exit code and its files. What differs is
said in `forkable`; a test about the start of Python, or about what is imported, uses subprocess.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES: list[str] = [
    *("glide", "redis.asyncio", "redis.asyncio.sentinel", "redis.asyncio.cluster", "fakeredis", "msgpack", "uvloop"),
    *("typer.main", "typer._adapters", "rich.console", "rich.live", "rich.table", "rich.progress", "textual.app"),
    *("aiohttp.web", "starlette.applications", "uvicorn", "jinja2", "statsd", "prometheus_client"),
    *(f"promoter_{plugin}.plugin" for plugin in ("logging", "prometheus", "opentelemetry", "statsd", "webhook")),
    *(f"promoter_{plugin}.plugin" for plugin in ("pubsub", "serializers")),
]
PACKAGES: list[str] = [
    *("promoter_core", "promoter_memory", "promoter_resp", "promoter_redis", "promoter_glide"),
    *("promoter_layouts", "promoter_ui", "promoter_demo", "promoter_bench"),
]
# pytest rewrites the asserts of the kit when a test imports it; demos import frameworks, and read their environment.
NOT = ("promoter_core.testing", "promoter_core.__main__", "promoter_layouts.demos")
# A program that runs in a fork of a process of its own, which has imported these alone. Of pytest not what it rewrites.
PROGRAMS: dict[str, list[str]] = {
    "pytest": [
        *("pytest", "pytest_asyncio.plugin", "anyio.pytest_plugin", "xdist.plugin", "pytest_cov.plugin"),
        *("_hypothesis_pytestplugin", "hypothesis.strategies", "hypothesis.extra._patching", "pytest_timeout"),
        *("trio", "msgpack", "ulid"),
    ],
    "sphinx": ["sphinx.cmd.build", "sphinx.builders.html", "myst_parser.sphinx_ext.main", "furo"],
}
# The interpreter reads these when it begins.
AT_START = ("PYTHON", "LD_", "DYLD_", "LC_", "LANG")
STATUS = struct.Struct("ii")  # the pid, the code
LARGEST = 150_000
_is_fork = False  # in the process that forks, and in its forks


def forkable(args: Any, options: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether the process can begin as a fork: `python [-W error] -m module`, or `-c code`, on Linux.

    A fork forks nothing itself: what it imports could begin one more such process, and so on.
    """
    if _is_fork or sys.platform != "linux" or isinstance(args, str | bytes | os.PathLike):
        return False
    words = [os.fspath(word) for word in args]
    if words[:3] == [sys.executable, "-W", "error"]:
        words[1:3] = []
    if len(words) < 3 or words[0] != sys.executable or words[1] not in ("-m", "-c"):
        return False
    if any(options.get(name) for name in ("preexec_fn", "pass_fds", "shell", "user", "group", "extra_groups")):
        return False
    differs = {name for name, _ in set(environment.items()) ^ set(os.environ.items())}
    return not any(name.startswith(AT_START) for name in differs) and sum(map(len, words)) < LARGEST / 2


class Popen(subprocess.Popen[Any]):
    """As subprocess.Popen."""

    _status: socket.socket | None = None

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        env = options.get("env")
        self._forks = forkable(args, options, os.environ if env is None else env)
        super().__init__(args, *more, **options)

    def _execute_child(self, *more: Any) -> None:
        begin: Any = super()._execute_child  # type: ignore[misc]
        if not self._forks:
            begin(*more)
            return
        given = inspect.signature(begin).bind(*more).arguments
        env = given["env"]
        request = {
            "args": [os.fspath(word) for word in given["args"]],
            "cwd": os.fspath(given["cwd"] or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": bool(given["start_new_session"]),
            "group": given["process_group"],
        }
        ours, theirs = socket.socketpair()
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        files = [end if end >= 0 else own for own, end in enumerate(ends)]
        try:
            _, kind, what, *_ = request["args"]
            _interpreter(what if kind == "-m" and what in PROGRAMS else "").send(request, [*files, theirs.fileno()])
        finally:
            theirs.close()
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(given[name] for name in pipes))  # type: ignore[attr-defined]
        self._status = ours
        self.pid = self._received()[0]
        self._child_created = True

    def _received(self) -> tuple[int, int]:
        assert self._status is not None
        got = b""
        while len(got) < STATUS.size:
            part = self._status.recv(STATUS.size - len(got))
            assert part, "the process that forks has ended"
            got += part
        pid, code = STATUS.unpack(got)
        return pid, code

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        received = self._received()
        self._status.close()
        return received

    def _internal_poll(self, *more: Any, **named: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*more, **named)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, code = self._try_wait(os.WNOHANG) if self.returncode is None else (0, 0)
                if pid == self.pid:
                    self._handle_exitstatus(code)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run(
    args: Sequence[Any],
    *,
    input: str | bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """As subprocess.run."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(args, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


class _Interpreter:
    """The process that forks: one of each process of the suite, begun at its first use. It ends with its parent."""

    def __init__(self, program: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST * 2)
        command = [
            sys.executable,
            "-c",
            f"from tests import processes; processes.serve({theirs.fileno()}, {program!r})",
        ]
        root = str(Path(__file__).parents[1])
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=root, start_new_session=True
        )
        theirs.close()
        self._requests = ours
        atexit.register(self.close)

    def send(self, request: dict[str, Any], files: list[int]) -> None:
        socket.send_fds(self._requests, [json.dumps(request).encode()], files)

    def close(self) -> None:
        self._requests.close()
        self.process.wait()


_lock = threading.Lock()
_begun: dict[str, _Interpreter] = {}


def _interpreter(program: str) -> _Interpreter:
    with _lock:
        if program not in _begun:
            _begun[program] = _Interpreter(program)
        return _begun[program]


def modules() -> Iterator[str]:
    """The modules of Promoter that are imported. Its packages are, as they are passed."""
    for package in map(importlib.import_module, PACKAGES):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.startswith(NOT):
                yield found.name


def _import_everything(program: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in PROGRAMS.get(program, LIBRARIES):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        for name in () if program else modules():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def serve(requests_fd: int, program: str) -> None:
    """Fork for each request until the other end closes; report each child's pid, and then its exit."""
    global _is_fork
    _is_fork = True
    requests = socket.socket(fileno=requests_fd)
    _import_everything(program)
    gc.collect()
    gc.freeze()  # else each child copies all pages when it collects
    awake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 1000)
            _reap(children)
        if requests.fileno() not in ready:
            continue
        text, files, _, _ = socket.recv_fds(requests, LARGEST * 2, 4)
        if not text:
            break
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _become(json.loads(text), files[:3])
        children[pid] = socket.socket(fileno=files[3])
        children[pid].send(STATUS.pack(pid, 0))
        for file in files[:3]:
            os.close(file)


def _reap(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.closing(children.pop(pid)) as asks, contextlib.suppress(OSError):
            asks.send(STATUS.pack(pid, status))


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run what the request says, as Python would, and end the process."""
    code = 70
    try:
        for to, file in enumerate(files):
            os.dup2(file, to + 100)
        for to in range(3):
            os.dup2(to + 100, to)
        os.closerange(3, 1024)
        if request["session"]:
            os.setsid()
        elif request["group"] >= 0:
            os.setpgid(0, request["group"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8", "strict")
        sys.stdout = _text(1, "strict")
        sys.stderr = _text(2, "backslashreplace", line_buffering=True)
        vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
        code = _run(request["args"])
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):  # it is closed
                stream.flush()
    except BaseException:
        code = code or 120
    finally:
        os._exit(code)


def _text(fd: int, errors: str, *, line_buffering: bool = False) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors, line_buffering=line_buffering or os.isatty(fd))


def _run(args: list[str]) -> int:
    sys.orig_argv = list(args)
    if args[1] == "-W":
        warnings.simplefilter(args[2])  # type: ignore[arg-type]
        args[1:3] = []
    kind, what, *words = args[1:]
    try:
        if kind == "-c":
            sys.argv = ["-c", *words]
            sys.path[0] = ""
            main = sys.modules["__main__"] = ModuleType("__main__")
            main.__dict__["__builtins__"] = __builtins__
            exec(compile(what, "<string>", "exec"), main.__dict__)
        else:
            sys.argv = [what, *words]
            sys.path[0] = str(Path.cwd())
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return (end.code or 0) & 255
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
