"""The SQLite file persists, and an unusable path is a clear error."""

import sqlite3
from contextlib import closing

import pytest

from promoter_core import DelayedQueue, connect
from promoter_core.spi import ConfigError, JobQuery, PermanentError, TransientError


async def test_jobs_outlive_the_process_that_scheduled_them(tmp_path):
    url = f"sqlite://{tmp_path / 'jobs.db'}"
    for n in range(3):
        async with connect(url) as backend:
            queue = DelayedQueue(backend, "q")
            assert (await queue.stats()).depth == n
            await queue.schedule(n, delay=60)


async def test_a_job_beyond_the_year_9999_is_never_due(tmp_path):
    async with connect(f"sqlite://{tmp_path / 'jobs.db'}") as backend:
        await DelayedQueue(backend, "q").schedule(1, job_id="a", delay=60)
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as db, db:
            db.execute("UPDATE jobs SET due_ms = 1 << 60")
        stats = await backend.stats("q")
        assert (stats.depth, stats.due, stats.next_due_ms, stats.parked) == (1, 0, None, 1)
        page = await backend.list_jobs("q", JobQuery(limit=1))
        assert ([job.due_ms for job in page.jobs], page.cursor) == ([None], "")
        assert (await backend.list_jobs("q", JobQuery(after=f"{(1 << 60) - 1}-1"))).jobs == page.jobs


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-2-3", "1-x", "1 - 2", "٣-٣", f"{2**63}-1", f"1-{2**63}"])
async def test_a_cursor_of_another_store_is_refused(tmp_path, cursor):
    async with connect(f"sqlite://{tmp_path / 'jobs.db'}") as backend:
        with pytest.raises(PermanentError, match="is not a cursor of a page of jobs"):
            await backend.list_jobs("q", JobQuery(after=cursor))


async def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(PermanentError, match="unable to open database file"):
        async with connect(f"sqlite://{tmp_path / 'no' / 'jobs.db'}"):
            pass


async def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    file = tmp_path / "jobs.db"
    file.write_bytes(b"something else" * 100)
    with pytest.raises(PermanentError, match="file is not a database"):
        async with connect(f"sqlite://{file}"):
            pass


async def test_what_sqlite_says_and_nobody_knows_is_waited_out(tmp_path):
    async with connect(f"sqlite://{tmp_path / 'jobs.db'}") as backend:

        def interrupted():
            raise sqlite3.OperationalError("interrupted")

        with pytest.raises(TransientError, match="interrupted"):
            await backend._db._submit(interrupted)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?mode=ro"])
async def test_a_url_that_cannot_work_is_a_clear_error(url):
    with pytest.raises(ConfigError):
        async with connect(url):
            pass
