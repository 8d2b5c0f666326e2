"""Between two turns of the event loop a fleet does as much with many queues as with few, whatever happens to them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import pytest

from promoter_core import PromoterFleet, PromoterSettings
from promoter_core.runner.fleet import assignment, machine_pool
from promoter_core.spi import ChangeKind, JobRequest, PermanentError, chunked, pack_envelope
from promoter_core.testing import Fault, FaultyBackend, VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.typed import untyped

FEW, MANY = 800, 2_400
PAGE = 100
SLICE = 200  # queues that are looked at in a slice of time
LEASE_MS = 2_000


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the functions that each turn calls: steps, which a busy machine does not change."""

    def __init__(self):
        super().__init__()
        self.longest = 0
        self._calls = 0

    def _run_once(self):
        self._calls = 0
        super()._run_once()  # type: ignore[misc]  # of asyncio's own loop
        self.longest = max(self.longest, self._calls)

    @contextmanager
    def counting(self) -> Iterator[None]:
        def count(frame, event, arg):
            if event in ("call", "c_call"):
                self._calls += 1

        self.longest = 0
        sys.setprofile(count)
        try:
            yield
        finally:
            sys.setprofile(None)


class Paged(MemoryBackend):
    """Finds the queues some at a time, as a server's SCAN does."""

    names: Sequence[str] = ()

    async def find_queues(self, patterns):
        for some in chunked(self.names, PAGE):
            yield some


class Phases:
    """Fleets on `count` queues of one store; `longest` is the largest number of calls in a turn of each phase."""

    def __init__(self, count):
        self.loop = untyped(asyncio.get_running_loop())  # a CountingLoop where turns are counted
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.names = [f"mail-{i:05}" for i in range(count)]
        self.longest = {}

    async def backend(self):
        backend = Paged(self.store)
        backend.names = self.names
        await backend.open()
        return backend

    async def schedule(self, backend):
        for name in self.names:
            await backend.schedule(name, [JobRequest("x", pack_envelope("x", b"", 0, 0), delay_ms=3_600_000)])

    def fleet(self, backend, holder, queues=("mail-*",)):
        settings = PromoterSettings(lock_ttl_ms=LEASE_MS)
        return PromoterFleet(backend, queues, settings, holder_id=holder, clock=self.clock)

    def free(self):
        return sum(self.store[name].holder(self.clock.time_ms()) is None for name in self.names)

    @asynccontextmanager
    async def phase(self, name, seconds):
        with self.loop.counting():
            yield
            await self.clock.sleep(seconds)
        self.longest[name] = self.loop.longest
        assert self.free() == 0, name


async def run(count):
    p = Phases(count)
    backend = await p.backend()
    await p.schedule(backend)
    fleet = p.fleet(backend, "a")
    async with p.phase("starts", 5):
        task = asyncio.create_task(fleet.run())
    async with p.phase("renews", 2 * LEASE_MS / 1000):
        pass
    async with p.phase("sweeps", 12):
        pass
    p.store.flags.set_all()
    async with p.phase("has lost touch", 3):
        pass
    for kind in (ChangeKind.JOBS, ChangeKind.LOCK):
        for name in p.names:
            p.store.flags.set(kind, name)
    async with p.phase("hears of all queues", 3):
        pass
    other = p.fleet(await p.backend(), "b")
    async with p.phase("shares", 10):
        others = asyncio.create_task(other.run())
    other.stop()
    async with p.phase("takes back", 10):
        await others
    with p.loop.counting():
        fleet.stop()
        await task
    p.longest["stops"] = p.loop.longest
    assert p.free() == count
    return p.longest


async def listed(count):
    """A fleet whose queues are all named, and whose leases cannot be renewed together."""
    p = Phases(count)
    refused = Fault("renew_many", onwards=True, error=lambda: PermanentError("NOPERM no", code="NOPERM"))
    fleet = p.fleet(FaultyBackend(await p.backend(), refused, clock=p.clock), "a", p.names)
    async with p.phase("starts with names", 5):
        task = asyncio.create_task(fleet.run())
    async with p.phase("renews alone", 2 * LEASE_MS / 1000):
        pass
    fleet.stop()
    await task
    return p.longest


@pytest.mark.parametrize("scenario", [run, listed])
def test_a_turn_is_as_long_with_many_queues_as_with_few(scenario, monkeypatch):
    monkeypatch.setattr(machine_pool, "RENEWED_AT_ONCE", PAGE)
    monkeypatch.setattr(assignment, "ANNOUNCED", PAGE)
    # A busy machine looks at fewer queues in a slice of real time, and then few queues have shorter turns than many.
    looks = (n * assignment.SLICE_S / SLICE for n in itertools.count())
    monkeypatch.setattr(assignment, "time", SimpleNamespace(perf_counter=lambda: next(looks)))
    few, many = (measured(scenario, count) for count in (FEW, MANY))
    grown = {name: (few[name], many[name]) for name in few if many[name] > 1.6 * few[name] + 2_000}
    assert not grown, f"calls of a turn with {FEW} and with {MANY} queues: {grown}"


def measured(scenario, count):
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(scenario(count))


async def test_a_queue_at_rest_is_few_objects_to_the_collector(clock):
    """A full run of the collector looks at each of them, and the event loop waits for it."""
    p = Phases(500)
    backend = await p.backend()
    await p.schedule(backend)
    async with PromoterFleet(backend, p.names, clock=p.clock).running():
        await p.clock.sleep(5)  # what the store and the caches keep of them is there from now on
    gc.collect()
    before = len(gc.get_objects())
    async with PromoterFleet(backend, p.names, clock=p.clock).running():
        await p.clock.sleep(5)
        gc.collect()
        assert (len(gc.get_objects()) - before) / len(p.names) < 10
