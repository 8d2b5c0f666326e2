"""The kit on the memory backend with every call delayed, there and back: a right backend passes, however slow it is."""

from __future__ import annotations

import pytest

from promoter_core.spi import SystemClock
from promoter_core.testing import FaultyBackend, VirtualClock
from promoter_core.testing.conformance import BackendContract
from promoter_memory.store import MemoryStore
from tests.contract.mutants.honest import CompleteBackend
from tests.contract.stores import names_in_memory


class StoreClock(VirtualClock):
    """Its time of day can stand still, while calls take their time."""

    stands_at_ms = None

    def time_ms(self):
        return super().time_ms() if self.stands_at_ms is None else self.stands_at_ms


class Delayed:
    """The fixtures of the kit, for a memory backend with `latency_ms`."""

    matrix_backend = "memory"
    latency_ms = (0.0, 0.0)

    @pytest.fixture
    def clock(self):
        return StoreClock()

    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock)

    @pytest.fixture
    async def backend(self, store):
        backend = self.delayed(store)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def pair(self, backend, store):
        second = self.delayed(store)
        await second.open()
        yield backend, second
        await second.close()

    def delayed(self, store):
        return FaultyBackend(CompleteBackend(store), clock=store.clock, latency_ms=self.latency_ms)

    @pytest.fixture
    def unreachable(self, store):
        backend = self.delayed(store)
        backend.disconnected = True
        return backend

    @pytest.fixture
    def add_malformed(self, backend):
        return backend.backend.add_malformed

    @pytest.fixture
    def add_parked(self, backend):
        return backend.backend.add_parked

    @pytest.fixture
    def stored_names(self, store):
        async def names():
            return names_in_memory(store)

        return names


class VirtuallyDelayed(Delayed):
    @pytest.fixture
    def leap(self, clock):
        return lambda queue, ms: clock.sleep(ms / 1000)

    @pytest.fixture
    def set_time(self, clock):
        async def set_time(ms):
            clock.stands_at_ms = ms

        return set_time


@pytest.mark.whole_matrix
class TestMemory2(VirtuallyDelayed, BackendContract):
    matrix_server = "+ 2 ms"
    latency_ms = (2.0, 2.0)


@pytest.mark.whole_matrix
class TestMemory50(VirtuallyDelayed, BackendContract):
    matrix_server = "+ 50 ms"
    latency_ms = (50.0, 50.0)


class TestMemoryAtRandom(VirtuallyDelayed, BackendContract):
    matrix_server = "+ 0–50 ms"
    latency_ms = (0.0, 50.0)


class TestMemoryInRealTime(Delayed, BackendContract):
    matrix_server = "+ 0–5 ms real"
    latency_ms = (0.0, 5.0)

    @pytest.fixture
    def clock(self):
        return SystemClock()
