"""Fixtures for applications' own tests. Opt in, in your top conftest.py:

pytest_plugins = ["promoter_core.testing.pytest_plugin"]
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from promoter_core import Backend, connect
from promoter_core.testing.clock import VirtualClock
from promoter_core.testing.doubles import RecordingEvents, RecordingMetrics
from promoter_core.testing.faults import FaultyBackend


@pytest.fixture
def promoter_clock() -> VirtualClock:
    """A clock on which time passes only when everything waits."""
    return VirtualClock()


@pytest_asyncio.fixture
async def promoter_memory_backend(promoter_clock: VirtualClock) -> AsyncIterator[Backend]:
    """An open memory backend that runs on `promoter_clock`."""
    async with connect("memory://", clock=promoter_clock) as backend:
        yield backend


@pytest.fixture
def promoter_faulty_backend(promoter_memory_backend: Backend, promoter_clock: VirtualClock) -> FaultyBackend:
    """`promoter_memory_backend` with injected failures: append to its `faults`."""
    return FaultyBackend(promoter_memory_backend, clock=promoter_clock)


@pytest.fixture
def promoter_events() -> RecordingEvents:
    return RecordingEvents()


@pytest.fixture
def promoter_metrics() -> RecordingMetrics:
    return RecordingMetrics()
