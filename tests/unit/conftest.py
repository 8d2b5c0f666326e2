"""A memory backend on a virtual clock, and short words for what the tests do to it."""

from __future__ import annotations

import pytest

from promoter_core import DelayedQueue
from promoter_core.testing import VirtualClock
from promoter_memory.backend import MemoryBackend, MemoryStore


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
async def backend(store):
    backend = MemoryBackend(store)
    await backend.open()
    return backend


@pytest.fixture
def queue(backend, clock):
    return DelayedQueue(backend, "q", clock=clock)
