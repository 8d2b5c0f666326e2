"""The json serializer writes what any reader of JSON takes, and is not mistaken for msgpack."""

from __future__ import annotations

import json
from enum import StrEnum

import pytest

from promoter_core import ConfigError, Envelope, JobError, Registry
from promoter_core.spi.wire import EnvelopePacker, unpack_envelope


class Kind(StrEnum):
    MAIL = "mail"


def packed(data):
    return unpack_envelope(EnvelopePacker(Registry().serializer("json")).pack("j", data, 0, index=True))


@pytest.mark.parametrize(
    "data", [{"a": [1, None, True, 2.5, "ä\u2028"], "n": 2**200}, (1, 2), "x", 7, "", [], Kind.MAIL]
)
def test_json_is_utf8_text_that_any_reader_takes(data):
    job = packed(data)
    plain = json.loads(json.dumps(data))
    assert json.loads(job.payload.decode()) == job.data("json") == plain


@pytest.mark.parametrize("data", [0, 7, "a", [], {"a": 1}, None, True, 12])
def test_json_is_never_taken_for_msgpack(data):
    with pytest.raises(JobError, match="cannot be read with msgpack"):
        packed(data).data()


def test_json_refuses_constants_that_are_none():
    for text in (b"NaN", b"[Infinity]", b"-Infinity"):
        with pytest.raises(JobError, match="is no JSON"):
            Envelope("j", text, created_at_ms=0, attempt=0).data("json")


def test_faststream_takes_bytes_as_they_are_and_all_else_as_json():
    faststream = Registry().serializer("faststream")
    for data, payload in ((b"\x89BIN", b"\x89BIN"), ({"a": [1]}, b'{"a":[1]}'), ("text", b'"text"')):
        assert faststream.dumps(data) == payload
        assert faststream.loads(payload) == data
    with pytest.raises(ConfigError, match="takes no type="):
        faststream.loads(b"{}", dict)
