"""`redis://` and its kin: the URL, read once, becomes a pool of connections."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from promoter_core.errors import ConfigError
from promoter_core.urls import BackendUrl
from promoter_redis.driver import RedisDriver
from promoter_resp.backend import RespBackend

COMMAND_TIMEOUT_MS = 5_000
TLS = ("rediss", "valkeys")


def open_redis(url: BackendUrl) -> RespBackend:
    """`redis://[user:password@]host[:port][/db][?command_timeout_ms=…]`, `rediss://` for TLS, `unix:///path?db=…`.

    `valkey://` and `valkeys://` are the same as `redis://` and `rediss://`.
    """
    options = url.take(command_timeout_ms=int, db=int)
    timeout_s = int(options.get("command_timeout_ms", COMMAND_TIMEOUT_MS)) / 1000
    if timeout_s <= 0:
        raise ConfigError(f"{url}: command_timeout_ms must be at least 1")
    kwargs: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "db": 0 if url.scheme == "unix" else url.database(),
    }
    if url.scheme == "unix":
        if not url.path:
            raise ConfigError(f"{url}: expected the path of a socket, as unix:///run/redis.sock")
        connection: Any = UnixDomainSocketConnection
        where = url.path
        kwargs |= {"path": url.path, "db": int(options.get("db", 0))}
    else:
        connection = SSLConnection if url.scheme in TLS else Connection
        host, port = url.one_host().addresses(6379)[0]
        kwargs |= {"host": host, "port": port, "socket_keepalive": True}
        where = f"{kwargs['host']}:{kwargs['port']}"
    return RespBackend(RedisDriver(make_pool(connection, timeout_s, **kwargs), where=where, timeout_s=timeout_s))


def make_pool(connection_class: Any, timeout_s: float, **kwargs: Any) -> Any:
    """RESP2, bytes, timeouts, and no retries: a write whose reply was lost must not be sent again below us."""
    return ConnectionPool(
        connection_class=connection_class,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        retry_on_error=[],
        **kwargs,
    )
