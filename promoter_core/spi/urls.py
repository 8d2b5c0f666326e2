"""Backend URLs, parsed once. Nothing here ever shows a password."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import ConfigError
from promoter_core.spi.layouts import Layout

_HIDDEN = "***"

# Called for each new connection, so passwords can rotate. Returns the user (None: the default user) and the password.
Credentials = Callable[[], Awaitable[tuple[str | None, str]]]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class BackendUrl:
    """`scheme://user:password@host:port/path?option=value`, percent-decoded."""

    scheme: str
    hosts: tuple[tuple[str, int | None], ...] = ()  # with ports; several for a cluster or sentinels
    path: str = ""  # with the leading slash
    username: str | None = None
    password: str | None = None
    options: dict[str, str] = field(default_factory=dict)  # may hold secrets
    credentials: Credentials | None = None  # replaces username and password
    clock: Clock | None = None  # for tests of a store inside this process
    layout: Layout | None = None  # the requested layout; needs a backend with `LayoutSupport`

    @property
    def host(self) -> str | None:
        return self.hosts[0][0] if self.hosts else None

    @property
    def port(self) -> int | None:
        return self.hosts[0][1] if self.hosts else None

    def __str__(self) -> str:
        user = f"{self.username or ''}:{_HIDDEN}@" if self.password is not None else ""
        user = user or (f"{_HIDDEN}@" if self.username else "")  # a user alone may be a misplaced password
        path = self.path if "@" not in self.path else f"/{_HIDDEN}"  # a password may have started with a /
        return f"{self.scheme}://{user}{','.join(host_port(*host) for host in self.hosts)}{path}"

    def __repr__(self) -> str:
        return f"<BackendUrl {self}>"

    def addresses(self, port: int) -> list[tuple[str, int]]:
        """Return the hosts, with `port` for those without one; localhost when the URL names no host."""
        return [(name, port if given is None else given) for name, given in self.hosts or (("localhost", None),)]

    def database(self) -> int:
        """Return the number of the database, from the path or the option `db`. Raises ConfigError."""
        text = self.path.removeprefix("/") or self.options.get("db", "0")
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"{self}: the path must be the number of a database, such as /0")
        return int(text)

    def one_host(self) -> BackendUrl:
        """Return this URL. Raises ConfigError when it names several hosts."""
        if len(self.hosts) > 1:
            raise ConfigError(f"{self}: {self.scheme}:// takes one host, not {len(self.hosts)}")
        return self

    def take(self, **known: Callable[[str], Any]) -> dict[str, Any]:
        """Return the given options, converted. Raises ConfigError for an unknown option or an invalid value.

        A converter is `str`, `int`, one of `url_options`, or another callable that raises ValueError with what it
        expects.

            options = url.take(schema=str, timeout_ms=url_options.whole(1, 60_000))
            timeout_ms = options.get("timeout_ms", 5_000)
        """
        taken: dict[str, Any] = {}
        for name, value in self.options.items():
            if name not in known:
                choices = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{self}: unknown option {name!r}; options are: {choices}")
            try:
                taken[name] = known[name](value)
            except ValueError as exc:
                expected = "a whole number" if known[name] is int else exc
                raise ConfigError(f"{self}: option {name!r} must be {expected}, not {value!r}") from None
        return taken


def parse_url(url: object) -> BackendUrl:
    """Parse a URL. Raises ConfigError when `url` is invalid, without showing any part that may belong to a password."""
    if not isinstance(url, str) or "://" not in url:
        shown = f"{url!r}" if isinstance(url, str) and not _SECRET.search(url) else "this"
        raise ConfigError(f"{shown} is not a backend URL: expected scheme://…, such as redis://localhost:6379")
    scheme, _, rest = url.partition("://")
    if not _SCHEME.fullmatch(scheme):
        raise ConfigError("this is not a backend URL: expected scheme://…, such as redis://localhost:6379")
    parsed = _parse(scheme.lower(), rest)
    if parsed is None and "@" not in rest and _BAD_PORT.match(rest):
        raise ConfigError(
            f"the {scheme.lower()}:// URL is malformed: a host is followed by : and a port from 0 to 65535, and a user "
            "and a password by @, as in scheme://user:password@host:port"
        )
    if parsed is None:  # raised outside the `except`, because the caught exception contains the URL
        raise ConfigError(
            f"the {scheme.lower()}:// URL is malformed; percent-encode the password (a # is %23, a / is %2F, a ? is "
            "%3F, an @ is %40): expected scheme://user:password@host:port/path?option=value"
        )
    return parsed


_END_OF_AUTHORITY = re.compile(r"[/?#]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SECRET = re.compile(r"@|:(?!\d{1,5}$)")  # anything other than a host and a port
_BAD_PORT = re.compile(r"[^/?#\[\]]*:(?!\d{1,5}(?:[,/]|$))[^/?#,]*(?:[,/]|$)")  # or a password without @ and a host
_SPACE = re.compile(r"\s")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # the standard library silently drops some of them


def _parse(scheme: str, rest: str) -> BackendUrl | None:
    """Parse a URL; None if it is malformed.

    An @ after the host is malformed, because a password may contain a separator.
    """
    try:
        authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
        user, at, listed = authority.rpartition("@")
        hosts = listed.split(",")  # urlsplit supports one host: recent Python versions reject [::1] after another host
        parts = urlsplit(f"{scheme}://{user}{at}{hosts[0]}{rest[len(authority) :]}")
        late = "@" in parts.query or (authority and "@" in parts.path)
        if late or "#" in rest or _CONTROL.search(rest):
            return None
        return BackendUrl(
            scheme=scheme,
            hosts=tuple(_host(host) for host in hosts if host),
            path=unquote(parts.path),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            options=dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))),
        )
    except ValueError:
        return None


def _host(text: str) -> tuple[str, int | None]:
    """Parse `host`, `host:port` or `[address]:port`. Raises ValueError."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or _SPACE.search(text):
        raise ValueError("no host")
    return unquote(parts.hostname), parts.port


def host_port(host: str, port: int | None = None) -> str:
    """Return `host:port`, with an IPv6 address in brackets; `host` without a port."""
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
