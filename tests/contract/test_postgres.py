"""The kit on the example promoter-postgres, and what is particular to a server with tables."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec

import pytest

from promoter_core import DelayedQueue, Job, Promoter, PromoterFleet, Registry, connect
from promoter_core.spi import (
    BackendError,
    ConfigError,
    Lease,
    PermanentError,
    Promotion,
    PromotionRequest,
    Wake,
    to_text,
)
from promoter_core.testing.conformance import BackendContract
from tests.postgres import EXAMPLE
from tests.servers import free_port, required

if find_spec("psycopg") is None and "postgres" not in required():
    pytest.skip("the module psycopg is not installed", allow_module_level=True)
import psycopg

sys.path.insert(0, str(EXAMPLE))
from promoter_postgres import plugin

pytestmark = pytest.mark.server
REGISTRY = Registry([plugin], entry_points=False)
NOW = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


def at(url):
    return connect(url, registry=REGISTRY)


class TestPostgres(BackendContract):
    matrix_backend = "postgres"

    @pytest.fixture
    async def backend(self, postgres):
        async with at(postgres.url) as backend:
            yield backend

    @pytest.fixture
    async def pair(self, backend, postgres):
        async with at(postgres.url) as second:
            yield backend, second

    @pytest.fixture
    def unreachable(self):
        return REGISTRY.backend(f"postgres://127.0.0.1:{free_port()}/none")

    @pytest.fixture
    def leap(self, postgres):
        async def leap(queue, ms):
            """All that the tables say of the queue happens so much earlier."""
            async with await psycopg.AsyncConnection.connect(postgres.url) as db:
                for table, column in (("jobs", "due_ms"), ("markers", "expires_ms"), ("locks", "expires_ms")):
                    sql = f"UPDATE promoter.{table} SET {column} = {column} - %s WHERE queue = %s"
                    await db.execute(sql, (ms, queue))

        return leap

    @pytest.fixture
    def stored_names(self, postgres):
        async def stored_names():
            """The ids that the tables say anything of."""
            async with await psycopg.AsyncConnection.connect(postgres.url) as db:
                cursor = await db.execute("SELECT id FROM promoter.jobs UNION SELECT id FROM promoter.markers")
                return [to_text(id) for (id,) in await cursor.fetchall()]

        return stored_names

    @pytest.fixture
    async def set_time(self, postgres):
        async def set_clock(value):
            async with await psycopg.AsyncConnection.connect(postgres.url) as db:
                function = "CREATE OR REPLACE FUNCTION promoter.now_ms() RETURNS bigint LANGUAGE sql VOLATILE"
                await db.execute(f"{function} AS $$ SELECT {value} $$")

        yield lambda ms: set_clock(f"{ms}::bigint")
        await set_clock(NOW)


@pytest.fixture
async def backend(postgres):
    async with at(postgres.url) as backend:
        yield backend


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://host",
        "postgres://host/db?schema=Public",
        "postgres://host/db?schema=a;drop",
        "postgres://host/db?pool_size=0",
        "postgres://host/db?timeout=5",
        "postgres://host/db?sslmode=maybe",
        "postgres://host/db?what=1",
    ],
)
def test_a_url_that_cannot_work_is_a_clear_error(url):
    with pytest.raises(ConfigError):
        REGISTRY.backend(url)


async def test_a_database_that_is_not_there_is_for_good(postgres):
    with pytest.raises(PermanentError, match='database "nothing" does not exist'):
        async with at(postgres.url.rpartition("/")[0] + "/nothing"):
            pass


async def test_a_password_that_rotates_is_asked_for_at_every_connection(postgres):
    asked = []

    async def credentials():
        asked.append(1)
        return "postgres", "new"

    async with connect(postgres.url.replace("postgres@", ""), registry=REGISTRY, credentials=credentials) as backend:
        await backend.stats("q")
    assert len(asked) == 2  # for calls, and to listen


async def test_many_that_open_at_once_make_one_schema(postgres):
    url = f"{postgres.url}?schema=made_at_once"
    backends = [REGISTRY.backend(url) for _ in range(8)]
    await asyncio.gather(*(backend.open() for backend in backends))
    assert {(await backend.stats("q")).depth for backend in backends} == {0}
    await asyncio.gather(*(backend.close() for backend in backends))


async def test_schemas_do_not_see_one_another(postgres):
    async with at(f"{postgres.url}?schema=one") as one, at(f"{postgres.url}?schema=two") as two:
        await DelayedQueue(one, "q").schedule(1, delay=60)
        assert (await two.stats("q")).depth == 0


async def test_a_schema_of_another_version_is_refused(postgres):
    async with at(f"{postgres.url}?schema=later"):
        pass
    postgres.sql("COMMENT ON SCHEMA later IS 'promoter 99'")
    with pytest.raises(PermanentError, match="the schema later is 'promoter 99'"):
        async with at(f"{postgres.url}?schema=later"):
            pass


async def test_an_error_of_one_queue_is_that_queues_alone(backend):
    leases = [await backend.lock(queue, "me", 60_000) for queue in ("one", "bad", "two")]
    requests = [(lease, PromotionRequest(limit=10, max_stream_len=10)) for lease in leases]
    requests[1] = (leases[1], PromotionRequest(limit=-1, max_stream_len=10))
    answers = await backend.promote_many(requests)
    kinds = [Promotion, BackendError, Promotion]
    assert [isinstance(answer, kind) for answer, kind in zip(answers, kinds, strict=True)] == [True] * 3


async def test_two_calls_about_the_same_ids_in_another_order_do_not_wait_for_each_other(postgres, backend):
    async with at(postgres.url) as second:
        ids = [f"j{n}" for n in range(300)]
        jobs = [Job(data=n, delay=60, job_id=id) for n, id in enumerate(ids)]
        calls = [
            DelayedQueue(backend, "order").schedule_many(jobs),
            DelayedQueue(second, "order").schedule_many(jobs[::-1]),
        ]
        there, back = await asyncio.gather(*calls)
        assert [a.created != b.created for a, b in zip(there, back[::-1], strict=True)] == [True] * 300
        await asyncio.gather(backend.cancel("order", ids), second.cancel("order", ids[::-1]))
        assert (await backend.stats("order")).depth == 0


async def test_a_unique_job_that_is_promoted_just_now_is_not_taken_twice(postgres, backend):
    """The repeat waits for the promotion, and then sees its marker."""
    lease = await backend.lock("twice", "me", 60_000)
    queue = DelayedQueue(backend, "twice")
    await queue.schedule(1, job_id="a")
    async with await psycopg.AsyncConnection.connect(postgres.url) as slow:
        await slow.execute("SET search_path = promoter")
        await slow.execute("SELECT promote('twice', 'me', 60000, 9, 9, true, true, 9, true, true, true)")
        repeat = asyncio.create_task(queue.schedule(1, job_id="a"))
        await asyncio.sleep(0.1)
        assert not repeat.done()
        await slow.commit()
    assert not (await repeat).created
    stats = await backend.stats("twice")
    assert (stats.depth, stats.stream_len) == (0, 1)
    await backend.unlock(lease)


async def test_a_job_that_somebody_inserts_with_sql_wakes_the_leader(postgres, backend):
    assert backend.capabilities.wake is Wake.ANY_WRITE
    async with Promoter(backend, "by-hand").running():
        await until(lambda: holder(backend, "by-hand"))
        await asyncio.sleep(0.2)
        postgres.sql(
            "INSERT INTO promoter.jobs (queue, id, envelope, due_ms) "
            "VALUES ('by-hand', 'x', '\\x94a178c40100', promoter.now_ms())"
        )

        async def promoted():
            return (await backend.stats("by-hand")).stream_len == 1

        await until(promoted)


async def holder(backend, queue):
    return (await backend.stats(queue)).holder


async def test_a_server_that_hangs_is_a_transient_error_and_then_goes_on(postgres):
    async with at(f"{postgres.url}?timeout=300ms") as backend:
        await backend.stats("q")
        postgres.pause(True)
        try:
            with pytest.raises(BackendError, match="no answer in time") as caught:
                await backend.stats("q")
        finally:
            postgres.pause(False)
        assert caught.value.code == "TIMEOUT"
        await until(lambda: works(backend))


async def works(backend):
    try:
        await backend.stats("q")
    except BackendError:
        return False
    return True


async def test_a_fleet_lives_through_restarts_of_the_server_and_loses_and_repeats_nothing(own_postgres):
    async with at(own_postgres.url) as producer, at(own_postgres.url) as first, at(own_postgres.url) as second:
        names = [f"mail-{n}" for n in range(5)]
        fleets = [PromoterFleet(backend, ["mail-*"]) for backend in (first, second)]
        async with fleets[0].running(), fleets[1].running():
            for n in range(200):
                if n in (50, 120):
                    await asyncio.to_thread(own_postgres.restart)
                queue = DelayedQueue(producer, names[n % 5])
                while True:
                    try:
                        await queue.schedule(n, delay=0.2, job_id=f"j{n}")
                        break
                    except BackendError:
                        await asyncio.sleep(0.02)

            async def all_there():
                try:
                    return sum([(await producer.stats(name)).stream_len for name in names]) >= 200
                except BackendError:
                    return False

            await until(all_there, 30)
        found = own_postgres.sql(
            "SELECT count(*), count(DISTINCT envelope), count(DISTINCT queue) FROM promoter.stream"
        )
        assert found.strip() == "200|200|5"
        assert own_postgres.sql("SELECT count(*), count(DISTINCT id) FROM promoter.events").strip() == "200|200"
        assert isinstance(await first.lock("mail-0", "later", 1000), Lease)
