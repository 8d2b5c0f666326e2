"""Translate GLIDE's exceptions, which keep the server's code in their text; `promoter_resp.errors` judges the codes."""

from __future__ import annotations

import re

from glide import ClosingError, ConfigurationError, GlideError
from glide import ConnectionError as GlideConnectionError
from glide import TimeoutError as GlideTimeoutError

from promoter_core.spi import BackendError, PermanentError, TransientError
from promoter_resp.errors import KNOWN, connection_error, server_error, timeout_error, unknown_error

_SAID = re.compile(r"(?:An error was signalled by the server: - )?(\w+): (.*)", re.S)
_NAMES = {
    "BusyLoadingError": "LOADING",
    "PermissionDenied": "NOPERM",
    "ResponseError": "ERR",
    "NoScriptError": "NOSCRIPT",
    "ExecAbortError": "EXECABORT",
}
_LOST = re.compile(r"IoError|FatalReceiveError|FatalSendError|BrokenPipe|[Cc]onnection|[Dd]isconnected|timed out")
_AUTH = re.compile(r"(WRONGPASS|NOAUTH|NOPERM|AuthenticationFailed|PermissionDenied)\W*(.*)", re.S)


def translate(exc: BaseException, where: str) -> BackendError:
    """Return the error to raise for GLIDE's exception while talking to the server at `where`."""
    if isinstance(exc, BackendError):
        return exc
    text = str(exc)
    if isinstance(exc, GlideTimeoutError | TimeoutError):
        return timeout_error(where)
    if isinstance(exc, GlideConnectionError | ClosingError) or "connect failed" in text:
        # The text also contains the server's error during connection.
        if refused := _AUTH.search(text):
            code = {"AuthenticationFailed": "WRONGPASS", "PermissionDenied": "NOPERM"}.get(refused[1], refused[1])
            return server_error(refused[2].strip() or code, code)
        if "DB index" in text:
            return server_error("DB index is out of range", "ERR")
        return connection_error(where, exc)
    if "No topology views found" in text:
        return TransientError(f"GLIDE finds no cluster at {where}: {text}", code="CLUSTERDOWN")
    if said := _SAID.fullmatch(text):
        name, message = said.groups()
        code = _NAMES.get(name, name.upper())
        if code == "ERR" or code in KNOWN or name.isupper():  # otherwise the word is GLIDE's own, not the server's
            return server_error(message, code)
    if isinstance(exc, ConfigurationError):
        return PermanentError(f"GLIDE cannot work with this configuration: {text}", code="UNEXPECTED")
    if isinstance(exc, GlideError) and _LOST.search(text):
        return connection_error(where, exc)
    return unknown_error(where, exc)
