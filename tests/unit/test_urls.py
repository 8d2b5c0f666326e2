"""A URL is read, or refused in one line, and no part of its password is ever shown, however malformed it is."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from promoter_core import ConfigError, PromoterError, Registry
from promoter_core.spi import parse_url

REGISTRY = Registry()

SCHEMES = ["redis", "rediss", "valkey", "unix", "glide", "glides", "glide+cluster", "redis+sentinel", "redis+cluster"]
SCHEMES += ["embedded", "fake", "memory", "sqlite", "REDIS"]
PLACES = (
    "{s}://app:{p}@h",
    "{s}://:{p}@h:6379/0",
    "{s}://app:{p}@h/0?db=1",
    "{s}://app:{p}@[::1]:6379/0",
    "{s}://app:{p}@[::1",
    "{s}://app:{p}@h1:1,h2:2/main",
    "{s}://app:{p}@h:99999",
    "{s}://app:{p}@h:port/zero?colour=red",
    "{s}://app:{p}@local host",
    "{s}://app:4711/{p}@h",
    "{s}://{p}@h",
    "{s}:/app:{p}@h",
    "{s}app:{p}@h",
    "{p}@h",
    "app:{p}@{s}://h",
)
PARTS = ("Qx7", "Zk9", "Wv3")  # none of them comes in any message by itself
BETWEEN = st.sampled_from(
    [*":/?#@[]% ,\t\n\\&=", "://", "%zz", "%0a", "é", "℀", "@[", "]:", "/@", "?db=", "\x00"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
PASSWORDS = st.tuples(BETWEEN, BETWEEN, BETWEEN, BETWEEN).map(
    lambda b: f"{b[0]}{PARTS[0]}{b[1]}{PARTS[1]}{b[2]}{PARTS[2]}{b[3]}"
)


def everything_shown(error):
    """All that a log, a traceback or a debugger may print of an error and of what led to it."""
    shown = ["".join(traceback.format_exception(error))]
    while error is not None:
        shown += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


@settings(deadline=None, max_examples=300)
@given(scheme=st.sampled_from(SCHEMES), place=st.sampled_from(PLACES), password=PASSWORDS)
@example("redis", "{s}://app:{p}@h", "Qx7#Zk9Wv3")
@example("redis", "{s}://app:{p}@h", "Qx7/Zk9Wv3")
@example("redis", "{s}://app:{p}@h", "Qx7?Zk9Wv3")
@example("redis", "{s}://app:4711/{p}@h", "Qx7Zk9Wv3")
@example("redis", "{s}://app:{p}@h", "Qx7℀Zk9Wv3")
@example("redis", "{s}://app:{p}@h", "[Qx7Zk9Wv3")
@example("redis", "{s}://{p}@h", "Qx7Zk9Wv3")
@example("redis", "{s}://{p}@h", "/Qx7/Zk9/Wv3")
@example("redis", "app:{p}@{s}://h", "Qx7Zk9Wv3")
def test_no_part_of_a_password_is_shown_wherever_it_is_and_whatever_is_in_it(scheme, place, password):
    # Where the password comes first, what is before its own : or :// is a user or a scheme.
    assume(place not in ("{s}://{p}@h", "{p}@h") or ":" not in password)
    url = place.format(s=scheme, p=password)
    shown, told = "", ""
    try:
        parsed = parse_url(url)
        shown = f"{parsed} {parsed!r}"
        REGISTRY.backend(url)
    except PromoterError as error:
        told = str(error)
        shown += everything_shown(error)
    assert "\n" not in told
    assert not [part for part in PARTS if part.lower() in shown.lower()]


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:S3cret#rest@h",
        "redis://app:4711/S3cret@h",
        "redis://app:S3cret?rest@h",
        "redis://app:S3/cret@[::1]:6379",
        "redis+cluster://app:S3?cret@h1,h2:7001",
        "redis://app:S3cret@h h",
        "redis://app:S3\tcret@h",
        "redis://app:S3cret@[::1",
        "redis://app:S3cret@h:port",
    ],
)
def test_what_to_do_about_a_malformed_url_is_said_in_one_line(url):
    with pytest.raises(ConfigError, match="malformed; percent-encode the password") as raised:
        parse_url(url)
    shown = everything_shown(raised.value)
    assert not [part for part in ("S3", "cret", "rest", "4711") if part in shown.replace("test_what_to_do", "")]


@pytest.mark.parametrize(
    "url", ["redis://app:S3cret", "redis://h:S3cret/0", "redis+cluster://h1:7001,h2:S3cret", "redis://h:"]
)
def test_a_port_that_is_no_number_may_be_a_password_and_is_not_shown(url):
    if url.endswith(":"):
        assert parse_url(url).port is None
        return
    with pytest.raises(ConfigError, match="a host is followed by : and a port from 0 to 65535") as raised:
        parse_url(url)
    assert "S3" not in everything_shown(raised.value)


@settings(deadline=None)
@given(password=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_percent_encoded_password_may_have_anything_in_it(password):
    for place in ("redis://app:{}@h:1/0", "redis+sentinel://app:{}@h:1,[::1]:2/main"):
        parsed = parse_url(place.format(quote(password, safe="")))
        assert (parsed.username, parsed.password, parsed.host, parsed.port) == ("app", password, "h", 1)


@pytest.mark.parametrize(
    "url", ["unix:///run/a@b.sock", "embedded:///home/me@work/data", "redis://h/0?tls_ca=/a%40b.pem"]
)
def test_an_at_sign_that_can_be_no_end_of_a_password_is_taken(url):
    assert parse_url(url).password is None
