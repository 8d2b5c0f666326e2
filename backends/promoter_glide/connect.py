"""`glide://` and its kin: the URL, read once, becomes GLIDE's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import glide

from promoter_core.errors import ConfigError
from promoter_core.urls import BackendUrl
from promoter_glide.driver import GlideDriver
from promoter_resp.backend import RespBackend

COMMAND_TIMEOUT_MS = 5_000
OPTIONS: dict[str, type[int] | type[str]] = {
    "command_timeout_ms": int,
    "db": int,
    "wait_replicas": int,
    "tls": int,
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}


def open_glide(url: BackendUrl) -> RespBackend:
    """`glide://[user:password@]host[:port][/db]`, `glides://` for TLS, `glide+cluster://host:port,host:port`."""
    options = url.take(**OPTIONS)
    timeout_ms = int(options.get("command_timeout_ms", COMMAND_TIMEOUT_MS))
    if timeout_ms < 1:
        raise ConfigError(f"{url}: command_timeout_ms must be at least 1")
    cluster = url.scheme == "glide+cluster"
    if cluster and int(options.get("wait_replicas", 0)):
        raise ConfigError(
            f"{url}: GLIDE does not say which node a WAIT goes to: for wait_replicas use redis+cluster://"
        )
    addresses = (url if cluster else url.one_host()).addresses(6379)
    settings: dict[str, Any] = {
        "addresses": [glide.NodeAddress(host, port) for host, port in addresses],
        "request_timeout": timeout_ms,
        "client_name": "promoter",
    }
    settings |= _tls(url, options, cluster)
    if url.password is not None:
        settings["credentials"] = glide.ServerCredentials(url.password, url.username)
    if database := url.database():
        settings["database_id"] = database
    glide.Logger.init(glide.LogLevel.ERROR)  # what goes wrong is raised; a logger set up before stays as it is
    where = ",".join(f"{host}:{port}" for host, port in addresses)
    driver = GlideDriver(settings, cluster=cluster, where=where, timeout_ms=timeout_ms, login=url.credentials)
    return RespBackend(driver, wait_replicas=int(options.get("wait_replicas", 0)))


def _tls(url: BackendUrl, options: dict[str, int | str], cluster: bool) -> dict[str, Any]:
    """GLIDE's options for TLS. The server's certificate is always checked, against `tls_ca` if it is given."""
    files = {"tls_ca": "root_pem_cacerts", "tls_cert": "client_cert_pem", "tls_key": "client_key_pem"}
    given = {theirs: options[ours] for ours, theirs in files.items() if ours in options}
    tls = url.scheme == "glides" or bool(options.get("tls", 0))
    if given and not tls:
        raise ConfigError(f"{url}: TLS options need a URL with TLS, such as glides://, or tls=1")
    pem = {}
    for name, file in given.items():
        try:
            pem[name] = Path(str(file)).read_bytes()
        except OSError as exc:
            raise ConfigError(f"{url}: {file} cannot be read: {exc.strerror}") from exc
    advanced: Any = glide.AdvancedGlideClusterClientConfiguration if cluster else glide.AdvancedGlideClientConfiguration
    config = {"advanced_config": advanced(tls_config=glide.TlsAdvancedConfiguration(**pem))} if pem else {}
    return {"use_tls": tls, **config}
