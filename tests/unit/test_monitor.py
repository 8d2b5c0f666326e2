"""Snapshots of queues, and the sampler that keeps them: what they show, at what pace, and what a failure is about."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from itertools import pairwise

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, PermanentError, Promoter, TransientError
from promoter_core.monitor import Coming, Sampler, render, snapshot
from promoter_core.spi import JobRequest
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


class Watched:
    """The store, with every call counted, and failures for some queues."""

    def __init__(self, backend):
        self._backend = backend
        self.read = []
        self.errors = {}
        self.searching = None

    async def stats(self, queue):
        self.read.append(queue)
        error = self.errors.get(queue) or self.errors.get("*")
        if error is not None:
            raise error
        return await self._backend.stats(queue)

    async def count_jobs(self, queue, bounds_ms):
        return await self._backend.count_jobs(queue, bounds_ms)

    async def find_queues(self, patterns):
        if self.searching is not None:
            raise self.searching
        async for page in self._backend.find_queues(patterns):
            yield page

    def __getattr__(self, name):
        return getattr(self._backend, name)

    promote = schedule = list_jobs = get_jobs = change_jobs = None  # declared, so that protocols are seen


@pytest.fixture
def watched(store):
    backend = Watched(store)
    for name in ("promote", "schedule", "list_jobs", "get_jobs", "change_jobs"):
        setattr(backend, name, getattr(store, name))
    return backend


class Plain:
    """A backend with no optional protocol."""

    def __init__(self, backend):
        for name in ("promote", "schedule", "stats"):
            setattr(self, name, getattr(backend, name))


async def fill(store, clock, *queues, delay=60):
    for name in queues:
        await DelayedQueue(store, name, clock=clock).schedule("x", delay=delay)


async def test_a_snapshot_shows_what_waits_what_comes_and_who_leads(store, clock):
    queue = DelayedQueue(store, "emails", clock=clock)
    ahead = [0, 1, 59, 60, 61, 3600, 3601, 86_400, 86_401]
    await queue.schedule_many([Job(data=s, delay=s) for s in ahead])
    await clock.sleep(0.5)
    (seen,) = (await snapshot(store, "em*", clock=clock)).queues
    assert (seen.name, seen.pattern, seen.error) == ("emails", "em*", None)
    assert seen.stats
    assert (seen.stats.depth, seen.stats.due, seen.overdue_s) == (9, 1, 0.5)
    assert seen.coming == Coming(minute=3, hour=5, day=7)
    assert (seen.led, seen.unled_jobs, seen.lease_s) == (False, 9, None)
    async with Promoter(store, "emails", clock=clock).running():
        await clock.sleep(0.1)
        (seen,) = (await snapshot(store, "emails", clock=clock)).queues
        assert (seen.led, seen.unled_jobs, seen.overdue_s) == (True, 0, 0)
        assert 0 < present(seen.lease_s) <= 5


async def test_parked_jobs_are_not_missed_by_anybody(store, clock):
    await store.schedule("q", [JobRequest(id="far", envelope=b"x", due_ms=10**18)])
    (seen,) = (await snapshot(store, "q", clock=clock)).queues
    assert seen.stats
    assert seen.unled_jobs == seen.stats.depth - seen.stats.parked


async def test_a_snapshot_reads_so_many_queues_and_no_more(watched, store, clock):
    await fill(store, clock, *(f"q{i:03}" for i in range(50)))
    seen = await snapshot(watched, max_queues=20, clock=clock)
    assert seen.more
    assert len(seen.queues) == len(watched.read) == 20
    assert not (await snapshot(watched, max_queues=50, clock=clock)).more


async def test_an_error_is_that_queues_alone(watched, store, clock):
    await fill(store, clock, "good", "bad")
    watched.errors["bad"] = PermanentError("WRONGTYPE", code="WRONGTYPE")
    bad, good = (await snapshot(watched, clock=clock)).queues
    assert (bad.stats, present(bad.error).code) == (None, "WRONGTYPE")
    assert (present(good.stats).depth, good.error) == (1, None)


async def test_a_backends_own_mistake_is_an_error_of_the_queue(watched, store, clock):
    await fill(store, clock, "q")
    watched.errors["q"] = ValueError("what?")
    (seen,) = (await snapshot(watched, clock=clock)).queues
    assert "ValueError('what?')" in str(seen.error)


async def test_a_store_that_does_not_answer_is_waited_for_so_long_and_no_longer(watched, clock):
    never = asyncio.Event()

    async def hang(queue):
        await never.wait()

    watched.stats = hang
    (seen,) = (await snapshot(watched, "q", timeout_s=0.01, clock=clock)).queues
    assert present(seen.error).code == "TIMEOUT"


async def test_a_plain_backend_gives_what_it_can(store, clock):
    await fill(store, clock, "q")
    (seen,) = (await snapshot(untyped(Plain(store)), "q", clock=clock)).queues
    assert (present(seen.stats).depth, seen.coming) == (1, None)
    with pytest.raises(ConfigError, match="Plain cannot find queues"):
        await snapshot(untyped(Plain(store)), "*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": ""}, "empty"),
        ({"pattern": []}, "no queue is named"),
        ({"pattern": "{q}"}, "braces"),
        ({"max_queues": 0}, "max_queues must be a number from 1"),
        ({"timeout_s": float("nan")}, "timeout_s must be a number above 0"),
    ],
)
async def test_bad_input_is_one_clear_line(arguments, message, store):
    with pytest.raises(ConfigError, match=message):
        await snapshot(store, **arguments)


async def sampled(backend, clock, seconds=1.0, **settings):
    """The sampler after some seconds, and its task."""
    sampler = Sampler(backend, clock=clock, **settings)
    task = asyncio.create_task(sampler.run())
    await clock.sleep(seconds)
    return sampler, task


async def ended(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_sampler_keeps_a_recent_look_at_every_queue(store, clock):
    await fill(store, clock, "a", "b")
    sampler, task = await sampled(store, clock, every_s=5)
    assert {queue.name for queue in sampler.state().queues} == {"a", "b"}
    await fill(store, clock, "a")
    await clock.sleep(6)
    state = sampler.state()
    assert {queue.name: queue.stats.depth for queue in state.queues} == {"a": 2, "b": 1}
    assert all(state.now_s - queue.read_s <= 6 for queue in state.queues)
    assert state.reached
    assert sampler.unready() == []
    await ended(task)


async def test_a_new_queue_is_found_within_a_search(store, clock):
    sampler, task = await sampled(store, clock)
    assert sampler.state().queues == ()
    await fill(store, clock, "new")
    await clock.sleep(11)
    assert [queue.unled_jobs for queue in sampler.state().queues] == [1]
    await ended(task)


async def test_the_pace_is_bounded_however_many_queues_there_are(watched, store, clock):
    await fill(store, clock, *(f"q{i}" for i in range(1_000)), delay=10_000)
    sampler, task = await sampled(watched, clock, 10, queues_per_s=100, every_s=1)
    watched.read.clear()
    await clock.sleep(60)
    assert 0.7 * 60 * 100 < len(watched.read) <= 61 * 80, "a fifth fewer than with few queues"
    assert 9 < sampler.state().pass_s < 26, "nobody leads them, so half of the reads may be second looks"
    assert len(set(watched.read)) == 1_000
    await ended(task)


async def test_queues_that_nobody_leads_are_looked_at_again_though_a_pass_is_long(watched, store, clock):
    names = [f"q{i:03}" for i in range(200)]
    await fill(store, clock, *names, delay=10_000)
    for name in names[1:]:
        await store.lock(name, "somebody", 10**9)
    _, task = await sampled(watched, clock, 30, queues_per_s=16)
    watched.read.clear()
    await clock.sleep(60)
    assert watched.read.count("q000") >= 9
    assert watched.read.count("q001") <= 6
    assert len(watched.read) <= 61 * 16, "within the same pace"
    await ended(task)


async def test_a_queue_that_has_nothing_goes_and_a_named_one_stays(store, clock):
    await fill(store, clock, "short", delay=1)
    sampler, task = await sampled(store, clock, patterns=["s*", "named"], forget_s=60)
    async with Promoter(store, "short", clock=clock).running():
        await clock.sleep(5)
    assert {queue.name for queue in sampler.state().queues} == {"short", "named"}
    await clock.sleep(50)
    assert {queue.name for queue in sampler.state().queues} == {"short", "named"}, "not at once: it may come back"
    await clock.sleep(30)
    assert {queue.name for queue in sampler.state().queues} == {"named"}
    assert "short" not in render(sampler.state())
    await fill(store, clock, "short")
    await clock.sleep(20)
    assert {queue.name for queue in sampler.state().queues} == {"short", "named"}
    await ended(task)


async def test_while_the_store_is_away_the_last_samples_stay_and_show_their_age(watched, store, clock, caplog):
    await fill(store, clock, "a", "b", delay=10_000)
    sampler, task = await sampled(watched, clock, forget_s=60)
    watched.errors["*"] = watched.searching = TransientError("gone", code="CONNECTION")
    await clock.sleep(120)
    state = sampler.state()
    assert not state.reached
    assert {queue.stats.depth for queue in state.queues} == {1}
    assert re.fullmatch(r"the store has not answered for 12\d s", *sampler.unready())
    page = render(state)
    assert "promoter_exporter_up 0.0" in page
    assert 'promoter_store_delayed_jobs{queue="a"} 1.0' in page
    assert 'promoter_store_read_ok{queue="a"} 0.0' in page
    assert 'promoter_store_sample_age_seconds{queue="a"} 1' in page
    assert len([r for r in caplog.records if "no longer" in r.message]) == 1, "an outage is one line"
    await clock.sleep(300)
    page = render(sampler.state())
    assert 'delayed_jobs{queue="a"}' not in page, "figures of five minutes ago mislead"
    assert 'promoter_store_read_ok{queue="a"} 0.0' in page
    watched.errors.clear()
    watched.searching = None
    await clock.sleep(20)
    assert sampler.state().reached
    assert 'promoter_store_delayed_jobs{queue="a"} 1.0' in render(sampler.state())
    await ended(task)


async def test_one_queue_that_fails_does_not_keep_the_others_from_being_read(watched, store, clock):
    await fill(store, clock, *(f"q{i}" for i in range(40)), delay=10_000)
    watched.errors["q7"] = TransientError("slow", code="TIMEOUT")
    sampler, task = await sampled(watched, clock, 10)
    state = sampler.state()
    assert state.reached
    assert [queue.name for queue in state.queues if queue.error is not None] == ["q7"]
    assert sum(queue.stats is not None for queue in state.queues) == 39
    await ended(task)


@pytest.mark.parametrize(("bad", "good"), [(20, 40), (1, 16)])
async def test_a_part_of_the_store_that_is_away_takes_nobodys_turn(bad, good, watched, store, clock):
    names = [f"q{i:02}" for i in range(bad + good)]
    await fill(store, clock, *names, delay=10_000)
    sampler, task = await sampled(watched, clock, 10)
    failing = [queue.name for queue in sampler.state().queues][-bad:]
    watched.errors |= dict.fromkeys(failing, TransientError("gone", code="CONNECTION"))
    for _ in range(30):
        await clock.sleep(2.3)
        state = sampler.state()
        assert state.reached
        assert all(state.now_s - queue.read_s < 15 for queue in state.queues if queue.name not in failing)
    await ended(task)


async def test_when_the_store_is_away_a_pass_ends_early(watched, store, clock):
    await fill(store, clock, *(f"q{i}" for i in range(100)), delay=10_000)
    _, task = await sampled(watched, clock, 10, every_s=1)
    watched.errors["*"] = watched.searching = TransientError("gone", code="CONNECTION")
    await clock.sleep(2)
    watched.read.clear()
    await clock.sleep(10)
    assert len(watched.read) <= 11 * 16
    await ended(task)


async def test_further_queues_are_one_by_pattern(store, clock):
    await fill(store, clock, *(f"mail-{i}" for i in range(5)), "other", delay=10_000)
    sampler, task = await sampled(store, clock, patterns=["other", "mail-*"], max_queues=2)
    state = sampler.state()
    assert state.queues[0].name == "other", "what is named comes first"
    assert len(state.queues) == 2
    assert {pattern: len(queues) for pattern, queues in state.rest.items()} == {"mail-*": 4}
    page = render(state)
    assert 'promoter_store_delayed_jobs{pattern="mail-*"} 4.0' in page
    assert 'promoter_store_unled_jobs{pattern="mail-*"} 4.0' in page
    assert 'promoter_store_led{pattern="mail-*"} 0.0' in page
    assert "promoter_exporter_rest_queues 4.0" in page
    assert page.count("promoter_store_delayed_jobs{") == 3
    for queue in [queue.name for queue in state.queues[1:]]:
        jobs = await DelayedQueue(store, queue, clock=clock).jobs()
        await DelayedQueue(store, queue, clock=clock).cancel(jobs.jobs[0])
    await clock.sleep(400)
    assert len(sampler.state().queues) == 2, "another one takes the place that is free"
    assert len(sampler.state().rest["mail-*"]) == 3
    await ended(task)


async def test_a_change_of_the_leader_is_counted(store, clock):
    await fill(store, clock, "q", delay=10_000)
    sampler, task = await sampled(store, clock, 7)
    for _ in range(3):
        async with Promoter(store, "q", clock=clock).running():
            await clock.sleep(12)
    assert sampler.state().queues[0].leader_changes == 3
    assert 'promoter_store_leader_changes_total{queue="q"} 3.0' in render(sampler.state())
    await ended(task)


async def test_the_search_rests_after_each_step(store, clock):
    steps = []

    class Paged(Watched):
        async def find_queues(self, patterns):
            for _ in range(100):
                steps.append(clock.monotonic())
                yield ()

    backend = Paged(store)
    for name in ("promote", "schedule", "list_jobs", "get_jobs", "change_jobs"):
        setattr(backend, name, getattr(store, name))
    _, task = await sampled(backend, clock, 60)
    assert min(after - before for before, after in pairwise(steps[100:])) > 0.039
    await ended(task)


async def test_running_ends_with_its_block(store, clock):
    async with Sampler(store, clock=clock).running() as sampler:
        await fill(store, clock, "q")
        await clock.sleep(11)
        assert len(sampler.state().queues) == 1
    reads = sampler.state().reads
    await clock.sleep(timedelta(minutes=1).total_seconds())
    assert sampler.state().reads == reads


def test_names_are_escaped():
    from promoter_core.monitor import QueueSnapshot, SamplerState

    page = render(SamplerState(queues=[QueueSnapshot(name='a"b\\c', pattern="*")]))
    assert 'promoter_store_read_ok{queue="a\\"b\\\\c"} 0.0' in page
