"""The conformance kit on a virtual clock: no test waits for real time to pass, and times are exact."""

import pytest
from promoter_sqlite.database import Database

from promoter_core import connect
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import BackendContract


class TestSqliteOnAVirtualClock(BackendContract):
    @pytest.fixture
    def clock(self, monkeypatch):
        clock, submit = VirtualClock(), Database._submit

        async def held(database, work):
            """Stop the clock while the thread works."""
            with clock.held():
                return await submit(database, work)

        monkeypatch.setattr(Database, "_submit", held)
        return clock

    @pytest.fixture
    async def backend(self, tmp_path, clock):
        async with connect(f"sqlite://{tmp_path / 'jobs.db'}", clock=clock) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, tmp_path, clock):
        async with connect(f"sqlite://{tmp_path / 'jobs.db'}", clock=clock) as second:
            yield backend, second
