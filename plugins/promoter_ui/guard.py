"""Access control for the pages and for changes: hosts, the token, sessions, and the origin of forms."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from urllib.parse import quote

from starlette.requests import Request

from promoter_core import ConfigError
from promoter_ui import text
from promoter_ui.tries import Tries

log = logging.getLogger("promoter.ui")

SESSION_S = 12 * 3600
SHORTEST_SESSION_S, LONGEST_SESSION_S = 60, 366 * 86_400
SHORTEST_TOKEN = 16  # characters
MOST_BODY = 64 * 1024
STRETCH = 200_000  # rounds
BEARER = "promoter_ui.bearer"  # key in a request's scope: whether its Authorization header is valid

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
PLACES = re.compile(r"(?:queue|job|dead|leaders)?(?:\?[\x21-\x7e]*)?")  # allowed targets after a login


class Refused(Exception):
    """A refused request. `status` is the HTTP status, `wait_s` the time until a retry can succeed."""

    def __init__(self, message: str, status: int = 403, *, wait_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if wait_s is None else {"retry-after": str(wait_s)}


class Guard:
    """Decides from the request, so that any number of processes can serve one visitor; each counts wrong tokens."""

    def __init__(
        self,
        *,
        token: str | None,
        allow_actions: bool,
        trusted: bool,
        hosts: Sequence[str],
        public: bool,
        session_s: float = SESSION_S,
    ) -> None:
        """Raises ConfigError for an invalid session length, token or host."""
        if not SHORTEST_SESSION_S <= session_s <= LONGEST_SESSION_S:
            raise ConfigError(f"a session lasts a minute to 366 days, not {session_s:g} s")
        if token is not None and (len(token) < SHORTEST_TOKEN or not token.isprintable() or not token.isascii()):
            raise ConfigError(f"the token must have at least {SHORTEST_TOKEN} printable ASCII characters")
        if allow_actions and token is None and not trusted:
            raise ConfigError("actions need a token")
        self.allow_actions = allow_actions
        self._session_s = int(session_s)
        self._tries = Tries()
        self._token = None if token is None else token.encode()
        self._key = b"" if token is None else _stretched(token)
        self._any_host = trusted or public or token is not None
        self._hosts = {host.lower().strip("[]") for host in hosts}
        mark = "" if token is None else "_" + self._sign("cookie")[:8]  # cookies do not distinguish ports
        self.session_cookie, self.form_cookie = f"promoter_ui{mark}", f"promoter_ui_form{mark}"

    @property
    def has_token(self) -> bool:
        return self._token is not None

    def check_host(self, request: Request) -> None:
        """Prevent DNS rebinding: the request's host name must be an expected one. Raises Refused."""
        given = request.headers.get("host", "")
        host = re.sub(r":\d*$", "", given).strip("[]").rstrip(".").lower()
        if self._any_host or host == "localhost" or host.endswith(".localhost") or host in self._hosts:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            name = text.shown(given)[:100]
            raise Refused(
                f"the host {name!r} is not expected here: allow it (--allow-host, or allowed_hosts=), or set a token"
            ) from None

    def knows(self, request: Request) -> bool:
        """Return whether the request has the token, or a session that was opened with it. Raises Refused."""
        return self._token is None or self._has_token(request) or self._has_session(request)

    def is_token(self, request: Request, given: str) -> bool:
        """Return whether a visitor gives the token. Raises Refused, unchecked, after too many wrong ones."""
        address = request.client.host if request.client else ""
        if (wait_s := ceil(self._tries.wait_s(address))) > 0:
            raise Refused(f"too many wrong tokens from your address: try again in {wait_s} s", 429, wait_s=wait_s)
        right = self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)
        if not right:
            self._tries.was_wrong(address)
            log.warning("a wrong token was given, from %s", address or "somewhere")
        return right

    def session(self, request: Request) -> str:
        """Return a cookie that gives access for the length of a session."""
        until = f"{int(time.time()) + self._session_s}"
        return self._cookie(request, self.session_cookie, f"{until}.{self._sign('session', until)}", self._session_s)

    def no_session(self, request: Request) -> str:
        """Return a cookie that ends the session."""
        return self._cookie(request, self.session_cookie, "", 0)

    def form_token(self, request: Request) -> tuple[str, str | None]:
        """Return the value for a form, and its cookie if the browser has none yet."""
        nonce = _cookies(request).get(self.form_cookie, "")
        if re.fullmatch(r"[\w-]{20,64}", nonce):
            return self._form(nonce), None
        nonce = secrets.token_urlsafe(24)
        return self._form(nonce), self._cookie(request, self.form_cookie, nonce, None)

    async def form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form from one of our pages, or from a program with the token. Raises Refused."""
        fields = await self._body(request)
        if self._has_token(request):
            return fields
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused("this form was sent by another site")
        nonce = _cookies(request).get(self.form_cookie, "")
        if not nonce or not hmac.compare_digest(fields.get("form", "").encode(), self._form(nonce).encode()):
            raise Refused("this form has expired: go back, reload the page and submit the form again")
        return fields

    async def _body(self, request: Request) -> dict[str, str]:
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused("expected a form (application/x-www-form-urlencoded)", 415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise Refused("this form is too large", 413)
        try:
            return text.query(body)
        except ValueError:
            raise Refused("this form is unreadable", 400) from None

    def _has_token(self, request: Request) -> bool:
        """Check the header once per request, so that a wrong token counts once."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if self._token is None or scheme.lower() != "bearer" or not given.strip():
            return False
        if BEARER not in request.scope:
            request.scope[BEARER] = False
            request.scope[BEARER] = self.is_token(request, given.strip())
        return bool(request.scope[BEARER])

    def _has_session(self, request: Request) -> bool:
        until, _, signature = _cookies(request).get(self.session_cookie, "").partition(".")
        good = hmac.compare_digest(signature.encode(), self._sign("session", until).encode())
        return good and until.isdigit() and int(until) > time.time()

    def _form(self, nonce: str) -> str:
        return nonce if self._token is None else self._sign("form", nonce)

    def _sign(self, *words: str) -> str:
        return hmac.new(self._key, "\0".join(words).encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _cookie(self, request: Request, name: str, value: str, seconds: int | None) -> str:
        """Return a cookie without a path, which then applies to the page's address, even behind a proxy."""
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
        age = "" if seconds is None else f"; Max-Age={seconds}"
        return f"{name}={quote(value)}; HttpOnly; SameSite=Lax{age}{'; Secure' if secure else ''}"


@lru_cache(maxsize=16)
def _stretched(token: str) -> bytes:
    """Return the key of signatures. Signatures are public (at the login), so guessing the token must be slow."""
    return hashlib.pbkdf2_hmac("sha256", token.encode(), b"promoter_ui", STRETCH)


def _cookies(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            found.setdefault(name, value)
    return found
