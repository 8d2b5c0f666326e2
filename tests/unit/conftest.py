"""A memory backend on a virtual clock, and short words for what the tests do to it."""

from __future__ import annotations

import sys

import pytest

from promoter_core import DelayedQueue
from promoter_core.registry import installed
from promoter_core.testing import VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore


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


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path in which distributions can be installed."""
    installed.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    yield tmp_path
    installed.cache_clear()
    for name in set(sys.modules) - modules:
        if name.startswith("plug_"):
            del sys.modules[name]
