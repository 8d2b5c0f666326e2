"""The one table from a server's error code to Promoter's errors, for every client.

Permanent errors are a closed list: PERMANENT by code, and _REFUSED by the text after the code ERR. All other errors of
a server or a client library are transient: nobody knows that they are permanent.

Deliberately not in the list:

- NOSCRIPT: the script is loaded again at a lower level; the code surfaces only if the scripts were flushed twice.
- EXECABORT: it follows from another error, which has its own code.
- an untrusted certificate: it can be replaced while a promoter runs, and not every client can tell it from a lost
  connection. It is reported as CONNECTION, with the reason.
"""

from __future__ import annotations

import re

from promoter_core.spi import BackendError, ErrorTable, TransientError

PERMANENT = frozenset(
    [
        "CROSSSLOT",  # the keys of a call are in different slots
        "DENIED",  # protected mode: no password is set, and the client is on another machine
        "NOAUTH",
        "NOPERM",
        "WRONGPASS",
        "WRONGTYPE",
    ]
)

# Permanent errors without a specific code.
_REFUSED = re.compile(
    r"unknown (?:sub)?command|wrong number of arguments|syntax error"  # an old or incompatible server
    r"|cluster support disabled"
    r"|DB index is out of range|invalid DB index|SELECT is not allowed in cluster mode"
    r"|called without any password configured|no password is set"
    r"|Error compiling script|^(?:ERR )?user_script:|script: (?:[0-9a-f]{40}, )?on @user_script"  # a script error
    r"|exhausted the last possible ID"  # of a stream
    r"|invalid stream ID specified|value is not an integer",  # an invalid argument
    re.I,
)

# Transient errors without a specific code, and the equivalent code.
_PASSING = (
    (re.compile("max number of clients"), "CONNECTION"),
    (re.compile("a non local key"), "TRYAGAIN"),  # in a script, while the slot moves
    (re.compile("the cluster is down"), "CLUSTERDOWN"),  # in a script
)

# Also the transient errors that users meet: failovers, loading, migration, memory, disk, another client's long script.
KNOWN = PERMANENT | {
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CONNECTION",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TIMEOUT",
    "TRYAGAIN",
    "UNBLOCKED",
    "UNKILLABLE",
}

HINTS = {
    "NOAUTH": "the server requires a password: give it in the URL, as scheme://:password@host",
    "WRONGPASS": "the user or password of the URL is wrong",
    "NOPERM": "the user lacks a permission: `promoter doctor` shows the rules that it needs",
    "WRONGTYPE": "a key of the queue is of another type, `promoter inspect` names it; nothing was removed from the set",
    "OOM": "the server has reached its maxmemory: have consumers delete what they have read, or raise it",
    "READONLY": "the server is a replica, or was demoted: the address must lead to the primary",
    "MISCONF": "the server cannot write to its disk: free it, and writes resume",
    "NOREPLICAS": "the server has too few connected replicas",
    "BUSY": "another client's script has been running for too long",
}

_TABLE = ErrorTable(permanent=PERMANENT, words={"ERR": _REFUSED}, hints=HINTS)

# A script's own command that an ACL denies has no specific code.
_REFUSED_IN_SCRIPT = re.compile(r"ACL failure in script|The user executing the script can't run")

_CODE = re.compile(r"^-?([A-Z][A-Z0-9_]*)\b")


def code_of(message: str) -> str:
    """Return the leading word of a server's error, or `ERR` without one.

    Clients remove `ERR`, so a short capital word can be the message's own ("DB index is out of range").
    """
    if _REFUSED_IN_SCRIPT.search(message):
        return "NOPERM"
    found = _CODE.match(message)
    word = found[1] if found else "ERR"
    return word if word in KNOWN or len(word) > 5 else "ERR"


def server_error(message: str, code: str | None = None) -> BackendError:
    """Return the error for a server's message; `code` if the client has removed it from the message."""
    code = code or code_of(message)
    text = message.strip().removeprefix(code).lstrip(": ") or "no reason given"
    if code == "ERR":
        code = next((better for pattern, better in _PASSING if pattern.search(text)), code)
    if code != "ERR":
        text = f"{code}: {text}"
    if "DB index is out of range" in message:
        text += " (the database number of the URL is too high for this server)"
    return _TABLE.error(text, code)


def connection_error(where: str, exc: BaseException) -> TransientError:
    return TransientError(f"cannot reach the server at {where}: {_reason(exc)}", code="CONNECTION")


def timeout_error(where: str) -> TransientError:
    return TransientError(f"the server at {where} did not answer in time", code="TIMEOUT")


def foreign_error(where: str) -> TransientError:
    """Return the error for an answer in another protocol. It may come from a proxy that has lost its server."""
    return TransientError(
        f"what listens at {where} does not speak the protocol of Redis: check the port", code="PROTOCOL"
    )


def unknown_error(where: str, exc: BaseException) -> TransientError:
    """Return the error for an unknown exception of a client library: it may be temporary."""
    text = str(exc).strip().splitlines()
    said = f"{type(exc).__name__}: {text[0]}" if text else type(exc).__name__
    return TransientError(f"unexpected {said} while talking to the server at {where}", code="UNEXPECTED")


def _reason(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0].rstrip(".") if text else type(exc).__name__
