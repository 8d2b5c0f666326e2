"""The conformance kit on a virtual clock: no test waits for real time to pass, and times are exact."""

import pytest

from promoter_core import connect
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import BackendContract


class TestSqliteOnAVirtualClock(BackendContract):
    @pytest.fixture
    def clock(self):
        return VirtualClock()

    @pytest.fixture
    async def backend(self, tmp_path, clock):
        async with connect(f"sqlite://{tmp_path / 'jobs.db'}", clock=clock) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, tmp_path, clock):
        async with connect(f"sqlite://{tmp_path / 'jobs.db'}", clock=clock) as second:
            yield backend, second
