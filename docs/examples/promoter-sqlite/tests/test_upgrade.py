"""A file of an earlier version: it is upgraded when it is opened, with all that is in it."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from promoter_sqlite.database import STEPS

from promoter_core import DelayedQueue, Promoter, connect
from promoter_core.spi import (
    KEEP_ID_MS,
    JobOutcome,
    JobQuery,
    JobRequest,
    PermanentError,
    Reschedule,
    RunNow,
    StreamName,
    pack_envelope,
    unpack_envelope,
)

FIRST = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, id BLOB NOT NULL, name BLOB NOT NULL,
    envelope BLOB NOT NULL, due_ms INTEGER NOT NULL, uniq INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (queue, due_ms, seq);
CREATE INDEX IF NOT EXISTS jobs_id ON jobs (queue, id);
CREATE TABLE IF NOT EXISTS markers (queue TEXT, id BLOB, expires_ms INTEGER, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS markers_expiry ON markers (expires_ms);
CREATE TABLE IF NOT EXISTS locks (queue TEXT PRIMARY KEY, holder BLOB, expires_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, stream TEXT NOT NULL, ms INTEGER NOT NULL,
    fields BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_stream ON entries (queue, stream, seq);
"""
INSERT = "INSERT INTO jobs (queue, id, name, envelope, due_ms, uniq) VALUES ('q', ?, ?, ?, ?, ?)"  # as that version did
FAR_MS = 4_000_000_000_000


@pytest.fixture
def path(tmp_path):
    """A file of the first version with three waiting jobs, and one that was promoted recently."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(FIRST)
        for id, due_ms, unique in ((b"due", 1, True), (b"far", FAR_MS, True), (b"plain", FAR_MS, False)):
            db.execute(INSERT, (id, b"mail", pack_envelope(id.decode(), b"\xa1x", 1, 0), due_ms, unique))
        db.execute("INSERT INTO markers VALUES ('q', ?, ?)", (b"gone", FAR_MS))
    return path


def job(id, **fields):
    return JobRequest(id, pack_envelope(id, b"\xa1y", 1, 0), unique=True, **fields)


async def test_jobs_of_an_old_file_are_seen_changed_and_promoted(path):
    async with connect(f"sqlite://{path}") as backend:
        page = await backend.list_jobs("q", JobQuery())
        seen = [(found.id, found.name, found.unique, found.keep_id_ms) for found in page.jobs]
        keep = KEEP_ID_MS
        assert seen == [("due", "mail", True, keep), ("far", "mail", True, keep), ("plain", "mail", False, None)]
        changes = [RunNow(job="far"), Reschedule(job="plain", due_ms=FAR_MS + 1), RunNow(job="gone")]
        outcomes = [JobOutcome.PROMOTED, JobOutcome.MOVED, JobOutcome.ALREADY_PROMOTED]
        assert list(await backend.change_jobs("q", changes)) == outcomes
        await Promoter(backend, "q").run(until_idle=True)
        entries = await backend.read("q", StreamName.JOBS, "", 10)
        assert [unpack_envelope(entry.fields["d"]).id for entry in entries] == ["far", "due"]
        repeats = await backend.schedule("q", [job(id, delay_ms=0) for id in ("due", "far", "gone")])
        assert {repeat.outcome for repeat in repeats} == {JobOutcome.ALREADY_PROMOTED}


async def test_an_upgrade_is_made_once_by_one_of_many(path):
    backends = [connect(f"sqlite://{path}") for _ in range(6)]
    opened = await asyncio.gather(*(backend.__aenter__() for backend in backends))
    assert {(await backend.stats("q")).depth for backend in opened} == {3}
    await asyncio.gather(*(backend.__aexit__(None, None, None) for backend in backends))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)


async def test_a_program_of_the_first_version_goes_on_beside_a_new_one(path):
    async with connect(f"sqlite://{path}") as backend:
        with closing(sqlite3.connect(path)) as db, db:
            db.executescript(FIRST)
            db.execute(INSERT, (b"more", b"", pack_envelope("more", b"\xa1x", 1, 0), FAR_MS, True))
        (found,) = await backend.get_jobs("q", ["more"])
        assert (found.unique, found.keep_id_ms) == (True, KEEP_ID_MS)


async def test_a_file_of_a_later_version_is_a_clear_error(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(PermanentError, match="made by a later version of promoter-sqlite"):
        async with connect(f"sqlite://{path}"):
            pass


async def test_a_new_file_is_of_the_newest_version(tmp_path):
    async with connect(f"sqlite://{tmp_path / 'new.db'}") as backend:
        await DelayedQueue(backend, "q").schedule(1, delay=60, job_id="a")
        (found,) = await backend.get_jobs("q", ["a"])
        assert found.keep_id_ms == KEEP_ID_MS


async def test_jobs_of_an_old_file_have_no_trace_context_and_new_ones_have_theirs(path):
    with closing(sqlite3.connect(path)) as db, db:  # of the version without trace contexts
        db.execute(STEPS[1])
        db.execute("PRAGMA user_version = 2")
    traceparent = f"00-{1:032x}-{1:016x}-01"
    async with connect(f"sqlite://{path}") as backend:
        await backend.schedule("q", [job("new", delay_ms=0, traceparent=traceparent, tracestate="vendor=1")])
        await Promoter(backend, "q").run(until_idle=True)
        entries = await backend.read("q", StreamName.JOBS, "", 10)
        assert [sorted(entry.fields) for entry in entries] == [["d", "n"], ["d", "traceparent", "tracestate"]]
