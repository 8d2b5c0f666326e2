"""When jobs become due, how late they are promoted, and how many a second: figures that a live view is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, PermanentError, Promoter
from promoter_core.monitor import LatenessProbe, QueueSnapshot, future
from promoter_core.monitor.reading import read_queue
from promoter_core.spi import StreamEntry, StreamName
from promoter_core.testing import VirtualClock
from promoter_memory.backend import MemoryBackend
from tests.typed import present, untyped


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def store(clock):
    backend = MemoryBackend(clock=clock)
    await backend.open()
    return backend


async def fill(store, clock, queue, *delays):
    await DelayedQueue(store, queue, clock=clock).schedule_many([Job(data=0, delay=delay) for delay in delays])


async def test_the_future_is_what_is_overdue_bars_and_what_comes_later(store, clock):
    await fill(store, clock, "a", 0, 0.5, 1, 1.001, 59.9, 60, 61, 3600)
    await clock.sleep(0.0005)
    seen = await future(store, ["a"], ahead_s=60, bars=60)
    assert (seen.overdue, seen.step_ms, seen.later) == (1, 1000, 2)
    assert (seen.bars[0], seen.bars[1], seen.bars[59]) == (2, 1, 2)
    assert sum(seen.bars) + seen.overdue + seen.later == 8


async def test_the_future_of_several_queues_is_a_sum(store, clock):
    await fill(store, clock, "a", 5, 15)
    await fill(store, clock, "b", 5, 90)
    seen = await future(store, ["a", "b"], ahead_s=20, bars=2)
    assert (seen.bars, seen.later) == ((2, 1), 1)


@pytest.mark.parametrize(
    ("queues", "arguments", "message"),
    [
        ([], {"ahead_s": 60}, "takes one queue or more"),
        (["a"], {"ahead_s": 0}, "ahead_s must be a number above 0"),
        (["a"], {"ahead_s": 60, "bars": 501}, "1 to 500 bars"),
        (["a"], {"ahead_s": 60, "bars": 1.5}, "1 to 500 bars"),
    ],
)
async def test_what_no_future_can_be_made_of_is_refused(queues, arguments, message, store):
    with pytest.raises(ConfigError, match=message):
        await future(store, queues, **arguments)


async def test_a_probe_sees_how_late_jobs_were_promoted(store, clock):
    probe = LatenessProbe(store, "q")
    await fill(store, clock, "q", 10, 10, 20)
    assert await probe.look() is None
    await clock.sleep(10.25)
    async with Promoter(store, "q", clock=clock).running():
        await clock.sleep(1)
        seen = present(await probe.look())
        assert (seen.jobs, seen.p50_ms, seen.p99_ms) == (2, 250, 250)
        await clock.sleep(20)
        assert present(await probe.look()).jobs == 3
    assert probe.recent_ms == (250, 250, 0)


async def test_a_probe_takes_a_sample_of_a_busy_queue_and_goes_on(store, clock):
    probe = LatenessProbe(store, "q")
    await fill(store, clock, "q", *(i / 100 for i in range(1, 6_001)))
    await probe.look()
    async with Promoter(store, "q", clock=clock).running():
        for _ in range(30):
            await clock.sleep(2)
            await probe.look()
    assert present(await probe.look()).jobs >= 200
    assert present(probe.lateness).p99_ms <= 10


async def test_a_probe_leaves_cancelled_moved_and_early_jobs_out(store, clock):
    queue = DelayedQueue(store, "q", clock=clock)
    for id in ("cancelled", "early", "plain"):
        await queue.schedule(0, delay=10, job_id=id)
    probe = LatenessProbe(store, "q")
    await probe.look()
    await queue.cancel("cancelled")
    await queue.run_now("early")
    async with Promoter(store, "q", clock=clock).running():
        await clock.sleep(200)
        assert present(await probe.look()).jobs == 1
        await probe.look()
    assert probe._due_ms == {}, "what never comes is forgotten"


class Counted:
    """A store whose ids of entries are plain numbers, and which refuses any other."""

    def __init__(self, backend):
        self._backend = backend
        for name in ("promote", "schedule", "list_jobs", "get_jobs", "change_jobs", "count_jobs", "stats"):
            setattr(self, name, getattr(backend, name))

    async def read(self, queue, stream, after, limit):
        if not (after or "0").isdecimal():
            raise PermanentError(f"{after!r} is not an entry id", code="BADID")
        entries = await self._backend.read(queue, stream, "", 10_000)
        numbered = [StreamEntry(str(n), entry.fields) for n, entry in enumerate(entries, 1)]
        return tuple(numbered[int(after or "0") :][:limit])


async def test_a_probe_works_where_ids_of_entries_are_no_times(store, clock):
    backend = Counted(store)
    await fill(store, clock, "q", *(i / 100 for i in range(1, 301)))
    async with Promoter(store, "q", clock=clock).running():
        await clock.sleep(30)
        await fill(store, clock, "q", 10, 10)
        probe = LatenessProbe(untyped(backend), "q")
        await probe.look()
        await clock.sleep(15)
        for _ in range(4):
            await probe.look()
    assert probe.recent_ms == (0, 0)


class Fixed:
    """A store that gives these statistics."""

    promote = schedule = None

    def __init__(self, stats):
        self.given = stats

    async def stats(self, queue):
        return self.given


@pytest.mark.parametrize(("before", "after", "rate"), [(10, 16, 3), (10, 10, 0), (10, 4, None), (None, 16, None)])
async def test_the_rate_is_that_of_entries_between_two_reads(before, after, rate, store, clock):
    stats = replace(await store.stats("q"), stream_added=before)
    first = await read_queue(untyped(Fixed(stats)), QueueSnapshot(name="q", pattern="q"), clock, 1)
    assert first.added_per_s is None
    later = replace(stats, now_ms=stats.now_ms + 2_000, stream_added=after)
    assert (await read_queue(untyped(Fixed(later)), first, clock, 1)).added_per_s == rate


async def test_events_are_read_and_nothing_is_written(store, clock):
    await fill(store, clock, "q", 1)
    probe = LatenessProbe(store, "q")
    await probe.look()
    await clock.sleep(2)
    await probe.look()
    assert await store.read("q", StreamName.EVENTS, "", 10) == ()
    assert (await store.stats("q")).depth == 1
