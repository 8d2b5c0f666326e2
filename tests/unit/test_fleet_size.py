"""A fleet of many queues does little between two ticks, whatever happens to all of its queues at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter

import pytest

from promoter_core import DelayedQueue, PermanentError, Promoter, PromoterFleet, PromoterSettings, TransientError
from promoter_core.runner.fleet import machine_pool
from promoter_core.runner.fleet.discovery import Discovery
from promoter_core.runner.fleet.machine_pool import RENEWED_AT_ONCE
from promoter_core.runner.fleet.round_robin import AT_ONCE, LOCKS_AT_ONCE
from promoter_core.spi import ChangeFlags, ChangeKind, JobRequest, SystemClock, pack_envelope
from promoter_core.spi.change_flags import MOST_CHANGES, MOST_FLAGS
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped

WAY_S = 0.01  # to the store and back
LEASE_MS = 2_000
QUEUES = [f"q{i:04}" for i in range(1_500)]


class Far(FaultyBackend):
    """A store that is 10 ms away. `largest` is the most that one call of a method has asked for."""

    def __init__(self, backend, clock):
        methods = ("lock_many", "promote_many", "renew_many", "announce", "unlock", "join_group")
        super().__init__(backend, *(Fault(m, onwards=True, error=None, delay_s=WAY_S) for m in methods), clock=clock)
        self.largest: Counter[str] = Counter()

        for name in ("lock_many", "promote_many", "renew_many", "announce"):
            setattr(self, name, self._counted(name, getattr(self, name)))

    def _counted(self, name, method):
        def call(asked, *args):
            self.largest[name] = max(self.largest[name], len(asked))
            return method(asked, *args)

        return call


def fleet(backend, clock, holder, queues=QUEUES, **options):
    settings = PromoterSettings(lock_ttl_ms=LEASE_MS)
    return PromoterFleet(backend, queues, settings, holder_id=holder, clock=clock, **options)


async def another(store, clock):
    backend = MemoryBackend(store)
    await backend.open()
    return Far(backend, clock)


def free(store, clock, queues=QUEUES):
    return sum(store[q].holder(clock.time_ms()) is None for q in queues)


async def all_led(store, clock):
    while free(store, clock):
        await clock.sleep(0.05)
    await clock.sleep(2)


def late_ms(batches, queues=frozenset(QUEUES)):
    return max(job.promoted_ms - job.due_ms for queue, jobs in batches if queue in queues for job in jobs)


async def test_a_newcomer_is_given_its_share_while_all_others_are_served(backend, store, clock):
    far, events = Far(backend, clock), RecordingEvents()
    async with fleet(far, clock, "a", events=[events]).running():
        await all_led(store, clock)
        for i, queue in enumerate(QUEUES):
            await backend.schedule(queue, [JobRequest("x", pack_envelope("x", b"", 0, 0), delay_ms=4_000 + i * 2)])
        await clock.sleep(3.5)
        async with fleet(await another(store, clock), clock, "b", events=[events]).running():
            most = 0
            for _ in range(300):
                await clock.sleep(0.02)
                most = max(most, free(store, clock))
            kept, moved = ({q for q in QUEUES if store[q].holder(clock.time_ms()) == holder} for holder in "ab")
    assert most <= 2 * LOCKS_AT_ONCE, "only what has been handed over and is being taken"
    assert min(len(kept), len(moved)) > 600
    assert len(events.jobs) == len(QUEUES)
    assert late_ms(events.batches, moved) <= 1_000, "a lock that is taken over is followed by a tick"
    assert late_ms(events.batches, kept) <= 20 * WAY_S * 1000, (
        "the others wait for some round trips, not for one a queue"
    )
    assert 0 < far.calls["announce"] <= 100, "many at once"


@pytest.mark.parametrize("what", ["connection", "renewal"])
async def test_a_job_is_on_time_while_everything_else_is_looked_at(backend, store, clock, what):
    far, events = Far(backend, clock), RecordingEvents()
    async with fleet(far, clock, "a", events=[events]).running():
        await all_led(store, clock)
        for i in range(200):
            await backend.schedule(
                QUEUES[-i], [JobRequest("x", pack_envelope("x", b"", 0, 0), delay_ms=1_000 + i * 20)]
            )
        await clock.sleep(0.8)
        for _ in range(5):
            if what == "connection":
                store.flags.set_all()  # what was written in the meantime is not known
            await clock.sleep(1.2)
    assert len(events.jobs) == 200
    assert late_ms(events.batches) <= 10 * WAY_S * 1000
    assert far.largest["renew_many"] == RENEWED_AT_ONCE, "leases are renewed with ticks in between"
    assert far.largest["promote_many"] <= AT_ONCE


async def test_a_renewal_of_all_that_takes_long_loses_no_lease_that_it_does_not_know_yet(
    backend, store, clock, monkeypatch
):
    monkeypatch.setattr(machine_pool, "RENEWED_AT_ONCE", 20)
    slow = FaultyBackend(backend, Fault("renew_many", onwards=True, error=None, delay_s=0.5), clock=clock)
    async with fleet(slow, clock, "a", ["q*"]).running():
        for i in range(80):
            await DelayedQueue(backend, f"q{i}").schedule(1, delay=3_600)
            await clock.sleep(0.0 if i < 60 else 0.13)
        held: set[str] = set()
        for _ in range(500):
            await clock.sleep(0.01)
            lost = [q for q in held if store[q].holder(clock.time_ms()) is None]
            assert not lost
            held |= {q for q in (f"q{i}" for i in range(80)) if store[q].holder(clock.time_ms())}
    assert len(held) == 80


async def test_queues_that_another_leads_are_dropped_once_they_are_gone(store, backend, clock):
    other = MemoryBackend(store)
    await other.open()
    fleets = [fleet(b, clock, h, ["mail-*"]) for b, h in ((backend, "a"), (other, "b"))]
    async with fleets[0].running(), fleets[1].running():
        for n in range(40):
            await DelayedQueue(backend, f"mail-{n}").schedule(1, delay=1)
        await clock.sleep(5)
        assert [len(f._assignment._known) for f in fleets] == [40, 40]
        await clock.sleep(3_700)
        assert [len(f._assignment._known) for f in fleets] == [0, 0]


async def test_a_fleet_that_is_stopped_while_it_starts_leaves_no_feed_and_no_membership(store, backend, clock):
    class Slow(FaultyBackend):
        async def find_queues(self, patterns):
            await clock.sleep(30)
            yield []

    f = fleet(Slow(backend), clock, "a", ["mail-*"])
    task = asyncio.create_task(f.run())
    await clock.sleep(1)
    assert store.flags._feeds
    f.stop()
    await task
    assert store.flags._feeds == []

    f = fleet(JoinsAndHangs(backend, clock), clock, "a")
    task = asyncio.create_task(f.run())
    await clock.sleep(1)
    assert [set(members) for members in store.groups.values()] == [{"a"}]
    f.stop()
    await task
    assert [set(members) for members in store.groups.values()] == [set()]
    assert store.flags._feeds == []


class JoinsAndHangs(FaultyBackend):
    def __init__(self, backend, clock):
        super().__init__(backend, clock=clock)
        self._wall = clock

    async def join_group(self, group, member, ttl_ms):
        members = await untyped(self.backend).join_group(group, member, ttl_ms)
        await self._wall.sleep(30)
        return members


async def test_a_group_that_the_server_refuses_at_the_start_ends_the_fleet(backend, clock):
    refused = Fault("join_group", onwards=True, error=lambda: PermanentError("NOPERM zremrangebyscore", code="NOPERM"))
    with pytest.raises(PermanentError, match="zremrangebyscore"):
        await fleet(FaultyBackend(backend, refused), clock, "a").run()
    outage = Fault("join_group", error=lambda: TransientError("gone", code="CONNECTION"))
    refused = Fault("join_group", nth=2, onwards=True, error=refused.error)
    with pytest.raises(PermanentError, match="zremrangebyscore"):
        await fleet(FaultyBackend(backend, outage, refused), clock, "a").run()


async def test_a_group_that_the_server_refuses_later_is_a_warning_once(backend, clock, caplog):
    refused = Fault("join_group", nth=2, onwards=True, error=lambda: PermanentError("NOPERM no", code="NOPERM"))
    async with fleet(FaultyBackend(backend, refused), clock, "a").running() as f:
        await clock.sleep(60)
        assert all(health.leads for health in f.health())
        assert any("are currently unknown" in reason for reason in f.unready())
    said = [r.message for r in caplog.records if "membership" in r.message and r.levelno == logging.WARNING]
    assert len(said) == 1, said


async def test_a_name_that_cannot_be_served_is_reported_once(backend, store, clock, caplog):
    names = ["mail-{a}", "mail-\x07", "mail-" + "x" * 300, "mail-\udcff", *(f"mail-{i}\n" for i in range(2_000))]
    for name in names:
        await backend.schedule(name, [JobRequest("x", pack_envelope("x", b"", 0, 0), delay_ms=3_600_000)])
    await backend.schedule("other-{a}", [JobRequest("x", pack_envelope("x", b"", 0, 0), delay_ms=3_600_000)])
    async with fleet(backend, clock, "a", ["mail-*"]).running() as f:
        for _ in range(3):
            await clock.sleep(10)
            await backend.announce(names)
        assert f.health() == []
    said = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1_000, "and no more: what was reported is kept, so that is bounded"
    for name in names[:4]:
        assert len([m for m in said if f"queue {name[:60]!r}"[:60] in m]) == 1, name
    assert max(map(len, said)) <= 300


class Paged:
    """200,000 keys: 400 steps."""

    def __init__(self, clock, step_s):
        self.clock, self.step_s, self.sweeps, self.steps = clock, step_s, [], 0

    async def find_queues(self, patterns):
        self.sweeps.append((self.clock.monotonic(), list(patterns)))
        for _ in range(400):
            await self.clock.sleep(self.step_s)
            self.steps += 1
            yield ["mail-1", "sms-1"]


@pytest.mark.parametrize("step_s", [0.001, 0.01])
async def test_a_sweep_is_one_pass_and_takes_half_of_the_time_at_most(clock, step_s):
    store = Paged(clock, step_s)
    found: Counter[str] = Counter()
    swept: list[set[str]] = []
    discovery = Discovery(untyped(store), ["mail-*", "sms-*"], lambda q: found.update([q]), swept.append, clock, 10.0)
    task = asyncio.create_task(discovery.run())
    await clock.sleep(39)
    task.cancel()
    began_s = [at for at, _ in store.sweeps]
    assert began_s[0] <= 10.01
    assert max(b - a for a, b in itertools.pairwise(began_s)) <= 10.1, began_s
    assert all(patterns == ["mail-*", "sms-*"] for _, patterns in store.sweeps)
    assert swept[0] == {"mail-1", "sms-1"}
    assert store.steps >= 3 * 400 - 1
    assert 2 * 400 * step_s * len(began_s) <= 39 + 2 * 400 * step_s, "it rests as long as it works"


async def test_a_lost_connection_has_new_queues_looked_for_soon(backend, store, clock):
    async with fleet(backend, clock, "a", ["mail-*"]).running() as f:
        await clock.sleep(2)
        feeds, store.flags._feeds = store.flags._feeds, []  # the announcement is lost with the connection
        await DelayedQueue(backend, "mail-a").schedule(1, delay=60)
        store.flags._feeds = feeds
        store.flags.set_all()
        await clock.sleep(1.5)
        assert [h.queue for h in f.health()] == ["mail-a"]


async def test_metrics_sinks_forget_queues_that_went(backend, store, clock):
    other, metrics = await another(store, clock), RecordingMetrics()
    f = fleet(backend, clock, "a", QUEUES[:20], metrics=[metrics, Older()])
    async with f.running():
        await clock.sleep(1)
        async with fleet(other, clock, "b", QUEUES[:20]).running():
            await clock.sleep(1)
            gone = [q for q in QUEUES[:20] if store[q].holder(clock.time_ms()) == "b"]
            assert gone
            assert sorted(metrics.forgotten) == gone
        await clock.sleep(2)
    assert sorted(metrics.forgotten) == sorted([*gone, *QUEUES[:20]]), "all of them, at the end"


class Ordered(RecordingMetrics):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_lock(self, queue, outcome):
        self.calls.append((queue, str(outcome)))

    def on_forget(self, queue):
        self.calls.append((queue, "forgotten"))


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("kind", ["promoter", "fleet"])
async def test_what_a_run_reports_last_comes_before_its_queues_are_forgotten(backend, clock, kind, cancelled):
    metrics = Ordered()
    promoter = Promoter(backend, "q0000", metrics=[metrics], clock=clock)
    runner = promoter if kind == "promoter" else fleet(backend, clock, "a", QUEUES[:3], metrics=[metrics])
    task = asyncio.create_task(runner.run())
    await clock.sleep(1)
    task.cancel() if cancelled else runner.stop()
    await asyncio.gather(task, return_exceptions=True)
    for queue in QUEUES[: 1 if kind == "promoter" else 3]:
        assert [what for name, what in metrics.calls if name == queue] == ["acquired", "released", "forgotten"]


class Older:
    """A sink of before there was `on_forget`."""

    wants_jobs = False

    def on_tick(self, queue, tick): ...
    def on_lock(self, queue, outcome): ...
    def on_error(self, queue, error): ...


@pytest.mark.parametrize("until_idle", [True, False])
async def test_the_figures_of_a_run_until_idle_are_its_result(backend, clock, until_idle):
    metrics = RecordingMetrics()
    f = fleet(backend, clock, "a", QUEUES[:5], metrics=[metrics])
    task = asyncio.create_task(f.run(until_idle=until_idle))
    await clock.sleep(1)
    f.stop()
    await task
    assert sorted(metrics.forgotten) == ([] if until_idle else QUEUES[:5])


async def test_keys_that_nobody_waits_for_have_no_flag(backend, store, clock):
    async with fleet(backend, clock, "a", ["mine", "mail-*"]).running():
        for n in range(5_000):
            store.flags.set(ChangeKind.JOBS, f"foreign-{n}")
        await clock.sleep(1)
        assert len(store.flags._flags) <= 4
    flags = ChangeFlags(SystemClock())
    waiting = asyncio.create_task(flags.wait(ChangeKind.LOCK, "waited for", 60))
    flags.expect(ChangeKind.LOCK, "waited for")
    await asyncio.sleep(0)
    for n in range(3 * MOST_FLAGS):
        flags.expect(ChangeKind.JOBS, f"q{n}")
    assert len(flags._flags) <= MOST_FLAGS + 1
    assert await flags.wait(ChangeKind.JOBS, "q1", 60), "its flag was dropped: what came in between is not known"
    assert not waiting.done()
    flags.set(ChangeKind.LOCK, "waited for")
    assert await waiting


async def test_a_feed_that_is_not_read_says_that_everything_has_changed(store, backend):
    feed = await backend.subscribe()
    for n in range(MOST_CHANGES + 1):
        store.flags.set(ChangeKind.JOBS, f"q{n}")
    changes = await feed.next(0)
    assert changes.everything
    assert len(changes.jobs) == MOST_CHANGES
    assert not (await feed.next(0)).everything
