"""Translate redis-py's exceptions; `promoter_resp.errors` judges the server's codes."""

from __future__ import annotations

import redis.exceptions as rx

from promoter_core.spi import BackendError, PermanentError
from promoter_resp.errors import connection_error, foreign_error, server_error, timeout_error, unknown_error

# redis-py removes the code from some messages, and raises a specific class instead.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (rx.AuthenticationWrongNumberOfArgsError, "ERR"),
    (rx.AuthorizationError, "NOAUTH"),
    (rx.NoPermissionError, "NOPERM"),
    (rx.BusyLoadingError, "LOADING"),
    (rx.ReadOnlyError, "READONLY"),
    (rx.OutOfMemoryError, "OOM"),
    (rx.NoScriptError, "NOSCRIPT"),
    (rx.MasterDownError, "MASTERDOWN"),
    (rx.ClusterDownError, "CLUSTERDOWN"),
    (rx.TryAgainError, "TRYAGAIN"),
    (rx.MovedError, "MOVED"),
    (rx.AskError, "ASK"),
    (rx.ClusterCrossSlotError, "CROSSSLOT"),
    (rx.ExecAbortError, "EXECABORT"),
)


def is_refused(exc: BaseException) -> bool:
    """Return whether the server refuses or does not know the command, so that repeating it soon is useless."""
    text = str(exc).lower()
    return isinstance(exc, rx.NoPermissionError) or "unknown command" in text or "unknown subcommand" in text


def is_no_primary(exc: BaseException) -> bool:
    """Return whether the server was demoted. Not every version of redis-py has a class for each of these."""
    said = str(exc).startswith(("READONLY", "MASTERDOWN", "UNBLOCKED"))
    return said or isinstance(exc, rx.ReadOnlyError | rx.MasterDownError)


def translate(exc: BaseException, where: str) -> BackendError:
    """Return the error to raise for redis-py's exception while talking to the server at `where`."""
    if isinstance(exc, BackendError):
        return exc
    text = str(exc)
    # redis-py wraps a server's error during connection, such as an invalid database, into a ConnectionError.
    if isinstance(exc, rx.ConnectionError) and isinstance(exc.__cause__, rx.ResponseError):
        return translate(exc.__cause__, where)
    if isinstance(exc, rx.AuthenticationError) and not isinstance(exc, rx.AuthorizationError):
        return server_error(text, "NOAUTH" if "required" in text.lower() else "WRONGPASS")
    for cls, code in _CODES:
        if isinstance(exc, cls):
            return server_error(text, code)
    if isinstance(exc, rx.TimeoutError | TimeoutError):
        return timeout_error(where)
    if isinstance(exc, rx.ConnectionError | OSError):
        if "Invalid Database" in text:
            return PermanentError(f"{text}: the server has no database of that number", code="ERR")
        return connection_error(where, exc)
    if isinstance(exc, rx.ResponseError):
        return server_error(text)
    if isinstance(exc, rx.InvalidResponse):
        return foreign_error(where)
    return unknown_error(where, exc)
