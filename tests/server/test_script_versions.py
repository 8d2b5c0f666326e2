"""Any two versions of the promote script give the same answers and leave the same stores.

`promote_reference.lua` is one that is kept as it was. Each runs on a queue with the same contents, at the same
time of day, tick by tick. What differs by nature is compared by its meaning: ids of entries by the entry, times to
live within seconds, and `lateness_counts` without the zeros at its end, as it is documented.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from fakeredis import FakeRedis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis, ResponseError

from promoter_core.spi import CHASQUIMQ
from promoter_resp.driver import Script
from promoter_resp.replies import Jobs
from tests.conftest import start_or_skip
from tests.servers import wanted

pytestmark = pytest.mark.server

# The time of day is the last argument, in ms.
CLOCK = "{tostring(math.floor(ARGV[#ARGV] / 1000)), tostring(ARGV[#ARGV] % 1000 * 1000)}"
VERSIONS = {
    "as it was": (Path(__file__).parent / "promote_reference.lua").read_text("utf-8"),
    "today": Script("promote").source,
}
NOW_MS = 1_795_000_000_000
NAMES = (b"", b"a", b"send", b"sens", b"send-email", b"\xff\xfe", b"n" * 300, b"n" * 600)
numbers = count()


@dataclass(frozen=True)
class Member:
    """One member of the sorted set, in few words: what is drawn stays small whatever its size."""

    name: int = 0  # of NAMES
    array: str = "94"  # of the envelope's msgpack
    id: str = "a0"  # its tag, and with it how its length is written
    id_size: int = 20
    payload: int = 20
    cut: int | None = None  # bytes that are left
    raw: bytes | None = None  # instead of all that
    late: float = 0
    index: bool = False
    marker_ms: int | None = None
    trace: bool = False

    @property
    def plain(self) -> bool:
        """Whether its envelope says that it has no index, and so no marker."""
        return self.id == "d9" and self.id_size < 32

    def made(self, number: int) -> tuple[bytes, bytes]:
        """The member, and the id that its index has."""
        id = (b"%06d" % number + b"i" * self.id_size)[: self.id_size]
        if self.raw is not None:
            return self.raw, id
        tag = bytes.fromhex(self.id)
        if tag[:1] == b"\xa0":
            tag = bytes([0xA0 + min(len(id), 31)])
        elif tag in (b"\xd9", b"\xda", b"\xdb"):
            width = 1 << (tag[0] - 0xD9)
            tag += (len(id) % 256**width).to_bytes(width, "big")
        name = NAMES[self.name]
        whole = len(name).to_bytes(4, "little") + name + bytes.fromhex(self.array) + tag + id + b"p" * self.payload
        return (whole if self.cut is None else whole[: max(1, self.cut)]), id


@dataclass(frozen=True)
class Tick:
    """One call of the script."""

    limit: int = 256
    room: int = 10**6  # the stream's length at most
    hold: bool = True
    events: bool = True
    events_room: int = 100
    want_jobs: bool = True
    traces: bool = True
    markers: bool = True
    ours: bool = True
    lease: int = 0
    later_ms: int = 0


BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000, 3_600_000)
late = st.one_of(
    st.sampled_from(BOUNDS),
    st.builds(lambda bound, more: bound * more, st.sampled_from(BOUNDS), st.floats(0.4, 1.6)),
    st.sampled_from((0, 30_000, 61_000, 5_000_000, 1e15, 1e300, math.inf, -1, -50, -1e16, -1e300, -math.inf)),
)
usual: dict[str, st.SearchStrategy] = {
    "name": st.sampled_from((0, 0, 4, 4, 1, 2, 3)),
    "late": late,
    "index": st.booleans(),
    "marker_ms": st.sampled_from((None, -1, 5_000, 3_600_000, 90_000_000)),
    "trace": st.booleans(),
}
odd = {
    "name": st.integers(0, len(NAMES) - 1),
    "array": st.sampled_from(("90", "91", "9f", "a0", "dc0004", "dd00000004", "84", "c0", "")),
    "id": st.sampled_from(("d9", "d9", "d9", "da", "db", "a9", "bf", "c0", "05", "c405", "")),
    "id_size": st.sampled_from((0, 1, 26, 30, 31, 32, 255, 300, 70_000)),
    "payload": st.sampled_from((0, 0, 1, 300, 700_000)),
    "cut": st.integers(1, 60),
    "raw": st.binary(min_size=1, max_size=12),
}
plain = st.builds(Member, **usual)
one_oddity = st.one_of([st.builds(Member, **usual | {key: values}) for key, values in odd.items()])
wild = st.builds(Member, **usual | odd | {"cut": st.none() | odd["cut"], "raw": st.none()})
members = st.one_of(plain, plain, one_oddity, one_oddity, wild)
# Several that differ by nothing but their numbers stand together in the set.
runs = st.lists(st.tuples(st.sampled_from((1, 1, 1, 2, 3, 5)), members), max_size=12)
crowds = st.lists(st.tuples(st.integers(1, 400), members.filter(lambda m: m.id_size < 70_000 > m.payload)), max_size=2)
ticks = st.builds(
    Tick,
    limit=st.sampled_from((256, 1, 2, 3, 4, 5, 36, 37, 1_000)),
    room=st.sampled_from((10**6, 10**6, 0, 2, 7, 40)),
    hold=st.booleans(),
    events=st.booleans(),
    events_room=st.sampled_from((100, 1)),
    want_jobs=st.booleans(),
    traces=st.booleans(),
    markers=st.booleans(),
    ours=st.sampled_from((True,) * 9 + (False,)),
    lease=st.sampled_from((0, 30_000)),
    later_ms=st.sampled_from((0, 0, 1, 70, 70_000, 4_000_000)),
)
broken = st.sampled_from(("", "", "", "", "stream", "events", "dlq"))


@pytest.fixture(scope="module", params=[*wanted(), "fake"])
def store(request):
    servers = [None] if request.param == "fake" else start_or_skip(request.param)
    for server in servers:
        with FakeRedis() if server is None else Redis.from_url(server.url) as client:
            # a trim with ~ then cuts at the same entries whatever the lengths of their ids
            client.config_set("stream-node-max-bytes", 0)
            yield client


def fill(client, k, jobs, flags, wrong):
    pipeline = client.pipeline(transaction=False)
    delayed = {}
    for number, job in enumerate(jobs):
        member, id = job.made(number)
        delayed[member] = NOW_MS - job.late
        if job.index and not job.plain:
            pipeline.set(k.index + id, member, px=None if number % 3 else 7_200_000)
        if job.marker_ms and not job.plain:
            pipeline.set(k.marker + id, "1", px=None if job.marker_ms < 0 else job.marker_ms)
        if job.trace:
            pipeline.set(k.trace + id, b"00-%032x-%016x-01" % (number, number), px=90_000_000)
    if delayed:
        pipeline.zadd(k.delayed, delayed)
    if flags[0]:
        pipeline.set(k.marker, "1", px=90_000_000)
    if flags[1]:
        pipeline.set(k.trace, "1", px=90_000_000)
    if wrong:
        pipeline.set({"stream": k.stream, "events": k.events, "dlq": k.dlq}[wrong], "of another type")
    pipeline.set(k.lock, "me", px=60_000)
    pipeline.execute()


def run(client, k, text, tick, now_ms, *, today):
    """The answer of one tick; for a job its entry in the place of the entry's id."""
    args = [
        "me" if tick.ours else "you",
        tick.lease,
        tick.limit,
        tick.room,
        int(tick.hold),
        int(tick.events),
        tick.events_room,
        int(tick.want_jobs),
        k.index,
        k.trace if tick.traces else b"",
        *([k.marker, k.keep] if tick.markers else [b"", b""] if today else []),
        *([1] if today else []),
    ]
    try:
        reply = client.eval(text, 5, k.lock, k.delayed, k.stream, k.events, k.dlq, *args, now_ms)
    except ResponseError as error:
        return str(error).split()[0]
    if len(reply) > 1:
        entries = dict(client.xrange(k.stream)) if reply[7] else {}
        oldest = min(entries, default=b"")
        for i in range(3, len(reply[7]), 4):
            entry = reply[7][i]
            reply[7][i] = entries.get(entry, "trimmed")
            assert entry in entries or not tick.hold, (entry, oldest)
        while reply[8] and reply[8][-1] == 0:
            reply[8].pop()
        if today:  # it says whose each trace context is
            reply[9] = reply[9][2::3]
            reply[7][2::4] = [job.due_ms for job in Jobs(reply[7], 0, {})]
            reply[7] = [without_traces(field) for field in reply[7]]
        if not tick.traces:
            reply[9] = []
    return reply


def without_traces(fields):
    """The fields of an entry, but for the trace context, which has not always been there."""
    return {k: v for k, v in fields.items() if k != b"traceparent"} if isinstance(fields, dict) else fields


def contents(client, k):
    """All keys of a queue with their values, and apart from them how long each has to live."""
    scan = partial(client.scan_iter, k.prefix + b"*", count=10_000)
    keys = sorted(scan())
    strings, sets, streams = (list(scan(_type=kind)) for kind in ("string", "zset", "stream"))
    values = dict(zip(strings, client.mget(strings), strict=True)) if strings else {}
    values |= {key: client.zrange(key, 0, -1, withscores=True) for key in sets}
    values |= {key: [without_traces(fields) for _, fields in client.xrange(key)] for key in streams}
    assert sorted(values) == keys, "each is of one of these types"
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.pttl(key)
    left = dict(zip(keys, pipeline.execute(), strict=True))
    by_name = ({key.removeprefix(k.prefix): found[key] for key in keys} for found in (values, left))
    return tuple(by_name)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    jobs=st.builds(operator.add, runs, crowds) | runs,
    flags=st.tuples(st.booleans(), st.booleans()),
    wrong=broken,
    program=st.lists(ticks, min_size=1, max_size=4),
)
@example([(300, Member(name=4, late=120_000, index=True))], (True, True), "", [Tick(), Tick()])
@example([(300, Member(late=120_000))], (False, False), "", [Tick(want_jobs=False), Tick(limit=1_000)])
@example([(1, Member(name=4, late=i)) for i in range(10)], (False, False), "", [Tick(want_jobs=False)])
@example([(1, Member(late=i)) for i in (0, 3, 59_999)], (False, False), "", [Tick()])
@example([(1, Member(late=1.5))], (False, False), "", [Tick()])
@example([(6, Member(payload=700_000, late=9))], (False, False), "", [Tick(), Tick()])
@example([(3, Member(name=n, late=9 - n)) for n in (2, 3)] + [(2, Member(name=2))], (False, False), "", [Tick()])
@example([(3, Member(name=4, late=9)), (2, Member(name=4, payload=0, late=8))], (False, False), "", [Tick()])
@example([(1, Member(name=4, payload=0, late=5))], (False, False), "", [Tick()])
@example(
    [(n, Member(index=True, marker_ms=5_000, late=ms)) for n, ms in ((4, 61_000), (2, 30_000))],
    (True,) * 2,
    "",
    [Tick()],
)
@example([(2, Member(id="d9", id_size=32, index=True, late=9))], (False, False), "", [Tick()])
@example([(1, Member(late=1)), (1, Member(late=math.inf))], (False, False), "", [Tick()])
@example([(3, Member(name=n, id="d9", late=9 + n)) for n in (0, 4, 0)], (True, True), "", [Tick()])
@example([(3, Member(id="d9", late=9, payload=n)) for n in (0, 1)], (False, False), "", [Tick(), Tick()])
@example([(3, Member(name=4, late=9, id=id, trace=True)) for id in ("d9", "a0")], (True, True), "", [Tick()])
@example([(1, Member(raw=b"x", late=5))], (False, False), "dlq", [Tick()])
def test_two_versions_of_the_script_answer_the_same_and_leave_the_same(store, jobs, flags, wrong, program):
    jobs = [member for size, member in jobs for _ in range(size)]
    seen = {}
    for version, text in VERSIONS.items():
        text = text.replace("call('TIME')", CLOCK)
        assert CLOCK in text
        k = CHASQUIMQ.keys_of(f"versions-{next(numbers)}")
        fill(store, k, jobs, flags, wrong)
        answers, now_ms = [], NOW_MS
        for tick in program:
            now_ms += tick.later_ms
            answers.append(run(store, k, text, tick, now_ms, today=version == "today"))
        seen[version] = answers, *contents(store, k)
        store.delete(*store.scan_iter(k.prefix + b"*", count=10_000))
    (was, was_left, was_until), (now, now_left, now_until) = seen.values()
    assert now == was
    for number, job in enumerate(jobs):
        if job.plain:  # among others that were very late it had a marker, which nobody looks at
            marker = b"dlid:" + job.made(number)[1]
            for seen_of in (was_until, was_left, now_left) if marker != b"dlid:" else (was_until,):
                seen_of.pop(marker, None)
    assert now_left == was_left
    for name, left in was_until.items():
        assert left == now_until[name] if left < 0 else abs(left - now_until[name]) < 30_000, name
