"""The options that URLs of all Redis-protocol servers share, read and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from promoter_core.errors import ConfigError
from promoter_core.urls import BackendUrl

KNOWN: dict[str, type[int] | type[str]] = {
    "command_timeout_ms": int,
    "db": int,
    "wait_replicas": int,
    "tls": int,
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}
COMMAND_TIMEOUT_MS = 5_000
TLS_SCHEMES = ("rediss", "valkeys", "glides")


@dataclass(frozen=True, slots=True)
class Options:
    """`tls_files` has those of tls_ca, tls_cert and tls_key that were given; each is a file that is there."""

    timeout_ms: int
    wait_replicas: int
    tls: bool
    tls_files: dict[str, str]

    @property
    def timeout_s(self) -> float:
        return self.timeout_ms / 1000


def read_options(url: BackendUrl) -> Options:
    """Raises ConfigError: an option that there is not, or a value that cannot work."""
    given = url.take(**KNOWN)
    options = Options(
        timeout_ms=int(given.get("command_timeout_ms", COMMAND_TIMEOUT_MS)),
        wait_replicas=int(given.get("wait_replicas", 0)),
        tls=url.scheme in TLS_SCHEMES or bool(given.get("tls", 0)),
        tls_files={name: str(given[name]) for name in ("tls_ca", "tls_cert", "tls_key") if name in given},
    )
    if options.timeout_ms < 1:
        raise ConfigError(f"{url}: command_timeout_ms must be at least 1")
    if options.wait_replicas < 0:
        raise ConfigError(f"{url}: wait_replicas must be 0 or more")
    if options.tls_files and not options.tls:
        raise ConfigError(f"{url}: TLS options need a URL with TLS, such as rediss:// or glides://, or tls=1")
    for file in options.tls_files.values():
        if not Path(file).is_file():
            raise ConfigError(f"{url}: there is no file {file}")
    return options
