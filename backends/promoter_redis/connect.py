"""Turn `redis://` and related URLs into connections."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from promoter_core.spi import BackendUrl, ConfigError, host_port
from promoter_redis.credentials import Rotating
from promoter_redis.driver import RedisDriver
from promoter_redis.sentinel import Sentinels
from promoter_resp.backend import RespBackend
from promoter_resp.in_place_backend import resp_backend
from promoter_resp.url_options import Options, read_options

PEM = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}
BY_TLS = " (by TLS)"  # a plain-text port does not answer TLS


def open_redis(url: BackendUrl) -> RespBackend:
    """Open `redis://[user:password@]host[:port][/db][?command_timeout_ms=…]`, `rediss://` or `unix:///path?db=…`.

    `rediss://` uses TLS. `valkey://` and `valkeys://` mean the same as `redis://` and `rediss://`.
    """
    options = read_options(url)
    timeout_s, layout = options.timeout_s, url.layout
    kwargs = _login(url) | _tls(options)
    if url.scheme == "unix":
        if not url.path:
            raise ConfigError(f"{url}: expected the path of a socket, as unix:///run/redis.sock")
        if options.tls:
            raise ConfigError(f"{url}: a socket of this machine has no TLS; leave tls=1 out")
        pool = make_pool(
            UnixDomainSocketConnection, timeout_s, path=url.path, db=int(url.options.get("db", "0")), **kwargs
        )
        return _backend(RedisDriver(pool, where=url.path, timeout_s=timeout_s, layout=layout), options, url)
    host, port = url.one_host().addresses(6379)[0]
    kwargs |= {"host": host, "port": port, "db": url.database(), "socket_keepalive": True}
    pool = make_pool(SSLConnection if options.tls else Connection, timeout_s, **kwargs)
    where = f"{host}:{port}{BY_TLS if options.tls else ''}"
    return _backend(RedisDriver(pool, where=where, timeout_s=timeout_s, layout=layout), options, url)


def open_sentinel(url: BackendUrl) -> RespBackend:
    """Open `redis+sentinel://[user:password@]host[:26379],host…/service[/db][?tls=1]`: the primary that sentinels name.

    `sentinel_username`, `sentinel_password` and `sentinel_tls` are for the connections to the sentinels.
    """
    options = read_options(url, sentinels=True)
    timeout_s, layout = options.timeout_s, url.layout
    service, _, database = url.path.strip("/").partition("/")
    if not service or not (database or "0").isdigit():
        raise ConfigError(f"{url}: expected redis+sentinel://host:26379,host:26379/service, or …/service/0")
    tls = _tls(options)
    asked = plain(timeout_s) | {"socket_keepalive": True} | options.sentinel_login

    def make_sentinel(host: str, port: int) -> Any:
        if options.sentinel_tls:
            return SSLConnection(host=host, port=port, **asked, **tls)
        return Connection(host=host, port=port, **asked)

    pool = make_pool(
        SSLConnection if options.tls else Connection,
        timeout_s,
        db=int(database or url.options.get("db", "0")),
        socket_keepalive=True,
        **_login(url),
        **(tls if options.tls else {}),
    )
    sentinels = Sentinels(make_sentinel, url.addresses(26379), service, timeout_s=timeout_s)
    where = f"the primary of {service!r}"
    return _backend(
        RedisDriver(pool, where=where, timeout_s=timeout_s, sentinels=sentinels, layout=layout), options, url
    )


def open_cluster(url: BackendUrl) -> RespBackend:
    """Open `redis+cluster://[user:password@]host[:6379],host…[?tls=1]`: some nodes, which lead to the others."""
    from promoter_redis.cluster import ClusterDriver  # imported here, because only clusters need it

    options = read_options(url)
    timeout_s, layout = options.timeout_s, url.layout
    if url.database():
        raise ConfigError(f"{url}: a cluster has the database 0 only")
    seeds = url.addresses(6379)
    connection_class = SSLConnection if options.tls else Connection
    kwargs = _login(url) | _tls(options)

    def make_node(host: str, port: int) -> RedisDriver:
        pool = make_pool(connection_class, timeout_s, host=host, port=port, socket_keepalive=True, **kwargs)
        where = host_port(host, port) + (BY_TLS if options.tls else "")
        return RedisDriver(pool, where=where, timeout_s=timeout_s, layout=layout)

    where = ",".join(host_port(host, port) for host, port in seeds)
    return _backend(ClusterDriver(seeds, make_node, where=where), options, url)


def plain(timeout_s: float) -> dict[str, Any]:
    """Return arguments for RESP2, bytes, and no retries: a write whose reply was lost must not be sent again.

    `connections.py` limits commands in time: redis-py's own `socket_timeout` can swallow a cancellation.
    """
    return {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }


def make_pool(connection_class: Any, timeout_s: float, **kwargs: Any) -> Any:
    return ConnectionPool(connection_class=connection_class, **plain(timeout_s), **kwargs)


def _backend(driver: Any, options: Options, url: BackendUrl) -> RespBackend:
    return resp_backend(driver, wait_replicas=options.wait_replicas, timeout_ms=options.timeout_ms, layout=url.layout)


def _login(url: BackendUrl) -> dict[str, Any]:
    if url.credentials is not None:
        return {"credential_provider": Rotating(url.credentials)}
    return {"username": url.username, "password": url.password}


def _tls(options: Options) -> dict[str, Any]:
    """Always verify the server's certificate, with `tls_ca` if given, and the host name in it.

    Both are explicit because redis-py's defaults have changed: before version 6 the name was not checked.
    """
    if not (options.tls or options.sentinel_tls):
        return {}
    files = {PEM[name]: file for name, file in options.tls_files.items()}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True} | files
