"""The conformance kit on the PostgreSQL backend, in a separate schema."""

import psycopg
import pytest

from promoter_core import Registry, connect
from promoter_core.spi import to_text
from promoter_core.testing.conformance import BackendContract

SCHEMA = "promoter_kit"
CLOCK = """
    CREATE OR REPLACE FUNCTION {schema}.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT {value} $$
"""
REAL = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class TestPostgres(BackendContract):
    @pytest.fixture
    def url(self, server_url):
        return f"{server_url}?schema={SCHEMA}"

    @pytest.fixture
    async def backend(self, url):
        async with connect(url) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, url):
        async with connect(url) as second:
            yield backend, second

    @pytest.fixture
    def unreachable(self):
        return Registry().backend("postgres://nobody@127.0.0.1:1/nothing")

    @pytest.fixture
    def leap(self, server_url):
        async def leap(queue, ms):
            """Shift all times of the queue into the past."""
            async with await psycopg.AsyncConnection.connect(server_url) as db:
                for table, column in (("jobs", "due_ms"), ("markers", "expires_ms"), ("locks", "expires_ms")):
                    sql = f"UPDATE {SCHEMA}.{table} SET {column} = {column} - %s WHERE queue = %s"
                    await db.execute(sql, (ms, queue))

        return leap

    @pytest.fixture
    def stored_names(self, server_url):
        async def stored_names():
            """All ids in the tables."""
            async with await psycopg.AsyncConnection.connect(server_url) as db:
                cursor = await db.execute(f"SELECT id FROM {SCHEMA}.jobs UNION SELECT id FROM {SCHEMA}.markers")
                return [to_text(id) for (id,) in await cursor.fetchall()]

        return stored_names

    @pytest.fixture
    async def set_time(self, server_url):
        async def set_clock(value):
            async with await psycopg.AsyncConnection.connect(server_url) as db:
                await db.execute(CLOCK.format(schema=SCHEMA, value=value))

        yield lambda ms: set_clock(f"{ms}::bigint")
        await set_clock(REAL)
