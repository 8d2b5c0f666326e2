"""The options that URLs of all Redis-protocol servers share, read and checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promoter_core.spi import BackendUrl, ConfigError, url_options

KNOWN: dict[str, Callable[[str], Any]] = {
    "command_timeout_ms": url_options.whole(1),
    "db": url_options.whole(),
    "wait_replicas": url_options.whole(),
    "tls": url_options.boolean,
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}
SENTINELS: dict[str, Callable[[str], Any]] = {
    "sentinel_username": str,
    "sentinel_password": str,
    "sentinel_tls": url_options.boolean,
}
COMMAND_TIMEOUT_MS = 5_000
TLS_SCHEMES = ("rediss", "valkeys", "glides")


@dataclass(frozen=True, slots=True)
class Options:
    """`tls_files` has the given ones of tls_ca, tls_cert and tls_key; each is an existing file.

    Options with the prefix `sentinel_` are for the connections to sentinels; `tls_files` are for both.
    """

    timeout_ms: int
    wait_replicas: int
    tls: bool
    tls_files: dict[str, str]
    sentinel_tls: bool = False
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)  # username and password, if given

    @property
    def timeout_s(self) -> float:
        return self.timeout_ms / 1000


def read_options(url: BackendUrl, *, sentinels: bool = False) -> Options:
    """Read the options of a URL; `sentinels`: the URL names sentinels.

    Raises ConfigError for an unknown option or an invalid value.
    """
    given = url.take(**KNOWN, **(SENTINELS if sentinels else {}))
    tls = url.scheme in TLS_SCHEMES or given.get("tls", False)
    options = Options(
        timeout_ms=given.get("command_timeout_ms", COMMAND_TIMEOUT_MS),
        wait_replicas=given.get("wait_replicas", 0),
        tls=tls,
        tls_files={name: given[name] for name in ("tls_ca", "tls_cert", "tls_key") if name in given},
        sentinel_tls=given.get("sentinel_tls", tls),
        sentinel_login={
            name: given[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in given
        },
    )
    if "username" in options.sentinel_login and "password" not in options.sentinel_login:
        raise ConfigError(f"{url}: sentinel_username needs sentinel_password")
    if options.tls_files and not (options.tls or (sentinels and options.sentinel_tls)):
        raise ConfigError(f"{url}: TLS options need a URL with TLS, such as rediss:// or glides://, or tls=1")
    for file in options.tls_files.values():
        if not Path(file).is_file():
            raise ConfigError(f"{url}: there is no file {file}")
    return options
