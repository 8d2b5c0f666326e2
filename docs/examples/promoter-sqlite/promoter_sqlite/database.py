"""The file, its tables, and the one thread that talks to SQLite, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from promoter_core.spi import BackendError, PermanentError, TransientError

T = TypeVar("T")

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

STAYING = (  # will not go away by itself; whatever else SQLite says may, such as BUSY, FULL or IOERR
    "SQLITE_AUTH",
    "SQLITE_CANTOPEN",
    "SQLITE_CONSTRAINT",
    "SQLITE_CORRUPT",
    "SQLITE_ERROR",  # of the SQL
    "SQLITE_MISMATCH",
    "SQLITE_NOTADB",
    "SQLITE_PERM",
    "SQLITE_READONLY",
    "SQLITE_TOOBIG",
)


class Database:
    """One connection in one thread. `run` gives it work, each piece in one transaction."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._thread is not None

    async def open(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="promoter-sqlite")
            await self._submit(self._connect)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
            thread.shutdown()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` in a write transaction: all of it, or none. Raises BackendErrors only."""
        result, _ = await self.timed(work)
        return result

    async def timed(self, work: Callable[[sqlite3.Connection], T]) -> tuple[T, float]:
        """As `run`; also how many milliseconds the transaction took, with its commit and without the wait for it."""

        def transaction() -> tuple[T, float]:
            assert self._connection is not None
            with self._connection:  # commits, or rolls back
                self._connection.execute("BEGIN IMMEDIATE")
                began_s = time.perf_counter()
                result = work(self._connection)
            return result, (time.perf_counter() - began_s) * 1000

        return await self._submit(transaction)

    async def version(self) -> int:
        """Changes whenever another connection, of this process or another, has committed."""

        def read() -> int:
            assert self._connection is not None
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(number)

        return await self._submit(read)

    async def _submit(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise TransientError("the SQLite backend is closed: use it inside `async with connect(…)`", code="CLOSED")
        try:
            # Shielded: a caller that is cancelled leaves the thread's transaction whole.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except (sqlite3.Error, OSError) as exc:
            raise _error(exc, self.path) from exc

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _error(exc: Exception, path: str) -> BackendError:
    code = getattr(exc, "sqlite_errorname", "") or "UNEXPECTED"
    cls = PermanentError if code.startswith(STAYING) else TransientError
    return cls(f"{path}: {exc}", code=code.removeprefix("SQLITE_"))
