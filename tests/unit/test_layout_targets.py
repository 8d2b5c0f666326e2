"""Processes with different options of one layout on a queue: each says so once, and `diagnose` finds it."""

from __future__ import annotations

import contextlib

import pytest
from ulid import ULID

from promoter_core import DelayedQueue, Promoter, connect
from promoter_core.spi import Lease, Severity
from promoter_resp.targets import described


@pytest.fixture
async def backend_by():
    async with contextlib.AsyncExitStack() as stack:
        url = f"fake://targets-{ULID()}"
        yield lambda layout: stack.enter_async_context(connect(url, layout=layout))


def said(caplog):
    return [r.getMessage() for r in caplog.records if "due jobs go elsewhere" in r.getMessage()]


async def lead(backend, holder="h"):
    lease = await backend.lock("q", holder, 5_000)
    assert isinstance(lease, Lease)
    return lease


async def test_a_producer_says_once_that_the_promoter_delivers_elsewhere(backend_by, caplog):
    theirs, mine = await backend_by("list:key=a"), await backend_by("list:key=b")
    await lead(theirs)
    for _ in range(3):
        await DelayedQueue(mine, "q").schedule(b"x", delay=60)
    (message,) = said(caplog)
    assert "(RPUSH a) than by these (RPUSH b)" in message
    assert "layout 'list'" in message


async def test_a_promoter_says_that_another_process_has_other_options_and_its_own_count(backend_by, caplog):
    producer, leader = await backend_by("stream:field=a"), await backend_by("stream:field=b")
    await DelayedQueue(producer, "q").schedule(b"x")
    await Promoter(leader, "q").run(until_idle=True)
    (message,) = said(caplog)
    assert "(XADD q a=payload) than by these (XADD q b=payload)" in message
    caplog.clear()
    later = await backend_by("stream:field=b")
    await DelayedQueue(later, "q").schedule(b"x", delay=60)
    assert not said(caplog), "the leader's options are those that count"


async def test_a_follower_says_it_before_it_leads(backend_by, caplog):
    leader, follower = await backend_by("list:side=left"), await backend_by("list:side=right")
    await lead(leader)
    await follower.lock("q", "other", 5_000)
    assert "(LPUSH q) than by these (RPUSH q)" in said(caplog)[0]


async def test_the_same_options_are_no_news(backend_by, caplog):
    for _ in range(2):
        backend = await backend_by("celery")
        await DelayedQueue(backend, "q").schedule(b"x", delay=60)
        await backend.unlock(await lead(backend))
    assert not said(caplog)


async def test_a_diagnosis_names_the_queue_and_both_targets(backend_by):
    theirs, mine = await backend_by("list:key=a"), await backend_by("list:key=b")
    for queue in ("one", "two"):
        await DelayedQueue(theirs, queue).schedule(b"x", delay=60)
    await DelayedQueue(mine, "three").schedule(b"x", delay=60)
    found = [f for f in await mine.diagnose() if "due jobs go elsewhere" in f.summary]
    assert {f.summary for f in found} == {
        f"queue {queue!r}: due jobs go elsewhere (RPUSH a) than by these options (RPUSH b)" for queue in ("one", "two")
    }
    assert {f.severity for f in found} == {Severity.PROBLEM}
    assert not [f for f in await (await backend_by("celery")).diagnose() if "due jobs go elsewhere" in f.summary]


async def test_the_default_layout_notes_nothing(backend_by):
    backend = await backend_by(None)
    assert described(backend.layout, "q") == ""
    await DelayedQueue(backend, "q").schedule(b"x", delay=60)
    assert await backend._driver.command(b"k", b"KEYS", b"*target*") == []
