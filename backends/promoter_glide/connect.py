"""Turn `glide://`, `glides://` and `glide+cluster://` URLs into GLIDE's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import glide

from promoter_core.spi import BackendUrl, ConfigError
from promoter_glide.driver import GlideDriver
from promoter_resp.backend import RespBackend
from promoter_resp.in_place_backend import resp_backend
from promoter_resp.url_options import Options, read_options

CONNECT_MS = 2_000  # GLIDE's own limit
PEM = {"tls_ca": "root_pem_cacerts", "tls_cert": "client_cert_pem", "tls_key": "client_key_pem"}


def open_glide(url: BackendUrl) -> RespBackend:
    """`glide://[user:password@]host[:port][/db]`, `glides://` for TLS, `glide+cluster://host:port,host:port`."""
    options = read_options(url)
    cluster = url.scheme == "glide+cluster"
    if cluster and options.wait_replicas:
        raise ConfigError(
            f"{url}: GLIDE does not say which node a WAIT goes to: for wait_replicas use redis+cluster://"
        )
    addresses = (url if cluster else url.one_host()).addresses(6379)
    settings: dict[str, Any] = {
        "addresses": [glide.NodeAddress(host, port) for host, port in addresses],
        "request_timeout": options.timeout_ms,
        "client_name": "promoter",
        "use_tls": options.tls,
    }
    advanced: Any = glide.AdvancedGlideClusterClientConfiguration if cluster else glide.AdvancedGlideClientConfiguration
    settings["advanced_config"] = advanced(
        connection_timeout=min(options.timeout_ms, CONNECT_MS), tls_config=_tls(options) if options.tls_files else None
    )
    if url.password is not None:
        settings["credentials"] = glide.ServerCredentials(url.password, url.username)
    if database := url.database():
        settings["database_id"] = database
    # GLIDE logs to stdout, and raises its errors anyway. An existing logger stays.
    glide.Logger.init(glide.LogLevel.OFF)
    where = ",".join(f"{host}:{port}" for host, port in addresses)
    driver = GlideDriver(
        settings,
        cluster=cluster,
        where=where,
        timeout_ms=options.timeout_ms,
        login=url.credentials,
        layout=url.layout,
    )
    return resp_backend(driver, wait_replicas=options.wait_replicas, timeout_ms=options.timeout_ms, layout=url.layout)


def _tls(options: Options) -> glide.TlsAdvancedConfiguration:
    """Always verify the server's certificate, with `tls_ca` if given."""
    return glide.TlsAdvancedConfiguration(**{PEM[name]: Path(f).read_bytes() for name, f in options.tls_files.items()})
