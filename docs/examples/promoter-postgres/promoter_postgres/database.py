"""The server: connections, the schema, and the errors. Each call is one statement, in a separate transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row

from promoter_core.spi import (
    KEEP_ID_MS,
    BackendError,
    Credentials,
    ErrorTable,
    Lifecycle,
    PermanentError,
    cancel_and_wait,
    run_call,
)

T = TypeVar("T")

ERRORS = ErrorTable(
    code=lambda exc: getattr(exc, "sqlstate", None),
    classes=[(psycopg.OperationalError, "CONNECTION")],
    permanent=["28000", "28P01", "3D000", "42501", "42P01", "42883", "42703", "CONFIG"],
    words={  # a refused connection has no code
        "CONNECTION": "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|not permitted|"
        "permission denied for|does not support SSL|certificate",
    },
    hints={"53100": "the disk is full", "25006": "this server is a standby", "40P01": "it is safe to repeat"},
)
VERSION = 3  # of tables.sql
# The changes of each version of the tables to the version before. All functions are created again. Running programs of
# the version before continue: the functions that they call stay, and an added column has a default.
UPGRADES = {
    2: f"ALTER TABLE jobs ADD COLUMN keep_ms bigint NOT NULL DEFAULT {KEEP_ID_MS}",
    3: "ALTER TABLE stream ADD COLUMN trace bytea NOT NULL DEFAULT '';"
    "ALTER TABLE events ADD COLUMN trace bytea NOT NULL DEFAULT ''",
}
FUNCTIONS = ("shared.sql", "locks.sql", "promotion.sql", "jobs.sql")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Parameters of connections."""

    conninfo: dict[str, str]  # without the user and the password
    credentials: Credentials
    schema: str
    pool_size: int
    timeout_s: float  # for a call

    @property
    def name(self) -> str:
        """For messages."""
        return f"PostgreSQL at {self.conninfo['host']}:{self.conninfo['port']}"

    @property
    def channel(self) -> str:
        """Of notifications."""
        return f"promoter_{self.schema}"

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        user, password = await self.credentials()
        secrets = {name: value for name, value in (("user", user), ("password", password)) if value}
        conninfo = make_conninfo("", **self.conninfo, **secrets)
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, row_factory=namedtuple_row)

    def translate(self, exc: Exception) -> BackendError:
        return ERRORS.translate(exc, self.name)


class Database:
    """A few connections, opened on demand."""

    def __init__(self, target: Target, life: Lifecycle) -> None:
        self._target = target
        self._life = life
        self._slots = asyncio.Semaphore(target.pool_size)
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._calls: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Connect, and create the tables, or upgrade those of an earlier version."""
        await self._bounded(self._prepare())

    async def close(self) -> None:
        """Abandon running calls."""
        await asyncio.gather(*(cancel_and_wait(call) for call in self._calls))
        await self._drop_idle()

    async def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Run one statement and return its rows. Raises only BackendErrors."""
        self._life.check()
        return await self._bounded(self._run(sql, arguments))

    async def _bounded(self, call: Coroutine[Any, Any, T]) -> T:
        """Complete the statement even if the caller is cancelled, so that the connection stays usable."""
        task = asyncio.ensure_future(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        timeout_s = self._target.timeout_s
        return await run_call(task, self._target.translate, self._life, timeout_s=timeout_s, whole=True)

    async def _run(self, sql: str, arguments: Sequence[object]) -> list[Any]:
        async with self._slots:
            connection = self._idle.pop() if self._idle else await self._target.connect()
            try:
                cursor = await connection.execute(sql, arguments, binary=True)
                return await cursor.fetchall()
            finally:
                if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:  # it is broken, and the others probably are too
                    await connection.close()
                    await self._drop_idle()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    async def _prepare(self) -> None:
        connection = await self._target.connect()
        try:
            if (
                connection.info.server_version < 140_000
                or connection.info.parameter_status("server_encoding") != "UTF8"
            ):
                raise PermanentError(
                    f"{self._target.name}: expected version 14 or newer, and a database in UTF8", code="CONFIG"
                )
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('promoter schema', 0))")
                await self._make_schema(connection)
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)

    async def _make_schema(self, connection: psycopg.AsyncConnection[Any]) -> None:
        schema = self._target.schema
        cursor = await connection.execute(
            "SELECT obj_description(to_regnamespace(%s), 'pg_namespace') AS made", [schema]
        )
        (found,) = await cursor.fetchall()
        known = re.fullmatch("promoter ([1-9][0-9]{0,3})", found.made or "")
        version = int(known[1]) if known else 0
        if version == VERSION:
            return
        if version > VERSION or (found.made is not None and not version):
            raise PermanentError(f"{self._target.name}: the schema {schema} is {found.made!r}, not ours", code="CONFIG")
        if not version:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            await connection.execute(_sql("tables.sql"))
        else:
            for later in range(version + 1, VERSION + 1):
                await connection.execute(UPGRADES[later])
        for file in FUNCTIONS:
            await connection.execute(_sql(file))
        await connection.execute(f"COMMENT ON SCHEMA {schema} IS 'promoter {VERSION}'")


def _sql(file: str) -> str:
    return files(__package__).joinpath(file).read_text()
