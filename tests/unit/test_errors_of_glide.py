"""The same table for the exceptions of GLIDE, which keeps the server's code in the text."""

from __future__ import annotations

import pytest

glide = pytest.importorskip("glide")

from promoter_core import PermanentError, TransientError  # noqa: E402
from promoter_glide.errors import translate  # noqa: E402

SIGNALLED = "An error was signalled by the server: - "


@pytest.mark.parametrize(
    ("exc", "cls", "code"),
    [
        (glide.RequestError("UNKNOWNCODE: something new"), TransientError, "UNKNOWNCODE"),
        (glide.RequestError("WRONGTYPE: Operation against a key"), PermanentError, "WRONGTYPE"),
        (glide.RequestError("DENIED: Redis is running in protected mode"), PermanentError, "DENIED"),
        (glide.RequestError(SIGNALLED + "CrossSlot: Keys in request"), PermanentError, "CROSSSLOT"),
        (glide.RequestError(SIGNALLED + "PermissionDenied: no permissions"), PermanentError, "NOPERM"),
        (glide.RequestError(SIGNALLED + "ResponseError: user_script:7: boom"), PermanentError, "ERR"),
        (glide.RequestError(SIGNALLED + "ResponseError: unknown command 'X'"), PermanentError, "ERR"),
        (glide.RequestError(SIGNALLED + "ResponseError: upstream failure"), TransientError, "ERR"),
        (glide.RequestError(SIGNALLED + "ResponseError: max number of clients reached"), TransientError, "CONNECTION"),
        (glide.RequestError(SIGNALLED + "ClusterDown: Hash slot not served"), TransientError, "CLUSTERDOWN"),
        (glide.RequestError(SIGNALLED + "NoScriptError: none"), TransientError, "NOSCRIPT"),
        (glide.ExecAbortError(SIGNALLED + "ExecAbortError: discarded"), TransientError, "EXECABORT"),
        (glide.RequestError("No topology views found- IoError"), TransientError, "CLUSTERDOWN"),
        (glide.RequestError("SomethingNew: that GLIDE says"), TransientError, "UNEXPECTED"),
        (glide.RequestError("ClusterConnectionNotFound: no route"), TransientError, "CONNECTION"),
        (glide.GlideError("whatever"), TransientError, "UNEXPECTED"),
        (glide.ClosingError("the client is closed"), TransientError, "CONNECTION"),
        (glide.TimeoutError("timed out"), TransientError, "TIMEOUT"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_glides_exceptions_come_out_as_ours(exc, cls, code):
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
