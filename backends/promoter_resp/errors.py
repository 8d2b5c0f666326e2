"""The one table from a server's error code to our errors, for every client."""

from __future__ import annotations

import re

from promoter_core.errors import BackendError, PermanentError, TransientError

# What may go away by itself: fail-overs, loading, migration, memory, disk, somebody's long script, lost connections.
TRANSIENT = frozenset(
    [
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "CONNECTION",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TIMEOUT",
        "TRYAGAIN",
        "UNBLOCKED",
        "UNKILLABLE",
    ]
)

HINTS = {
    "NOAUTH": "the server wants a password: give it in the URL, as scheme://:password@host",
    "WRONGPASS": "the user or password of the URL is wrong",
    "NOPERM": "the user lacks a permission: docs/reference/wire-format.md lists what is needed",
    "WRONGTYPE": "a key of the queue holds another type of data; nothing was removed from the sorted set",
    "OOM": "the server has reached its maxmemory",
    "READONLY": "the server is a replica, or was demoted",
    "MISCONF": "the server cannot write to its disk",
    "NOREPLICAS": "the server has too few replicas in touch",
    "BUSY": "somebody's script has been running for too long",
}

# What a script's own commands are refused with has no code of its own.
_REFUSED_IN_SCRIPT = re.compile(r"ACL failure in script|The user executing the script can't run")

_CODE = re.compile(r"^-?([A-Z][A-Z0-9_]*)\b")


def code_of(message: str) -> str:
    """The leading word of a server's error, `ERR` where it has none.

    Clients cut `ERR` off, so a short capital word may be the message's own ("DB index is out of range").
    """
    if _REFUSED_IN_SCRIPT.search(message):
        return "NOPERM"
    found = _CODE.match(message)
    word = found[1] if found else "ERR"
    return word if word in TRANSIENT or word in HINTS or len(word) > 5 else "ERR"


def server_error(message: str, code: str | None = None) -> BackendError:
    """The error for what the server said; `code` where the client has cut it off the message."""
    code = code or code_of(message)
    cls = TransientError if code in TRANSIENT else PermanentError
    text = message.strip().removeprefix(code).lstrip(": ") or "no reason given"
    if code != "ERR":
        text = f"{code}: {text}"
    if "DB index is out of range" in message:
        text += " (the database number of the URL is too high for this server)"
    hint = HINTS.get(code)
    return cls(f"{text} ({hint})" if hint else text, code=code)


def connection_error(where: str, exc: BaseException) -> TransientError:
    return TransientError(f"cannot reach the server at {where}: {_reason(exc)}", code="CONNECTION")


def timeout_error(where: str) -> TransientError:
    return TransientError(f"the server at {where} did not answer in time", code="TIMEOUT")


def closed_error() -> TransientError:
    return TransientError("the backend is closed: use it inside `async with connect(…)`", code="CLOSED")


def _reason(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0].rstrip(".") if text else type(exc).__name__
