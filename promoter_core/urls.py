"""Backend URLs, parsed once. Nothing here ever shows a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from promoter_core.errors import ConfigError

_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """`scheme://user:password@host:port/path?option=value`, with everything percent-decoded."""

    scheme: str
    host: str | None = None
    port: int | None = None
    path: str = ""  # with its leading slash
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    netloc: str = field(default="", repr=False)  # as given, for URLs that name several hosts

    def __str__(self) -> str:
        user = f"{self.username or ''}:{_HIDDEN}@" if self.password is not None else ""
        user = user or (f"{self.username}@" if self.username else "")
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host or ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    def take(self, **known: type[int] | type[str]) -> dict[str, int | str]:
        """The options, converted. Raises ConfigError on an option that is not among `known`, or not of its type."""
        taken: dict[str, int | str] = {}
        for name, value in self.options.items():
            if name not in known:
                choices = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{self}: unknown option {name!r}; options are: {choices}")
            try:
                taken[name] = known[name](value)
            except ValueError:
                raise ConfigError(f"{self}: option {name!r} must be a whole number, not {value!r}") from None
        return taken


def parse_url(url: object) -> BackendUrl:
    """Raises ConfigError, without the password, when `url` is no URL."""
    if not isinstance(url, str) or "://" not in url:
        shown = f"{url!r}" if isinstance(url, str) and "@" not in url else "what was given"
        raise ConfigError(f"{shown} is no backend URL: expected scheme://…, such as redis://localhost:6379")
    try:
        parts = urlsplit(url)
        many_hosts = "," in parts.netloc
        port = None if many_hosts else parts.port
        host = None if many_hosts else parts.hostname
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as exc:
        reason = str(exc) if "@" not in str(exc) else "it is malformed"
        raise ConfigError(f"the {url.split('://')[0]}:// URL cannot be read: {reason}") from None
    return BackendUrl(
        scheme=parts.scheme.lower(),
        host=unquote(host) if host else None,
        port=port,
        path=unquote(parts.path),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
        options=options,
        netloc=parts.netloc,
    )
