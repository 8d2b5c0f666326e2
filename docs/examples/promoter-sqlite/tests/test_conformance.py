"""The conformance kit on the SQLite backend."""

import pytest

from promoter_core import connect
from promoter_core.testing.contract import BackendContract


class TestSqlite(BackendContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite://{tmp_path / 'jobs.db'}"

    @pytest.fixture
    async def backend(self, url):
        async with connect(url) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, url):
        async with connect(url) as second:
            yield backend, second
