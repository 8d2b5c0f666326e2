"""The kit on the memory backend, on the virtual clock: it takes no real time."""

from __future__ import annotations

import pytest

from promoter_core.testing.conformance import BackendContract
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.contract.stores import OnAVirtualClock, names_in_memory


class TestMemory(OnAVirtualClock, BackendContract):
    matrix_backend = "memory"

    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock)

    @pytest.fixture
    async def backend(self, store):
        backend = MemoryBackend(store)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def pair(self, backend, store):
        second = MemoryBackend(store)
        await second.open()
        yield backend, second
        await second.close()

    @pytest.fixture
    def stored_names(self, store):
        async def names():
            return names_in_memory(store)

        return names
