"""The file, its tables, and the one thread that calls SQLite, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from promoter_core.spi import KEEP_ID_MS, Clock, ErrorTable, Lifecycle, PermanentError, hold, run_call

T = TypeVar("T")

# Each step adds to the tables of the version before. `user_version` of a file counts its steps; files of the first
# version have 0, and the tables of the first step. An added column has a default, so that programs of an earlier
# version continue to work on the file.
SCHEMA = """
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

STEPS = (
    SCHEMA,
    f"ALTER TABLE jobs ADD COLUMN keep_ms INTEGER NOT NULL DEFAULT {KEEP_ID_MS}",
    "ALTER TABLE jobs ADD COLUMN trace BLOB NOT NULL DEFAULT x''",
)

ERRORS = ErrorTable(
    code=lambda exc: "_".join(getattr(exc, "sqlite_errorname", "").split("_")[1:2]) or None,
    permanent=[
        "AUTH",
        "CANTOPEN",
        "CONSTRAINT",
        "CORRUPT",
        "ERROR",
        "MISMATCH",
        "NOTADB",
        "PERM",
        "READONLY",
        "TOOBIG",
    ],
    hints={"FULL": "the disk is full", "BUSY": "another process has held the file for too long"},
)
CLOSE_S = 5.0
CALL_S = 30.0  # for a piece of work, including the wait for earlier ones


class Database:
    """One connection in one thread. `run` gives it work, each piece in one transaction."""

    def __init__(self, path: str, life: Lifecycle, clock: Clock) -> None:
        self.path = path
        self._life = life
        self._clock = clock
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="promoter-sqlite")
        await self._submit(self._connect)

    async def close(self) -> None:
        """Wait for the running work, unless it does not end, as on a disk that hangs."""
        thread, self._thread = self._thread, None
        if thread is not None:
            done = asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
            thread.shutdown(wait=False)
            await asyncio.wait((done,), timeout=CLOSE_S)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a write transaction: all of it, or none. Raises only BackendErrors."""
        result, _ = await self.timed(work)
        return result

    async def timed(self, work: Callable[[sqlite3.Connection], T]) -> tuple[T, float]:
        """Like `run`, and also return the duration of the transaction in ms, including the commit, without the wait."""
        return await self._transaction("BEGIN IMMEDIATE", work)

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a snapshot of the file, for reads only. Writers do not wait for it."""
        result, _ = await self._transaction("BEGIN", work)
        return result

    async def _transaction(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> tuple[T, float]:
        self._life.check()

        def transaction() -> tuple[T, float]:
            assert self._connection is not None
            with self._connection:  # commits, or rolls back
                self._connection.execute(begin)
                began_s = self._clock.monotonic()
                result = work(self._connection)
            return result, (self._clock.monotonic() - began_s) * 1000

        return await self._submit(transaction)

    async def version(self) -> int:
        """Changes whenever another connection, of this process or another, has committed."""
        self._life.check()

        def read() -> int:
            assert self._connection is not None
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(number)

        return await self._submit(read)

    async def _submit(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread. It completes even if the caller is cancelled, so a transaction is never cut."""
        translate = partial(ERRORS.translate, where=self.path)
        with hold(self._clock):  # a virtual clock does not see the thread
            call = asyncio.get_running_loop().run_in_executor(self._thread, work)
            return await run_call(call, translate, self._life, timeout_s=CALL_S, whole=True)

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if _version(self._connection) != len(STEPS):
            self._upgrade(self._connection)

    def _upgrade(self, db: sqlite3.Connection) -> None:
        """Upgrade the tables to this version, in one transaction. If many processes open a file, one does it."""
        with db:
            db.execute("BEGIN IMMEDIATE")
            version = _version(db)
            if version > len(STEPS):
                raise PermanentError(f"{self.path}: made by a later version of promoter-sqlite", code="CONFIG")
            for step in STEPS[version:]:
                for statement in step.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(STEPS)}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)
