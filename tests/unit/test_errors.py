"""One table by server error code; redis-py's exception classes come out by it too."""

from __future__ import annotations

import struct

import pytest
import redis.exceptions as rx

from promoter_core import PermanentError, TransientError
from promoter_redis.errors import translate
from promoter_resp.errors import PERMANENT, server_error

TRANSIENT = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY"]
TRANSIENT += ["OOM", "MISCONF", "NOREPLICAS", "NOSCRIPT", "EXECABORT", "UNKNOWNCODE"]

# Word for word what Valkey 9.1 and 8.1 and Redis 8.2 and 7.0 answer.
STAYS = [
    "DB index is out of range",
    "unknown command 'EVALSHA', with args beginning with: 'x' ",
    "unknown subcommand 'SHARDS'. Try CLUSTER HELP.",
    "wrong number of arguments for 'get' command",
    "syntax error",
    "This instance has cluster support disabled",
    "AUTH <password> called without any password configured for the default user.",
    "user_script:3: boom",
    "user_script:1: Script attempted to access nonexistent global variable 'nosuch' script: on @user_script:1.",
    f"Wrong number of args calling Redis command from script script: {'7a' * 20}, on @user_script:1.",
    "Unknown command called from script script: on @user_script:1.",
    "Error compiling script (new function): user_script:1: '=' expected near 'error'",
    "The stream has exhausted the last possible ID, unable to add more items",
    "Invalid stream ID specified as stream command argument",
]
PASSES = {
    "": "ERR",
    "A b": "ERR",
    "something that nobody has heard of": "ERR",
    "upstream failure": "ERR",
    "max number of clients reached": "CONNECTION",
    "max number of clients + cluster connections reached": "CONNECTION",
    f"Script attempted to access a non local key in a cluster node script: {'7a' * 20}, on @user_script:1.": "TRYAGAIN",
    "Attempted to access a non local key in a cluster node script: on @user_script:30.": "TRYAGAIN",
    "Script attempted to execute a command while the cluster is down script: on @user_script:1.": "CLUSTERDOWN",
}


@pytest.mark.parametrize("code", TRANSIENT)
def test_what_may_go_away_is_transient(code):
    error = server_error(f"{code} and some words")
    assert isinstance(error, TransientError)
    assert error.code == code


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_what_will_not_go_away_is_permanent(code):
    error = server_error(f"{code} and some words")
    assert isinstance(error, PermanentError)
    assert error.code == code


def test_the_list_of_permanent_codes_is_closed():
    assert sorted(PERMANENT) == ["CROSSSLOT", "DENIED", "NOAUTH", "NOPERM", "WRONGPASS", "WRONGTYPE"]


@pytest.mark.parametrize("message", STAYS)
@pytest.mark.parametrize("prefix", ["", "ERR "])
def test_what_has_no_code_is_permanent_by_its_words(prefix, message):
    error = server_error(prefix + message)
    assert isinstance(error, PermanentError)
    assert error.code == "ERR"


@pytest.mark.parametrize(("message", "code"), PASSES.items())
@pytest.mark.parametrize("prefix", ["", "ERR "])
def test_what_has_neither_code_nor_known_words_is_transient(prefix, message, code):
    error = server_error(prefix + message)
    assert isinstance(error, TransientError)
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
        (rx.ResponseError("max number of clients + cluster connections reached"), TransientError, "CONNECTION"),
        (rx.ExecAbortError("Transaction discarded"), TransientError, "EXECABORT"),
        (rx.InvalidResponse("Protocol Error: b'x'"), TransientError, "PROTOCOL"),
        (rx.RedisClusterException("Redis Cluster cannot be connected."), TransientError, "UNEXPECTED"),
        (rx.SlotNotCoveredError('Slot "1" is not covered by the cluster.'), TransientError, "UNEXPECTED"),
        (struct.error("unpack requires a buffer of 4 bytes"), TransientError, "UNEXPECTED"),
        (IndexError("pop from an empty deque"), TransientError, "UNEXPECTED"),
        (KeyError("x"), TransientError, "UNEXPECTED"),
    ],
    ids=lambda v: getattr(v, "__name__", None) or type(v).__name__ if not isinstance(v, str) else v,
)
def test_redis_pys_exceptions_come_out_as_ours(exc, cls, code):
    error = translate(exc, "host:1")
    assert type(error) is cls
    assert error.code == code


@pytest.mark.parametrize("exc", [IndexError("pop from an empty deque"), AssertionError()])
def test_what_the_client_raises_and_nobody_knows_is_reported_with_its_class(exc):
    error = translate(exc, "host:1")
    assert type(error) is TransientError
    assert f"unexpected {type(exc).__name__}" in str(error)
    assert "host:1" in str(error)
    assert error.code == "UNEXPECTED"


def test_our_own_errors_pass_through():
    error = TransientError("x", code="CLOSED")
    assert translate(error, "host:1") is error
