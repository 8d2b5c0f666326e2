"""Hostile data: whatever bytes are in the set, promotion goes on, every byte is accounted for, and nothing grows."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from promoter_core import DelayedQueue, JobError, unpack_envelope
from promoter_core.cli.dead_letters import _row
from promoter_core.spi import CHASQUIMQ, PromotionRequest, StreamName
from promoter_memory.backend import MemoryBackend

pytestmark = pytest.mark.server

BOMBS = [
    b"\x91" * 5_000,  # arrays in arrays
    b"\xdd\xff\xff\xff\xff" + b"\xdb\xff\xff\xff\xff",  # lengths far past the end
    b"\x94\xdb\x7f\xff\xff\xff" + b"x" * 50,
    b"\x94\xd9\xff",
    b"\xdf\xff\xff\xff\xff" * 40,
    b"\xc9\xff\xff\xff\xff\x01",
    msgpack.packb(["x" * 70_000, b"", 0, 0]),
]
# Drawn by number: when a draw is tried again, Hypothesis notes the strategy's repr, and warns where that is large.
bombs = st.integers(0, len(BOMBS) - 1).map(lambda i: BOMBS[i])
lengths = st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "little"))
names = st.integers(0, 40).flatmap(
    lambda n: st.binary(min_size=n, max_size=n).map(lambda b: n.to_bytes(4, "little") + b)
)
envelopes = st.builds(
    lambda *p: msgpack.packb(p), st.text(max_size=40), st.binary(max_size=40), st.integers(0, 2**63), st.integers(0, 9)
)
members = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.builds(lambda length, rest: length + rest, lengths, st.binary(max_size=40)),
    st.builds(lambda name, rest: name + rest, names, st.binary(max_size=60) | envelopes | bombs),
    st.builds(lambda name, e, cut: (name + e)[: max(cut, 1)], names, envelopes, st.integers(1, 60)),
)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def expected(member):
    """Where a member belongs: its stream entry, or None for the DLQ."""
    try:
        CHASQUIMQ.decode_member(member)
    except ValueError:
        return None
    start = 4 + int.from_bytes(member[:4], "little")
    fields = {b"d": member[start:]}
    return fields | {b"n": member[4:start]} if start > 4 else fields


def test_no_strategy_has_a_repr_that_hypothesis_warns_of():
    for strategy in (bombs, members, st.sets(members), anything):
        assert len(repr(strategy)) < 5_000


@fuzz
@given(batch=st.sets(members, min_size=1, max_size=30))
async def test_every_member_arrives_byte_for_byte_in_the_stream_or_among_the_dead_letters(backend, client, batch):
    name = f"q-{ULID()}"
    k = CHASQUIMQ.keys_of(name)
    await client.zadd(k.delayed, dict.fromkeys(batch, 1))
    lease = await backend.lock(name, "me", 60_000)
    promotion = await backend.promote(lease, PromotionRequest(limit=1_000, max_stream_len=10**6))
    streamed = [f for _, f in await client.xrange(k.stream)]
    malformed = [f for _, f in await client.xrange(k.dlq)]
    wanted = [expected(m) for m in batch]
    key = lambda f: (f.get(b"n", b""), f[b"d"])  # noqa: E731
    assert sorted(streamed, key=key) == sorted((w for w in wanted if w is not None), key=key)
    assert sorted(f[b"d"] for f in malformed) == sorted(m for m, w in zip(batch, wanted, strict=True) if w is None)
    assert (promotion.promoted, promotion.malformed, promotion.depth) == (len(streamed), len(malformed), 0)
    assert len(promotion.jobs) == len(streamed)
    for entry in await backend.read(name, StreamName.DLQ, "", 100):
        assert _row(entry)["bytes"] == len(entry.fields["d"])
    for entry in await backend.read(name, StreamName.JOBS, "", 100):
        with contextlib.suppress(ValueError):
            unpack_envelope(entry.fields["d"])
    await backend.stats(name)
    await client.delete(k.stream, k.dlq, k.events, k.lock)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary() | st.dates(),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), x, max_size=4),
    max_leaves=12,
)


@fuzz
@given(data=anything, name=st.text(max_size=300), job_id=st.text(max_size=600), delay=st.floats() | st.integers(-5, 10))
async def test_a_job_is_scheduled_as_it_is_or_refused_before_anything_is_written(
    backend, client, data, name, job_id, delay
):
    queue_name = f"q-{ULID()}"
    memory = MemoryBackend()
    await memory.open()
    verdicts: list[object] = []
    for store in (backend, memory):
        queue = DelayedQueue(store, queue_name)
        try:
            verdicts.append((await queue.schedule(data, name=name, job_id=job_id, delay=delay)).created)
        except JobError:
            verdicts.append("refused")
            stats = await queue.stats()
            assert stats.depth + stats.stream_len == 0
    assert verdicts[0] == verdicts[1]
    if verdicts[0] is True:
        written = [key async for key in client.scan_iter(f"*{queue_name}*", count=10_000)]
        assert sum([await client.memory_usage(key) or 0 for key in written]) < 20_000, "no growth beyond the input"
        await client.delete(*written)
