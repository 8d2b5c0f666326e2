"""What scripts say of waiting jobs is read, however odd it is; cursors are opaque text."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core.spi import CHASQUIMQ, KEEP_ID_MS, MAX_DUE_MS, PermanentError, StoredJob, pack_envelope
from promoter_resp import stored_replies as replies
from promoter_resp.stored_replies import LookedAt, stored_job
from tests.typed import present

anything = st.recursive(
    st.none() | st.integers() | st.floats() | st.binary(max_size=9) | st.text(max_size=9),
    lambda x: st.lists(x, max_size=9),
    max_leaves=20,
)


@given(anything, st.booleans())
def test_no_reply_raises(reply, details):
    replies.look_reply(reply)
    replies.list_reply(reply, details=details)
    replies.stored_job(reply, details=details)


def test_a_job_with_all_details_and_without():
    member = CHASQUIMQ.encode_member("mail", pack_envelope("a", b"x", 1, 0))
    detailed = stored_job([b"17.5", member, 1, 5, b"00-a"])
    assert detailed == StoredJob(
        id="a",
        name="mail",
        envelope=pack_envelope("a", b"x", 1, 0),
        due_ms=18,
        handle=member,
        unique=True,
        keep_id_ms=5,
        traceparent="00-a",
    )
    plain = present(stored_job([b"17", member], details=False))
    assert (plain.due_ms, plain.unique, plain.keep_id_ms, plain.traceparent) == (17, None, None, "")
    assert replies.member_of(detailed) == replies.member_of(plain) == member
    usual = present(stored_job([b"17", member, 1, -1, b""]))
    assert (usual.unique, usual.keep_id_ms) == (True, KEEP_ID_MS)


def test_a_malformed_member_is_all_envelope():
    job = present(stored_job([b"1", b"\xff" * 5, 0, -1, b""]))
    assert (job.id, job.malformed, job.envelope, job.unique) == (None, True, b"\xff" * 5, False)
    assert replies.member_of(job) == b"\xff" * 5


@pytest.mark.parametrize(
    ("score", "due_ms"),
    [(b"-inf", 0), (b"-5", 0), (b"0.5", 1), (b"%d" % MAX_DUE_MS, MAX_DUE_MS), (b"1e300", None), (b"inf", None)],
)
def test_due_times_of_scores(score, due_ms):
    assert present(stored_job([score, b"\0\0\0\0\xc0"])).due_ms == due_ms


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
def test_ids_of_all_lengths(size):
    envelope = msgpack.packb(["i" * size, 1])
    assert replies.id_of(envelope) == b"i" * size
    assert replies.id_of(envelope[: -len(b"\x01")]) is None, "an id with nothing behind it is none"
    for cut in range(min(len(envelope), 8)):
        assert replies.id_of(envelope[:cut]) is None or cut > size


@given(st.binary(max_size=12))
def test_no_envelope_has_an_id_beyond_its_end(envelope):
    id = replies.id_of(envelope)
    assert id is None or id in envelope


def test_the_steps_of_a_look():
    assert replies.look_reply([5, b"1", b"m", b"a", b"2", b"member"]) == LookedAt(5, b"1", b"m", ((b"a", b"member"),))
    assert replies.look_reply([5, b"", b""]) == LookedAt(5, end=True)


@given(st.sampled_from([b"0", b"-5", b"1795000000000.5", b"1e+300", b"inf", b"-inf"]), st.binary())
def test_cursors(score, member):
    cursor = replies.cursor_of(score, member)
    assert cursor.isascii()
    assert replies.place_of(cursor) == (score, member)


@given(st.text(min_size=1))
def test_what_is_no_cursor_raises_nothing_else(text):
    with contextlib.suppress(PermanentError):
        score, member = replies.place_of(text)
        assert replies.cursor_of(score, member)
