"""The conformance kit on the SQLite backend."""

import sqlite3
from contextlib import closing

import pytest

from promoter_core import connect
from promoter_core.spi import MAX_DUE_MS, SystemClock
from promoter_core.testing.conformance import BackendContract


class TestSqlite(BackendContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite://{tmp_path / 'jobs.db'}"

    @pytest.fixture
    async def backend(self, url):
        async with connect(url) as backend:
            yield backend

    @pytest.fixture
    def leap(self, tmp_path):
        async def leap(queue, ms):
            """Shift all times of the queue into the past."""
            with closing(sqlite3.connect(tmp_path / "jobs.db")) as db, db:
                db.execute("UPDATE jobs SET due_ms = due_ms - ? WHERE queue = ?", (ms, queue))
                db.execute("UPDATE markers SET expires_ms = expires_ms - ? WHERE queue = ?", (ms, queue))
                db.execute("UPDATE locks SET expires_ms = expires_ms - ? WHERE queue = ?", (ms, queue))

        return leap

    @pytest.fixture
    def set_time(self, monkeypatch):
        async def set_time(ms):
            monkeypatch.setattr(SystemClock, "time_ms", lambda clock: ms)

        return set_time

    @pytest.fixture
    def stored_names(self, tmp_path):
        async def stored_names():
            """All ids in the file."""
            with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
                rows = db.execute("SELECT id FROM jobs UNION SELECT id FROM markers").fetchall()
            return [id.decode("utf-8", "surrogateescape") for (id,) in rows]

        return stored_names

    @pytest.fixture
    def add_parked(self, tmp_path):
        async def add_parked(queue, request):
            """Act like another program."""
            with closing(sqlite3.connect(tmp_path / "jobs.db")) as db, db:
                sql = "INSERT INTO jobs (queue, id, name, envelope, due_ms, uniq) VALUES (?, ?, ?, ?, ?, 0)"
                parked = (queue, request.id.encode(), request.name.encode(), request.envelope, MAX_DUE_MS + 1)
                db.execute(sql, parked)

        return add_parked

    @pytest.fixture
    async def pair(self, backend, url):
        async with connect(url) as second:
            yield backend, second
