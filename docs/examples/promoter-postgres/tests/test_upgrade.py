"""A schema of an earlier version: it is upgraded when it is opened, with all that is in it. `schema_1.sql` made it."""

import asyncio
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

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

FIRST = (Path(__file__).parent / "schema_1.sql").read_text()
INSERT = "SELECT schedule('q', %b::bytea[], %b::bytea[], %b::bytea[], %b, %b, %b, %b::bytea[]) AS created"
FAR_MS = 4_000_000_000_000


@pytest.fixture
async def schema(server_url):
    """A schema of the first version with three waiting jobs, and one that was promoted recently."""
    schema = f"old_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server_url, options=f"-c search_path={schema}") as db:
        await db.execute(f"CREATE SCHEMA {schema}")
        await db.execute(FIRST)
        await db.execute(f"COMMENT ON SCHEMA {schema} IS 'promoter 1'")
        await schedule(db, [("due", 1, True), ("far", FAR_MS, True), ("plain", FAR_MS, False)])
        await db.execute("INSERT INTO markers VALUES ('q', 'gone', %s)", (FAR_MS,))
    yield schema
    async with await psycopg.AsyncConnection.connect(server_url) as db:
        await db.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def url(server_url, schema):
    return f"{server_url}?schema={schema}"


async def schedule(db, jobs):
    """As the first version did."""
    ids = [id.encode() for id, _, _ in jobs]
    cursor = await db.execute(
        INSERT,
        (
            ids,
            [b"mail"] * len(jobs),
            [pack_envelope(id, b"\xa1x", 1, 0) for id, _, _ in jobs],
            [due_ms for _, due_ms, _ in jobs],
            [None] * len(jobs),
            [unique for _, _, unique in jobs],
            [b""] * len(jobs),
        ),
    )
    ((created,),) = await cursor.fetchall()
    return created


async def test_jobs_of_an_old_schema_are_seen_changed_and_promoted(url):
    async with connect(url) as backend:
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
        again = [
            JobRequest(id, pack_envelope(id, b"\xa1y", 1, 0), unique=True, delay_ms=0) for id in ("due", "far", "gone")
        ]
        repeats = await backend.schedule("q", again)
        assert {repeat.outcome for repeat in repeats} == {JobOutcome.ALREADY_PROMOTED}


async def test_an_upgrade_is_made_once_by_one_of_many(url):
    backends = [connect(url) for _ in range(6)]
    opened = await asyncio.gather(*(backend.__aenter__() for backend in backends))
    assert {(await backend.stats("q")).depth for backend in opened} == {3}
    await asyncio.gather(*(backend.__aexit__(None, None, None) for backend in backends))


async def test_a_program_of_the_first_version_that_is_at_work_goes_on(server_url, schema, url):
    async with await psycopg.AsyncConnection.connect(server_url, options=f"-c search_path={schema}") as old:
        await old.execute("SELECT now_ms()")
        await old.commit()
        async with connect(url) as backend:
            assert await schedule(old, [("more", FAR_MS, True), ("far", FAR_MS, True), ("gone", FAR_MS, True)]) == [
                True,
                False,
                False,
            ]
            await old.commit()
            (found,) = await backend.get_jobs("q", ["more"])
            assert (found.unique, found.keep_id_ms) == (True, KEEP_ID_MS)
            cursor = await old.execute("SELECT cancel('q', %b::bytea[])", ([b"more", b"none"],))
            assert await cursor.fetchall() == [([True, False],)]
            await old.commit()
            assert await backend.get_jobs("q", ["more"]) == [None]


async def test_a_schema_that_is_not_ours_is_left_alone(server_url, schema, url):
    async with await psycopg.AsyncConnection.connect(server_url) as db:
        await db.execute(f"COMMENT ON SCHEMA {schema} IS 'of the billing'")
    with pytest.raises(PermanentError, match="is 'of the billing', not ours"):
        async with connect(url):
            pass


async def test_an_upgraded_schema_is_the_same_as_a_new_one(server_url, schema, url):
    fresh = f"new_{uuid4().hex}"
    async with connect(url), connect(f"{server_url}?schema={fresh}") as backend:
        await DelayedQueue(backend, "q").schedule(1, delay=60)
    async with await psycopg.AsyncConnection.connect(server_url) as db:

        async def columns(of):
            sql = (
                "SELECT table_name, column_name, ordinal_position, data_type, is_nullable FROM "
                "information_schema.columns WHERE table_schema = %s ORDER BY 1, 2"
            )
            return await (await db.execute(sql, (of,))).fetchall()

        assert await columns(schema) == await columns(fresh)
        await db.execute(f"DROP SCHEMA {fresh} CASCADE")
