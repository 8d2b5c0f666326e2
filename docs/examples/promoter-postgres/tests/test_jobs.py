"""Managing jobs in a server: locks, reads, and concurrent changes."""

import asyncio
import itertools
import random
from uuid import uuid4

import psycopg
import pytest
from promoter_postgres.listing import PAGE_BYTES, page_arguments

from promoter_core import Promoter, connect
from promoter_core.spi import (
    JobOutcome,
    JobQuery,
    JobRequest,
    PromotionRequest,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StreamName,
    pack_envelope,
    unpack_envelope,
)

FAR_MS = 4_000_000_000_000


@pytest.fixture
async def backend(server_url):
    async with connect(server_url) as backend:
        yield backend


@pytest.fixture
async def second(server_url):
    async with connect(server_url) as second:
        yield second


@pytest.fixture
async def db(server_url, backend):
    """A connection of another program."""
    options = "-c search_path=promoter"
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True, options=options) as db:
        yield db


@pytest.fixture
def queue():
    return f"q-{uuid4()}"


def job(id, payload=b"\xa1x", **fields):
    return JobRequest(id, pack_envelope(id, payload, 1, 0), **({"unique": True, "due_ms": FAR_MS} | fields))


async def locks(db, queue):
    cursor = await db.execute("SELECT holder FROM locks WHERE queue = %s", (queue,))
    return await cursor.fetchall()


async def arrived(backend, queue):
    return [unpack_envelope(e.fields["d"]).id for e in await backend.read(queue, StreamName.JOBS, "", 100_000)]


async def test_a_change_leaves_no_lock_and_keeps_that_of_a_leader(backend, db, queue):
    await backend.schedule(queue, [job("a"), job("b")])
    await backend.change_jobs(queue, [Remove(job="a"), RunNow(job="b"), Reschedule(job="c", delay_ms=0)])
    assert await locks(db, queue) == []
    await backend.lock(queue, "me", 60_000)
    await backend.change_jobs(queue, [Remove(job="a")])
    assert await locks(db, queue) == [(b"me",)]


async def test_entries_of_the_stream_are_committed_in_the_order_of_their_numbers(server_url, backend, queue):
    """A reader that continues after the last entry that it has seen misses none."""
    await backend.schedule(queue, [job("slow"), job("quick")])
    options = "-c search_path=promoter"
    async with await psycopg.AsyncConnection.connect(server_url, options=options) as other:
        run = "SELECT run_jobs_now(%s, %b::bytea[], %s::bigint[], 9, true, 9)"
        await other.execute(run, (queue, [b"slow"], [None]))  # not committed yet
        change = asyncio.create_task(backend.change_jobs(queue, [RunNow(job="quick")]))
        await asyncio.sleep(0.1)
        assert not change.done()
        await other.commit()
        assert await change == [JobOutcome.PROMOTED]
    assert await arrived(backend, queue) == ["slow", "quick"]


async def test_a_promotion_and_run_now_do_not_overfill_the_stream(server_url, backend, queue):
    await backend.schedule(queue, [job("a"), job("due", due_ms=1)])
    lease = await backend.lock(queue, "me", 60_000)
    options = "-c search_path=promoter"
    async with await psycopg.AsyncConnection.connect(server_url, options=options) as other:
        await other.execute("SELECT run_jobs_now(%s, %b::bytea[], %s::bigint[], 1, true, 9)", (queue, [b"a"], [None]))
        promotion = asyncio.create_task(backend.promote(lease, PromotionRequest(limit=9, max_stream_len=1)))
        await asyncio.sleep(0.1)
        assert not promotion.done()
        await other.commit()
        assert ((await promotion).promoted, (await promotion).held_back) == (0, 1)


async def test_the_last_of_several_jobs_is_replaced_by_a_unique_one(backend, queue):
    await backend.schedule(queue, [job("a"), job("a", unique=False)])
    assert await backend.change_jobs(queue, [Replace(request=job("a", b"\xa1y"))]) == [JobOutcome.REPLACED]
    page = await backend.list_jobs(queue, JobQuery())
    assert [found.unique for found in page.jobs] == [False, True]
    (again,) = await backend.schedule(queue, [job("a")])
    assert again.outcome is JobOutcome.KEPT


async def test_a_replacement_waits_for_a_job_that_is_scheduled_just_now(server_url, backend, queue):
    options = "-c search_path=promoter"
    async with await psycopg.AsyncConnection.connect(server_url, options=options) as other:
        insert = "INSERT INTO jobs (queue, id, envelope, due_ms, uniq) VALUES (%s, 'a', 'x', 1, true)"
        await other.execute(insert, (queue,))
        change = asyncio.create_task(backend.change_jobs(queue, [Replace(request=job("a"))]))
        await asyncio.sleep(0.1)
        assert not change.done()
        await other.commit()
        assert await change == [JobOutcome.REPLACED]
    assert (await backend.stats(queue)).depth == 1


async def test_calls_that_replace_and_schedule_the_same_ids_in_another_order_do_not_wait_for_each_other(
    backend, second, queue
):
    ids = [f"j{n}" for n in range(300)]
    for _ in range(5):
        schedule = backend.schedule(queue, [job(id) for id in ids])
        replace = second.change_jobs(queue, [Replace(request=job(id)) for id in reversed(ids)])
        await asyncio.gather(schedule, replace)
        await backend.cancel(queue, ids)
        assert (await backend.stats(queue)).depth == 0


async def test_a_page_of_large_jobs_has_a_few(backend, queue):
    large = [JobRequest(f"{n}", bytes(PAGE_BYTES // 2), due_ms=FAR_MS + n) for n in range(5)]
    await backend.schedule(queue, large)
    sizes, after = [], ""
    while True:
        page = await backend.list_jobs(queue, JobQuery(after=after))
        sizes.append(len(page.jobs))
        if not (after := page.cursor):
            break
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_costs_the_same_wherever_it_is_among_jobs_of_one_millisecond(backend, db, queue, reverse):
    insert = "INSERT INTO jobs (queue, id, envelope, due_ms) SELECT %s, 'x', 'x', 1000 FROM generate_series(1, 20000)"
    await db.execute(insert, (queue,))
    await db.execute("VACUUM ANALYZE jobs")
    cursor = await db.execute("SELECT min(seq) FROM jobs WHERE queue = %s", (queue,))
    ((first,),) = await cursor.fetchall()

    async def blocks(place):
        query = JobQuery(limit=10, after=f"1000-{first + place}", reverse=reverse)
        sql, arguments = page_arguments(queue, query)
        cursor = await db.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", arguments)
        ((plan,),) = await cursor.fetchall()
        top = plan[0]["Plan"]
        return top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    taken = [await blocks(place) for place in (1_000, 10_000, 19_000)]
    assert max(taken) < 3 * min(taken), taken


async def test_many_who_change_the_same_jobs_at_random_lose_none_and_repeat_none(backend, second, queue):
    ids = [f"j{n}" for n in range(12)]
    numbers = itertools.count()
    born, dead = 0, 0  # jobs that were made, and jobs that were replaced or removed

    def soon(name):
        envelope = pack_envelope(name, b"\xa1x", next(numbers), 0)  # another one for each job
        return JobRequest(name, envelope, unique=True, keep_id_ms=0, delay_ms=5)

    async def work(backend, seed):
        nonlocal born, dead
        chance = random.Random(seed)
        for _ in range(60):
            some = chance.sample(ids, 4)
            match chance.randrange(5):
                case 0:
                    answers = await backend.schedule(queue, [soon(name) for name in some])
                    born += sum(answer.created for answer in answers)
                    continue
                case 1:
                    changes = [Reschedule(job=name, delay_ms=chance.randrange(20)) for name in some]
                case 2:
                    changes = [RunNow(job=name) for name in some]
                case 3:
                    changes = [Remove(job=name) for name in some]
                case 4:
                    changes = [Replace(request=soon(name)) for name in some]
            outcomes = await backend.change_jobs(queue, changes)
            born += sum(outcome in (JobOutcome.CREATED, JobOutcome.REPLACED) for outcome in outcomes)
            dead += sum(outcome in (JobOutcome.REMOVED, JobOutcome.REPLACED) for outcome in outcomes)

    async with Promoter(backend, queue).running():
        await asyncio.gather(*(work((backend, second)[n % 2], n) for n in range(8)))
    await backend.change_jobs(queue, [RunNow(job=name) for name in ids])
    stats = await backend.stats(queue)
    assert (stats.depth, stats.stream_len, stats.events_len) == (0, born - dead, born - dead)
    entries = await backend.read(queue, StreamName.JOBS, "", 100_000)
    assert len({entry.fields["d"] for entry in entries}) == len(entries)
