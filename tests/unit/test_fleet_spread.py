"""Several fleets on the same queues: who leads what, and for how long nobody does. On the virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from promoter_core import DelayedQueue, PermanentError, PromoterFleet, PromoterSettings
from promoter_core.runner.fleet.rendezvous import Rendezvous, fingerprint, weight
from promoter_core.testing import RecordingEvents
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped

QUEUES = [f"q{i}" for i in range(60)]
LEASE_S = 2.0
SETTINGS = PromoterSettings(lock_ttl_ms=int(LEASE_S * 1000))


class Process:
    """A fleet and its backend. It can die without a word."""

    def __init__(self, store, clock, name, queues=QUEUES, patterns=()):
        self.events = RecordingEvents()
        self.backend = MemoryBackend(store)
        self.fleet = PromoterFleet(
            self.backend, [*queues, *patterns], SETTINGS, holder_id=name, clock=clock, events=[self.events]
        )

    async def start(self):
        await self.backend.open()
        self.task = asyncio.create_task(self.fleet.run())
        return self

    async def stop(self):
        self.fleet.stop()
        await self.task

    async def die(self):
        await self.backend.close()  # nothing that it does from now on reaches the store

    async def bury(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def processes(store, clock):
    started = [await Process(store, clock, name).start() for name in ("a", "b", "c")]
    await clock.sleep(1)
    yield started
    for process in started:
        await process.bury()


def led_by(store, clock, queues=QUEUES):
    return [store[q].holder(clock.time_ms()) for q in queues]


async def leaderless(store, clock, seconds):
    """For how long each queue has had no leader within the next seconds, at most, looked at every 10 ms."""
    longest: Counter[str] = Counter()
    current: Counter[str] = Counter()
    for _ in range(int(seconds * 100)):
        for queue, holder in zip(QUEUES, led_by(store, clock), strict=True):
            current[queue] = 0 if holder else current[queue] + 10
            longest[queue] = max(longest[queue], current[queue])
        await clock.sleep(0.01)
    return max(longest.values())


async def test_each_of_equal_processes_leads_its_share(processes, store, clock):
    shares = Counter(led_by(store, clock))
    assert shares.keys() == {"a", "b", "c"}
    assert min(shares.values()) >= 10, shares
    owners = led_by(store, clock)
    await clock.sleep(30)
    assert led_by(store, clock) == owners, "nothing moves while nobody comes or goes"


async def test_a_process_that_comes_is_given_its_share_and_no_queue_is_without_a_leader(processes, store, clock):
    before = led_by(store, clock)
    processes.append(await Process(store, clock, "d").start())
    assert await leaderless(store, clock, 3) <= 50
    after = led_by(store, clock)
    moved = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
    assert {y for _, y in moved} == {"d"}, "only what the new one gains moves"
    assert 5 <= len(moved) <= 25


async def test_a_process_that_stops_hands_over_at_once(processes, store, clock):
    before = led_by(store, clock)
    stopping = asyncio.create_task(processes[1].stop())
    assert await leaderless(store, clock, 2) <= 50
    await stopping
    after = led_by(store, clock)
    assert set(after) == {"a", "c"}
    assert [x for x, y in zip(before, after, strict=True) if x != y] == ["b"] * before.count("b")


async def test_a_process_that_is_cancelled_hands_over_at_once(processes, store, clock):
    cancelling = asyncio.create_task(processes[1].bury())
    assert await leaderless(store, clock, 1) <= 50
    await cancelling
    assert set(led_by(store, clock)) == {"a", "c"}


async def test_a_process_that_dies_is_replaced_when_its_lease_ends(processes, store, clock):
    await processes[2].die()
    died_s = clock.monotonic()
    while "c" in led_by(store, clock) or None in led_by(store, clock):
        await clock.sleep(0.01)
    assert clock.monotonic() - died_s <= LEASE_S + 0.05
    assert set(led_by(store, clock)) == {"a", "b"}


@pytest.mark.parametrize("after_s", [0.01, 0.2, 0.5, 0.7, 1.1])
async def test_locks_end_together_with_the_membership_whenever_a_process_dies(processes, store, clock, after_s):
    await clock.sleep(2 + after_s)
    await processes[0].die()
    assert await leaderless(store, clock, LEASE_S + 1) <= 60
    assert "a" not in led_by(store, clock)


async def test_no_job_is_lost_or_promoted_twice_while_processes_come_and_go(processes, store, clock):
    producer = MemoryBackend(store)
    await producer.open()
    for i, queue in enumerate(QUEUES):
        for n in range(20):
            await DelayedQueue(producer, queue).schedule(
                n, job_id=f"{queue}-{n}", delay=0.5 + (n * 577 + i * 31) % 9000 / 1000
            )
    processes.append(await Process(store, clock, "d").start())
    await clock.sleep(2)
    await processes[0].stop()
    await clock.sleep(2)
    await processes[1].die()
    await clock.sleep(10)
    counts = Counter(job.id for p in processes for job in p.events.jobs)
    assert set(counts.values()) == {1}
    assert len(counts) == 60 * 20


async def test_a_queue_that_one_process_finds_is_led_by_the_one_that_it_belongs_to(store, clock):
    a = await Process(store, clock, "a", [], ["mail-*"]).start()
    b = await Process(store, clock, "b", [], ["mail-*"]).start()
    await clock.sleep(1)
    producer = MemoryBackend(store)
    await producer.open()
    names = [f"mail-{i}" for i in range(20)]
    feeds, store.flags._feeds = store.flags._feeds, []  # nobody hears of these
    for name in names:
        await DelayedQueue(producer, name).schedule(1, delay=60)
    store.flags._feeds = feeds
    await clock.sleep(11)
    assert set(led_by(store, clock, names)) == {"a", "b"}
    for process in (a, b):
        await process.stop()


async def test_a_process_that_comes_learns_of_queues_that_are_empty(store, clock):
    producer = MemoryBackend(store)
    await producer.open()
    names = [f"mail-{i}" for i in range(20)]
    for name in names:
        await DelayedQueue(producer, name).schedule(1, delay=2)
    a = await Process(store, clock, "a", [], ["mail-*"]).start()
    await clock.sleep(10)
    assert sum(store[name].depth for name in names) == 0
    b = await Process(store, clock, "b", [], ["mail-*"]).start()
    await clock.sleep(1)
    assert set(led_by(store, clock, names)) == {"a", "b"}
    for process in (a, b):
        await process.stop()


async def test_processes_with_other_queues_are_no_members_of_the_group(store, clock):
    a = await Process(store, clock, "a", QUEUES[:30]).start()
    b = await Process(store, clock, "b", QUEUES[20:]).start()
    await clock.sleep(1)
    owners = led_by(store, clock)
    assert set(owners[:20]) == {"a"}
    assert set(owners[30:]) == {"b"}
    assert None not in owners
    for process in (a, b):
        await process.stop()


async def test_a_process_that_can_serve_none_of_its_queues_leaves_them_to_the_others(processes, store, clock):
    class Refused(MemoryBackend):
        async def promote_many(self, asked):
            raise PermanentError("NOPERM no permissions to run the 'evalsha' command", code="NOPERM")

    backend = Refused(store)
    await backend.open()
    with pytest.raises(PermanentError, match="NOPERM"):
        await PromoterFleet(backend, QUEUES, SETTINGS, holder_id="d", clock=clock).run()
    await clock.sleep(0.2)
    assert set(led_by(store, clock)) == {"a", "b", "c"}


def test_rendezvous_is_even_and_moves_no_more_than_it_must():
    queues = [f"queue-{i}" for i in range(3_000)]
    r = Rendezvous()
    for queue in queues:
        r.add_queue(queue)
    assert r.owner("queue-0") is None
    members = [f"host-{i}-{i * 7919}" for i in range(10)]
    assert r.set_members(members)
    shares = Counter(r.owner(q) for q in queues)
    assert max(shares.values()) < 1.25 * 300
    assert min(shares.values()) > 0.75 * 300
    before = {q: r.owner(q) for q in queues}
    assert r.set_members(members[1:])
    after = {q: r.owner(q) for q in queues}
    assert {q for q in queues if after[q] != before[q]} == {q for q in queues if before[q] == members[0]}
    assert r.set_members(members)
    assert {q: r.owner(q) for q in queues} == before, "it depends on the members only, not on how they came"
    assert not r.set_members(members)
    for n, queue in enumerate(queues[:60]):  # asked for now and then only, while members come and go
        r.set_members(members[n % 7 : 8 + n % 3])
        assert r.owner(queue) == max((weight(fingerprint(m), fingerprint(queue)), m) for m in r.members)[1]
    r.set_members(members)
    other = Rendezvous()
    other.set_members(reversed(members))
    for queue in queues:
        other.add_queue(queue)
    assert {q: other.owner(q) for q in queues} == before


class Mute(MemoryBackend):
    """Nothing is heard of new queues: sweeps have to find them."""

    async def subscribe(self):
        feed = await super().subscribe()
        hear = feed.next

        async def next_(timeout_s):
            changes = await hear(timeout_s)
            return replace(changes, jobs=frozenset())

        untyped(feed).next = next_
        return feed


async def test_a_fleet_that_does_not_spread_leads_what_a_later_sweep_finds(store, clock):
    events, backend = RecordingEvents(), Mute(store)
    await backend.open()
    fleet = PromoterFleet(backend, ["q*"], clock=clock, events=[events], spread=False, discover_s=5)
    async with fleet.running():
        await clock.sleep(1)
        await DelayedQueue(backend, "q-new").schedule(1, delay=1, job_id="a")
        await clock.sleep(15)
        assert events.ids == ["a"]
