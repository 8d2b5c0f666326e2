"""Which tests a run leaves out: none in CI, and here those that are one more variant of others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.conftest import is_left_out
from tests.servers import BINARIES
from tests.typed import untyped

NEWEST, *OLDER = BINARIES


def item(*marks, **params):
    return untyped(
        SimpleNamespace(
            get_closest_marker=lambda name: name if name in marks else None,
            callspec=SimpleNamespace(params=params),
        )
    )


@pytest.mark.parametrize(
    ("servers", "variant", "on_an_older_server"),
    [(None, True, True), ("", True, True), (OLDER[0], True, False), ("all", False, False)],
)
def test_ci_runs_everything_and_a_server_that_is_named_everything_on_it(
    servers, variant, on_an_older_server, monkeypatch
):
    monkeypatch.delenv("PROMOTER_SERVERS", raising=False)
    if servers is not None:
        monkeypatch.setenv("PROMOTER_SERVERS", servers)
    assert is_left_out(item("whole_matrix")) is variant
    assert is_left_out(item("newest_server", any_server=OLDER[0])) is on_an_older_server
    assert not is_left_out(item("newest_server", any_server=NEWEST))
    assert not is_left_out(item("newest_server"))
    assert not is_left_out(item("server", any_server=OLDER[0]))


def test_a_test_without_parameters_runs():
    plain = untyped(SimpleNamespace(get_closest_marker=lambda name: None))
    assert not is_left_out(plain)
