"""One fleet, on the memory backend and the virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from promoter_core import (
    ConfigError,
    DelayedQueue,
    Job,
    PermanentError,
    PromoterFleet,
    PromoterSettings,
    TransientError,
    connect,
)
from promoter_core.runner.fleet.round_robin import AT_ONCE
from promoter_core.spi import JobRequest, LockOutcome, StreamName, Wake, pack_envelope
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics, VirtualClock
from promoter_memory.backend import MemoryBackend

QUEUES = [f"q{i}" for i in range(100)]


def fleet(backend, clock, queues=QUEUES, **options):
    settings = PromoterSettings(**options.pop("settings", {}))
    return PromoterFleet(backend, queues, settings, clock=clock, **options)


async def leaders(backend, queues=QUEUES):
    return [(await backend.stats(q)).holder for q in queues]


async def test_every_job_of_every_queue_is_promoted_on_its_millisecond(backend, clock):
    events = RecordingEvents()
    async with fleet(backend, clock, events=[events]).running():
        await clock.sleep(1)
        for i, queue in enumerate(QUEUES):
            jobs = [Job(data=n, delay=0.5 + (i * 37 + n * 101) % 4000 / 1000) for n in range(10)]
            await DelayedQueue(backend, queue).schedule_many(jobs)
        await clock.sleep(6)
        assert len(events.jobs) == 1000
        assert {job.promoted_ms - job.due_ms for job in events.jobs} == {0}
    assert await leaders(backend) == [None] * 100, "a clean end releases the locks"


async def test_an_idle_fleet_renews_its_leases_together_and_does_nothing_else(backend, clock):
    faulty = FaultyBackend(backend)
    async with fleet(faulty, clock).running() as f:
        await clock.sleep(1)
        before = dict(faulty.calls)
        await clock.sleep(600)
        calls = {name: n - before.get(name, 0) for name, n in faulty.calls.items()}
        assert calls.pop("renew_many") == pytest.approx(600 / 2, abs=2)
        assert calls.pop("join_group") == pytest.approx(600 / 2, abs=2)
        assert not any(calls.values()), calls
        assert all(h.leads for h in f.health())
        assert len(f.health()) == 100


async def test_no_queue_waits_while_another_drains_a_backlog(backend, clock):
    metrics = RecordingMetrics()
    await backend.schedule(
        "q0", [JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=1) for i in range(2_000)]
    )
    await backend.schedule(
        "q1", [JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=1) for i in range(2_000)]
    )
    await clock.sleep(1)
    settings = {"promote_batch": 10, "max_tick_ms": 0}
    async with fleet(backend, clock, metrics=[metrics], settings=settings).running():
        while metrics.promoted < 1_000:
            await asyncio.sleep(0)
        for queue in QUEUES[2:]:
            await backend.schedule(queue, [JobRequest("late", pack_envelope("late", b"", 0, 0), delay_ms=0)])
        await clock.sleep(0.5)
    busy = [(queue, tick.promotion.promoted) for queue, tick in metrics.ticks if tick.promotion.promoted]
    first = next(i for i, (queue, _) in enumerate(busy) if queue not in ("q0", "q1"))
    last = max(i for i, (queue, _) in enumerate(busy) if queue not in ("q0", "q1"))
    between = [queue for queue, _ in busy[first : last + 1] if queue in ("q0", "q1")]
    assert len(between) <= 98 / (AT_ONCE - 1) + 3, "one batch of a backlog a round, no more"
    drains = [queue for queue, n in busy if queue in ("q0", "q1") and n == 10][4:]
    assert abs(drains[:60].count("q0") - drains[:60].count("q1")) <= 2, "backlogs take turns"


async def test_queues_are_found_by_pattern_at_the_start_by_announcement_and_by_sweep(backend, clock, store):
    events = RecordingEvents()
    await DelayedQueue(backend, "mail-a").schedule(1, delay=5)
    await DelayedQueue(backend, "other").schedule(1, delay=5)
    async with fleet(backend, clock, ["mail-*", "sms-?"], events=[events]).running() as f:
        await clock.sleep(1)
        assert [h.queue for h in f.health()] == ["mail-a"]
        await DelayedQueue(backend, "mail-b").schedule(1, delay=0.5)  # announces itself
        await clock.sleep(0.6)
        assert [h.queue for h in f.health()] == ["mail-a", "mail-b"]
        feeds, store.flags._feeds = store.flags._feeds, []  # a producer that announces nothing
        await DelayedQueue(backend, "sms-1").schedule(1, delay=30)
        await DelayedQueue(backend, "sms-10").schedule(1, delay=30)
        store.flags._feeds = feeds
        await clock.sleep(11)
        assert [h.queue for h in f.health()] == ["mail-a", "mail-b", "sms-1"]
        await clock.sleep(30)
    assert len(events.jobs) == 3


async def test_a_found_queue_that_stays_empty_is_dropped_and_found_again(backend, clock):
    async with fleet(backend, clock, ["listed", "mail-*"]).running() as f:
        await DelayedQueue(backend, "mail-a").schedule(1, delay=1)
        await DelayedQueue(backend, "mail-later").schedule(1, delay=20_000)
        await clock.sleep(3_500)
        assert len(f.health()) == 3
        await clock.sleep(300)
        assert [h.queue for h in f.health()] == ["listed", "mail-later"]
        await DelayedQueue(backend, "mail-a").schedule(1, delay=1)
        await clock.sleep(2)
        assert len(f.health()) == 3
        assert (await backend.stats("mail-a")).stream_len == 2


async def test_until_idle_ends_when_nothing_is_due_anywhere(backend, clock):
    for i, queue in enumerate(QUEUES):
        await backend.schedule(
            queue, [JobRequest(f"{n}", pack_envelope(f"{n}", b"", 0, 0), delay_ms=1 + n) for n in range(i)]
        )
        await backend.schedule(queue, [JobRequest("later", pack_envelope("later", b"", 0, 0), delay_ms=3_600_000)])
    await clock.sleep(1)
    await fleet(backend, clock, [*QUEUES[:50], "q*"]).run(until_idle=True)
    assert [(await backend.stats(q)).depth for q in QUEUES] == [1] * 100
    assert [len(await backend.read(q, StreamName.JOBS, "", 1000)) for q in QUEUES] == list(range(100))
    assert await leaders(backend) == [None] * 100


async def test_where_it_can_only_poll_many_queues_are_looked_at_less_often(store, clock):
    class Polling(FaultyBackend):
        capabilities = replace(MemoryBackend.capabilities, wake=Wake.POLL)

    inner = MemoryBackend(store)
    await inner.open()
    backend, events = Polling(inner), RecordingEvents()
    queues = [f"p{i}" for i in range(400)]
    metrics = RecordingMetrics()
    async with fleet(backend, clock, queues, events=[events], metrics=[metrics]).running():
        await clock.sleep(2)
        before = len(metrics.ticks)
        await clock.sleep(10)
        looks = (len(metrics.ticks) - before) / 10
        assert 700 <= looks <= 1_010
        for queue in queues:
            await DelayedQueue(backend, queue).schedule(1, delay=5)
        await clock.sleep(8)
    assert len(events.jobs) == 400
    assert max(job.promoted_ms - job.due_ms for job in events.jobs) <= 1, "what is known is on time all the same"


async def test_a_lost_connection_is_waited_out_and_reported_once(backend, clock, caplog):
    faulty, events = FaultyBackend(backend), RecordingEvents()
    async with fleet(faulty, clock, events=[events]).running() as f:
        await clock.sleep(1)
        await DelayedQueue(backend, "q5").schedule(1, delay=2)
        faulty.disconnected = True
        await clock.sleep(20)
        assert "CONNECTION" in f.health()[0].last_error
        faulty.disconnected = False
        await clock.sleep(3)
        assert [h.last_error for h in f.health()] == [None] * 100
        assert all(h.leads for h in f.health())
    assert len(events.jobs) == 1
    assert sum(r.levelname == "WARNING" for r in caplog.records) == 1


class Refusing(MemoryBackend):
    """`refused` queues cannot be promoted."""

    refused = frozenset({"q3"})

    async def promote_many(self, asked):
        answers = await super().promote_many(asked)
        no = PermanentError("WRONGTYPE not a sorted set", code="WRONGTYPE")
        return [no if lease.queue in self.refused else a for (lease, _), a in zip(asked, answers, strict=True)]


async def test_a_queue_that_fails_for_good_is_set_aside_and_tried_again(store, clock, caplog):
    backend = Refusing(store)
    await backend.open()
    async with fleet(backend, clock).running() as f:
        await clock.sleep(1)
        assert len(f.health()) == 99
        assert "promoter of queue 'q3' stops: WRONGTYPE" in caplog.text
        backend.refused = frozenset()
        await clock.sleep(61)
        assert len(f.health()) == 100


async def test_a_queue_that_failed_for_good_and_is_gone_leaves_no_figures(store, clock):
    """Else `promoter_leads` stays 0, and an alert says that nobody leads a queue that is not there."""
    backend, metrics = Refusing(store), RecordingMetrics()
    await backend.open()
    job = await DelayedQueue(backend, "q3").schedule(1, delay=3600)
    async with fleet(backend, clock, ["q0", "q3*"], metrics=[metrics]).running() as f:
        await clock.sleep(30)
        assert f.unready() == ["queue 'q3': WRONGTYPE not a sorted set"]
        await DelayedQueue(backend, "q3").cancel(job)
        await clock.sleep(35)
        assert f.unready() == []
        assert metrics.forgotten == ["q3"]


async def test_a_fleet_of_which_no_queue_is_left_ends_with_the_error(store, clock):
    backend = Refusing(store)
    backend.refused = frozenset(QUEUES)
    await backend.open()
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await fleet(backend, clock).run()


@pytest.mark.parametrize("speed", [1.05, 0.95])
async def test_a_stores_clock_that_runs_otherwise_than_ours_costs_part_of_a_renewal(speed):
    class Drifting(VirtualClock):
        """The store's clock is faster or slower than the local one."""

        def time_ms(self):
            return 1_800_000_000_000 + int(self.monotonic() * 1000 * speed)

    clock, events, metrics = Drifting(), RecordingEvents(), RecordingMetrics()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    async with fleet(backend, clock, ["a", "b"], events=[events], metrics=[metrics]).running():
        await DelayedQueue(backend, "a").schedule(1, delay=40)
        await clock.sleep(60)
    assert len(events.jobs) == 1
    renewal_ms = 0.3 * 5_000
    assert 0 <= events.jobs[0].promoted_ms - events.jobs[0].due_ms <= renewal_ms * 0.05 + 1
    assert len(metrics.ticks) <= 10


@pytest.mark.parametrize("lost", ["the new head", "an earlier head"])
async def test_a_change_of_which_nobody_is_told_is_seen_by_the_next_renewal(backend, clock, store, lost):
    events = RecordingEvents()
    async with fleet(backend, clock, events=[events]).running():
        if lost == "an earlier head":
            await DelayedQueue(backend, "q1").schedule(1, delay=60)
        await clock.sleep(1)
        told, store.flags.set = store.flags.set, lambda kind, queue: None
        await DelayedQueue(backend, "q0").schedule(1, delay=0.001)
        await DelayedQueue(backend, "q1").schedule(1, delay=2)
        store.flags.set = told
        await clock.sleep(5)
    late = [job.promoted_ms - job.due_ms for job in events.jobs]
    assert len(late) == 2
    assert late[0] <= 1_500
    assert late[1] == 0, "a renewal showed it before it was due"


async def test_an_error_of_one_queues_renewal_leaves_the_others_theirs(store, clock):
    class Refused(MemoryBackend):
        async def renew_many(self, leases):
            loading = TransientError("LOADING", code="LOADING")
            return [loading if x.queue == "q3" else (await super(Refused, self).renew_many([x]))[0] for x in leases]

    backend, metrics = Refused(store), RecordingMetrics()
    await backend.open()
    async with fleet(backend, clock, ["q0", "q1", "q2", "q3", "q4"], metrics=[metrics]).running() as f:
        await clock.sleep(60)
        assert all(h.leads for h in f.health())
    assert [outcome for _, outcome in metrics.outcomes].count(LockOutcome.ACQUIRED) == 5
    ticks = Counter(queue for queue, _ in metrics.ticks)
    assert ticks["q3"] >= 15, "it renews its lease itself"
    assert max(ticks[q] for q in ("q0", "q1", "q2", "q4")) <= 2


async def test_a_lease_that_another_has_taken_is_noticed_at_the_next_renewal(backend, clock, store):
    async with fleet(backend, clock).running() as f:
        await clock.sleep(1)
        store["q7"].lock = ("somebody", clock.time_ms() + 3_000)
        await clock.sleep(1.3)
        assert [h.queue for h in f.health() if not h.leads] == ["q7"]
        await clock.sleep(3)
        assert all(h.leads for h in f.health())


async def test_a_cancelled_fleet_releases_its_locks(backend, clock):
    task = asyncio.create_task(fleet(backend, clock).run())
    await clock.sleep(1)
    assert None not in await leaders(backend)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await leaders(backend) == [None] * 100


async def test_it_can_be_stopped_while_it_cannot_start(backend, clock):
    faulty = FaultyBackend(backend, Fault("subscribe", onwards=True))
    f = fleet(faulty, clock)
    task = asyncio.create_task(f.run())
    await clock.sleep(2)
    f.stop()
    await asyncio.wait_for(task, 1)


async def test_what_cannot_work_is_said(backend, clock):
    async with connect("memory://") as memory:
        with pytest.raises(ConfigError, match="a fleet needs the name of a queue, or a pattern"):
            PromoterFleet(memory, [])
        with pytest.raises(ConfigError, match=r"queue name .* holds '{'"):
            PromoterFleet(memory, ["a{b}"])
    alone = SimpleNamespace(promote=print, schedule=print)
    with pytest.raises(ConfigError, match="SimpleNamespace cannot serve many queues at once: run a Promoter for each"):
        PromoterFleet(alone, ["a"])
    f = fleet(backend, clock)
    async with f.running():
        await clock.sleep(1)
        with pytest.raises(ConfigError, match="already running"):
            await f.run()
