"""One table by server error code; redis-py's exception classes come out by it too."""

from __future__ import annotations

import pytest
import redis.exceptions as rx

from promoter_core import PermanentError, TransientError
from promoter_redis.errors import translate
from promoter_resp.errors import server_error

TRANSIENT = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY"]
TRANSIENT += ["OOM", "MISCONF", "NOREPLICAS"]
PERMANENT = ["NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "ERR", "CROSSSLOT", "UNKNOWNCODE"]


@pytest.mark.parametrize("code", TRANSIENT)
def test_what_may_go_away_is_transient(code):
    error = server_error(f"{code} and some words")
    assert isinstance(error, TransientError)
    assert error.code == code


@pytest.mark.parametrize("code", PERMANENT)
def test_what_will_not_go_away_is_permanent(code):
    error = server_error(f"{code} and some words")
    assert isinstance(error, PermanentError)
    assert error.code == code


@pytest.mark.parametrize("message", ["DB index is out of range", "unknown command", "", "A b", "user_script:3: boom"])
def test_a_message_without_code_is_err(message):
    assert server_error(message).code == "ERR"


@pytest.mark.parametrize(
    ("exc", "cls", "code"),
    [
        (rx.ConnectionError("Error 111 connecting to x:1. Connection refused."), TransientError, "CONNECTION"),
        (OSError("broken pipe"), TransientError, "CONNECTION"),
        (rx.TimeoutError("Timeout reading from x:1"), TransientError, "TIMEOUT"),
        (TimeoutError(), TransientError, "TIMEOUT"),
        (rx.BusyLoadingError("Redis is loading the dataset in memory"), TransientError, "LOADING"),
        (rx.ReadOnlyError("You can't write against a read only replica."), TransientError, "READONLY"),
        (rx.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), TransientError, "OOM"),
        (rx.MasterDownError("Link with MASTER is down"), TransientError, "MASTERDOWN"),
        (rx.ClusterDownError("The cluster is down"), TransientError, "CLUSTERDOWN"),
        (rx.TryAgainError("Multiple keys request during rehashing of slot"), TransientError, "TRYAGAIN"),
        (rx.MovedError("3999 127.0.0.1:6381"), TransientError, "MOVED"),
        (rx.AskError("3999 127.0.0.1:6381"), TransientError, "ASK"),
        (rx.ResponseError("BUSY Redis is busy running a script."), TransientError, "BUSY"),
        (rx.ResponseError("MISCONF Redis is configured to save RDB snapshots"), TransientError, "MISCONF"),
        (rx.ResponseError("NOREPLICAS Not enough good replicas to write."), TransientError, "NOREPLICAS"),
        (rx.AuthenticationError("Authentication required."), PermanentError, "NOAUTH"),
        (rx.AuthenticationError("invalid username-password pair or user is disabled."), PermanentError, "WRONGPASS"),
        (rx.NoPermissionError("this user has no permissions to run the 'eval' command"), PermanentError, "NOPERM"),
        (rx.ResponseError("WRONGTYPE Operation against a key"), PermanentError, "WRONGTYPE"),
        (rx.ResponseError("DB index is out of range"), PermanentError, "ERR"),
        (KeyError("x"), PermanentError, "UNEXPECTED"),
    ],
    ids=lambda v: getattr(v, "__name__", None) or type(v).__name__ if not isinstance(v, str) else v,
)
def test_redis_pys_exceptions_come_out_as_ours(exc, cls, code):
    error = translate(exc, "host:1")
    assert type(error) is cls
    assert error.code == code


def test_our_own_errors_pass_through():
    error = TransientError("x", code="CLOSED")
    assert translate(error, "host:1") is error
