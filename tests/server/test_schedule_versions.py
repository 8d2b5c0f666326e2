"""Any two versions of the schedule script give the same answers and leave the same stores.

`schedule_reference.lua` is one that is kept as it was. Each runs on a queue with the same contents, at the same time of
day, call by call. Times to live are compared within seconds.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeRedis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis, ResponseError

from promoter_core.spi import CHASQUIMQ
from promoter_resp.driver import Script
from tests.server.test_script_versions import NOW_MS, contents, store

__all__ = ["store"]  # a fixture

pytestmark = pytest.mark.server

VERSIONS = {
    "as it was": (Path(__file__).parent / "schedule_reference.lua").read_text("utf-8"),
    "today": Script("schedule").source,
}
CLOCK = f"{{'{NOW_MS // 1000}', '{NOW_MS % 1000 * 1000}'}}"
numbers = count()

ids = st.sampled_from(("a", "b", "c", "d")) | st.integers(0, 10**6).map(str)
times = st.sampled_from(("+0", "+1", "+5000", "0", str(NOW_MS - 1), str(NOW_MS + 10), "+253402300799999", "9" * 15))
jobs = st.lists(
    st.tuples(ids, times, st.sampled_from((0, 2, 2, 2, 1, 3, 4, 6, 7)), st.sampled_from(("", "x", "y"))), max_size=40
)
waiting = st.lists(st.tuples(ids, st.sampled_from((-1e16, 0, NOW_MS - 7_200_000, NOW_MS - 5, NOW_MS + 7))), max_size=6)


def member(id: str, text: str = "") -> bytes:
    return CHASQUIMQ.encode_member("", f"{id} {text}".encode())


def prefixes(k: Any, version: str) -> list[bytes]:
    return [k.index, k.marker, k.wake, k.trace, *([k.keep] if version == "today" else [])]


def as_it_was(answer: int) -> int:
    """An id that is taken: today's script also says whether its job waits."""
    return 0 if answer == 3 else answer


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=waiting,
    indexed=st.booleans(),
    marked=st.lists(ids, max_size=2),
    traces=st.booleans(),
    wrong=st.sampled_from((False, False, False, True)),
    program=st.lists(jobs, min_size=1, max_size=3),
)
@example(
    [], True, [], False, False, [[("a", "+5", 2, ""), ("b", "+4", 2, ""), ("b", "+9", 3, ""), ("a", "+9", 3, "x")]]
)
@example([], True, [], False, False, [[("a", "+5", 2, ""), ("b", "+4", 0, ""), ("b", "+9", 0, ""), ("b", "+3", 1, "")]])
@example(
    [], True, ["a"], True, False, [[("c", "+5", 2, ""), ("a", "+4", 2, ""), ("a", "+9", 6, ""), ("a", "+3", 0, "")]]
)
def test_two_versions_of_the_script_answer_the_same_and_leave_the_same(
    store, before, indexed, marked, traces, wrong, program
):
    seen = {}
    for version, text in VERSIONS.items():
        text = text.replace("call('TIME')", CLOCK)
        assert CLOCK in text
        k = CHASQUIMQ.keys_of(f"schedules-{next(numbers)}")
        for id, due_ms in before:
            store.zadd(k.delayed, {member(id): due_ms})
            if indexed:
                store.set(k.index + id.encode(), member(id))
        for id in marked:
            store.set(k.marker + id.encode(), "1", px=60_000)
        if traces:
            store.set(k.trace, "1", px=90_000_000)
            store.set(k.trace + b"a", "another's", px=90_000_000)
        if wrong and not before:
            store.xadd(k.delayed, {"of": "another type"})
        answers: list[object] = []
        for some in program:
            args: list[object] = [*prefixes(k, version)]
            for id, when, flags, more in some:
                args += [id, when, flags, member(id, more), *(["00-trace"] if flags >= 4 else [])]
            try:
                answers.append([as_it_was(answer) for answer in store.eval(text, 1, k.delayed, *args)])
            except ResponseError as error:
                answers.append(str(error).split()[0])
        seen[version] = answers, *contents(store, k)
        store.delete(*store.scan_iter(k.prefix + b"*", count=10_000), k.prefix)
    (was, was_left, was_until), (now, now_left, now_until) = seen.values()
    assert now == was
    for name in [name for name in was_left if name.startswith(b"didx:") and now_left.get(name) != was_left[name]]:
        # Today a job that is not unique leaves the index and the trace context of a waiting one that has taken the id.
        id = name.removeprefix(b"didx:")
        assert b"dlid:" + id in was_left or any(due < NOW_MS - 3_540_000 for _, due in was_left[b"delayed"])
        assert {was_left[name], now_left[name]} <= {member for member, _ in now_left[b"delayed"]}
        for left in (was_left, now_left, was_until, now_until):
            left.pop(name, None)
            left.pop(b"trace:" + id, None)
    assert now_left == was_left
    for name, left in was_until.items():
        assert left == now_until[name] if left < 0 else abs(left - now_until[name]) < 30_000, name


@pytest.mark.parametrize("refused", ["set", "zadd"])
def test_what_is_refused_is_refused_at_the_first_job(store, refused):
    if isinstance(store, FakeRedis):
        pytest.skip("has no permissions")
    seen = {}
    store.acl_setuser("few", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", f"-{refused}"])
    try:
        connection = store.connection_pool.connection_kwargs
        with Redis(host=connection["host"], port=connection["port"], username="few", password="any") as few:
            for version, text in VERSIONS.items():
                k = CHASQUIMQ.keys_of(f"schedules-{next(numbers)}")
                args = [part for id in "abc" for part in (id, "+60000", 2, member(id))]
                with pytest.raises(ResponseError, match="(?i)acl|permission|can't run"):
                    few.eval(text, 1, k.delayed, *prefixes(k, version), *args)
                seen[version] = [store.zcard(k.delayed), store.exists(*(k.index + id.encode() for id in "abc"))]
    finally:
        store.acl_deluser("few")
    assert seen == {"as it was": [int(refused == "set"), 0], "today": [0, 0]}
