"""The wire format, byte for byte, and what is made of bytes that do not keep to it."""

from __future__ import annotations

import contextlib
import re

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import Envelope, RetryOverrides, unpack_envelope
from promoter_core.spi import CHASQUIMQ, LATENESS_MS, pack_envelope
from promoter_resp.driver import Script

# As ChasquiMQ 1.3 writes Queue.add("send-email", {"to": "a@b.c", "n": 1}, job_id="my-id-1", delay_ms=…).
SEEN = b"\n\x00\x00\x00send-email\x94\xa7my-id-1\xc4\r\x82\xa2to\xa5a@b.c\xa1n\x01\xcf\x00\x00\x01\xa2\x0b[\xb1\xd9\x00"
CREATED_MS = 0x01A20B5BB1D9


def test_a_member_is_what_chasquimq_writes():
    envelope = pack_envelope("my-id-1", msgpack.packb({"to": "a@b.c", "n": 1}), CREATED_MS, 0)
    assert CHASQUIMQ.encode_member("send-email", envelope) == SEEN


def test_a_member_without_name_has_a_length_of_zero():
    assert CHASQUIMQ.encode_member("", b"x") == b"\0\0\0\0x"


@pytest.mark.parametrize("size", [0, 1, 26, 31, 32, 255, 256, 70_000])
def test_the_envelope_of_a_job_without_an_index_differs_by_how_the_length_of_its_id_is_written(size):
    id = "i" * size
    plain, usual = (pack_envelope(id, b"\x01", 5, 2, index=index) for index in (False, True))
    assert unpack_envelope(plain) == unpack_envelope(usual)
    assert usual == msgpack.packb([id, b"\x01", 5, 2])
    if size < 32:
        assert plain == usual[:1] + bytes((0xD9, size)) + usual[2:]
    else:
        assert plain == usual


def test_what_chasquimq_writes_can_be_read():
    name, envelope = CHASQUIMQ.decode_member(SEEN)
    e = unpack_envelope(envelope)
    assert (name, e.id, e.created_at_ms, e.attempt) == ("send-email", "my-id-1", CREATED_MS, 0)
    assert e.data() == {"to": "a@b.c", "n": 1}


@pytest.mark.parametrize(
    ("packed", "retry"),
    [
        ([3, ["fixed", 100, None, None, None]], RetryOverrides(max_attempts=3, kind="fixed", delay_ms=100)),
        ([3, None], RetryOverrides(max_attempts=3)),
        (
            [None, ["exponential", 100, 9_000, 1.5, 50]],
            RetryOverrides(kind="exponential", delay_ms=100, max_delay_ms=9_000, multiplier=1.5, jitter_ms=50),
        ),
        ([None, ["linear", 7]], RetryOverrides(kind="linear", delay_ms=7)),
        ([None, ["fixed", 1, -1, float("nan"), True, "new"], "new"], RetryOverrides(kind="fixed", delay_ms=1)),
        ([None, None], None),
        ([], None),
        (None, None),
        ("x", None),
        ([-1, ["fixed", "soon"]], None),
        ([4, ["fixed", -5, None, None, None]], RetryOverrides(max_attempts=4)),
        ({"max_attempts": 3}, None),
    ],
)
def test_retry_overrides_are_those_of_chasquimq_and_what_cannot_be_read_says_nothing(packed, retry):
    envelope = msgpack.packb(["a", b"\x01", 5, 2, packed])
    assert unpack_envelope(envelope) == Envelope("a", b"\x01", created_at_ms=5, attempt=2, retry=retry)
    assert unpack_envelope(envelope).raw == envelope


def test_a_payload_that_is_not_bin_is_packed_again():
    assert unpack_envelope(msgpack.packb(["a", {"x": 1}, 5, 0])).data() == {"x": 1}


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (b"", "shorter than its header"),
        (b"\1\0\0", "shorter than its header"),
        (b"\5\0\0\0abc", "runs past the end"),
        (b"\xff\xff\xff\xffabc", "runs past the end"),
        (b"\3\0\0\0abc", "empty payload"),
        (b"\0\0\0\0", "empty payload"),
    ],
)
def test_a_malformed_member_is_told_apart(member, problem):
    with pytest.raises(ValueError, match=problem):
        CHASQUIMQ.decode_member(member)


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", b"\x94", msgpack.packb([1, b"", 2, 3]), msgpack.packb("x"), b"\x93\xa1a"]
)
def test_what_is_no_envelope_is_a_value_error(packed):
    with pytest.raises(ValueError, match="envelope"):
        unpack_envelope(packed)


texts = st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))


@given(name=texts.filter(lambda t: max(t, default="") < "\ud800" or max(t) > "\udbff"), payload=st.binary())
def test_members_round_trip(name, payload):
    try:
        member = CHASQUIMQ.encode_member(name, payload + b"x")
    except UnicodeEncodeError:
        return  # a lone surrogate that stands for no byte: refused before it comes here
    assert CHASQUIMQ.decode_member(member)[1] == payload + b"x"
    assert CHASQUIMQ.encode_member(*CHASQUIMQ.decode_member(member)) == member


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_value_error(data):
    for read in (CHASQUIMQ.decode_member, unpack_envelope):
        with contextlib.suppress(ValueError):
            read(data)


def test_all_keys_of_a_queue_share_a_hash_tag():
    k = CHASQUIMQ.keys_of("emäils")
    tag = "{chasqui:emäils}:".encode()
    assert all(key.startswith(tag) for key in (k.delayed, k.stream, k.lock, k.events, k.dlq, k.index, k.marker, k.wake))
    assert k.delayed == tag + b"delayed"
    assert (k.lock, k.index, k.marker) == (tag + b"promoter:lock", tag + b"didx:", tag + b"dlid:")


def test_the_script_counts_lateness_by_the_bounds_that_the_core_knows():
    tables = re.findall(r"^ +(?:late = |or )oldest < now - (\d+) and \{(.*?)\}", Script("promote").source, re.M)
    (late, every), (on_time, first) = [(int(ms), tuple(map(int, bounds.split(",")))) for ms, bounds in tables]
    assert every == LATENESS_MS
    assert (first, late, on_time) == (LATENESS_MS[:3], LATENESS_MS[3], LATENESS_MS[0]), "none later than the next bound"
    assert f"late[{len(LATENESS_MS)}]" in Script("promote").source
