"""docs/examples/apps/consumer.py, killed at any moment, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import sys
import time

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Job, Promoter, TransientError, connect
from promoter_core.spi import CHASQUIMQ, StreamName
from tests import processes
from tests.apps.conftest import APPS
from tests.server.bench import until

pytestmark = pytest.mark.server

KEYS = CHASQUIMQ.keys_of("orders")
GROUP = "billing"
# The example with short times, and with work that does what an order asks for.
FAST = f"""
import asyncio, os, signal, sys, time
sys.path.insert(0, {str(APPS)!r})
import consumer
consumer.IDLE_S, consumer.GRACE_S, consumer.BACKOFF = 0.6, 2.0, consumer.Backoff.fixed(0.05, max_attempts=3)
read = consumer.Redis.xreadgroup
consumer.Redis.xreadgroup = lambda *args, block, **named: read(*args, block=block // 20, **named)
given = consumer.work
async def work(job, order):
    match order.get("do"):
        case "fail": raise RuntimeError("the bank is closed")
        case "fail once" if job.attempt == 0: raise RuntimeError("the bank is closed")
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "last" | "stuck": await asyncio.sleep(2 * consumer.IDLE_S if order["do"] == "last" else 60)
    await given(job, order)
consumer.work = work
try:
    asyncio.run(consumer.main())
except consumer.PromoterError as error:
    sys.exit(str(error))
"""


class Consumers:
    def __init__(self, url, folder):
        self.environment = os.environ | {"PROMOTER_URL": url, "DATABASE": str(folder / "bills.db")}
        self.database, self.log = folder / "bills.db", folder / "log"
        self.processes = []

    def start(self, code=FAST):
        with self.log.open("ab") as log:
            process = processes.Popen([sys.executable, "-c", code], env=self.environment, stderr=log)
        self.processes.append(process)
        return process

    def bills(self):
        """The number of bills of each order."""
        if not self.database.exists():
            return {}
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as database:
            try:
                return dict(database.execute("SELECT number, COUNT(*) FROM bills GROUP BY number"))
            except sqlite3.OperationalError:  # no table yet
                return {}


@pytest.fixture
def consumers(server, tmp_path):
    found = Consumers(server.url, tmp_path)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


@pytest.fixture
async def client(server):
    async with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
async def orders(server):
    async with connect(server.url) as backend, Promoter(backend, "orders").running():
        yield DelayedQueue(backend, "orders")


def order(number, do=None, **more):
    return Job(data={"order": number, "total": 12, "do": do} | more, name="bill", job_id=f"order-{number}", delay=0.1)


async def pending(client):
    return (await client.xpending(KEYS.stream, GROUP))["pending"]


async def letters(orders):
    entries = await orders._backend.read("orders", StreamName.DLQ, "", 100)
    return sorted(entry.fields["reason"].decode() for entry in entries)


async def test_each_order_is_billed_once_while_consumers_are_killed(orders, client, consumers):
    count = 120
    await orders.schedule_many([order(n, "fail once" if n % 10 == 0 else None) for n in range(count)])
    deadline = time.monotonic() + 90
    for _ in range(3):
        consumers.start()
    while len(consumers.bills()) < count and time.monotonic() < deadline:
        victim = random.Random(len(consumers.processes)).choice(consumers.processes[-3:])
        if len(consumers.processes) < 9:
            await orders.schedule_many([order(n) for n in range(count, count + 20)])
            count += 20
            await asyncio.sleep(1)
            victim.kill()
            victim.wait()
            consumers.start()
        await asyncio.sleep(0.2)
    await until(lambda: len(consumers.bills()) == count, 30)
    assert set(consumers.bills().values()) == {1}

    async def finished():
        return not await pending(client) and not await client.xlen(KEYS.stream)

    await until(finished, 30)
    assert await letters(orders) == []
    assert (await orders.stats()).depth == 0


async def test_a_killed_consumers_entry_goes_to_another_one(orders, client, consumers):
    first = consumers.start()
    await orders.schedule_many([order(1, "stuck")])

    async def taken():
        return await client.exists(KEYS.stream) and await client.xinfo_groups(KEYS.stream) and await pending(client)

    await until(taken, 30)
    first.kill()
    first.wait()
    (entry,) = await client.xrange(KEYS.stream)
    second = consumers.start()

    async def claimed():
        (found,) = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 1)
        return str(second.pid).encode() in found["consumer"] and found["times_delivered"] == 2

    await until(claimed, 30)
    assert [entry] == await client.xrange(KEYS.stream)


async def test_a_job_that_takes_longer_than_the_idle_time_is_not_run_by_another_consumer(orders, client, consumers):
    consumers.start()
    consumers.start()
    await orders.schedule_many([order(1, "last")])
    seen = set()

    async def done():
        if await client.exists(KEYS.stream) and await client.xinfo_groups(KEYS.stream):
            for found in await client.xpending_range(KEYS.stream, GROUP, "-", "+", 1):
                seen.add((found["consumer"], found["times_delivered"]))
        return consumers.bills() == {1: 1}

    await until(done, 30)
    assert len(seen) == 1


async def test_what_cannot_succeed_goes_to_the_dead_letters_with_its_reason(orders, client, consumers):
    consumers.start()
    await client.xadd(KEYS.stream, {"d": b"no envelope"})
    await orders.schedule(["no", "mapping"], delay=0)
    await orders.schedule_many([order(1, "fail"), order(2, total=0), order(3)])
    await until(lambda: consumers.bills() == {3: 1}, 30)

    async def four():
        return len(await letters(orders)) == 4

    await until(four, 30)
    assert await letters(orders) == ["hopeless", "malformed", "malformed", "retries_exhausted"]
    assert await client.xlen(KEYS.stream) == 0


async def test_a_retry_carries_the_trace_of_its_producer(orders, client, consumers):
    traceparent, tracestate = f"00-{1:032x}-{2:016x}-01", "vendor=1"
    consumers.start()
    await orders.schedule(
        {"order": 1, "total": 12, "do": "fail"}, delay=0.1, traceparent=traceparent, tracestate=tracestate
    )
    await until(lambda: letters(orders), 30)
    (letter,) = await orders._backend.read("orders", StreamName.DLQ, "", 100)
    trace = tuple(letter.fields[field].decode() for field in ("traceparent", "tracestate"))
    assert trace == (traceparent, tracestate)  # without an SDK the consumer's span is the producer's


async def test_a_job_that_kills_its_consumers_is_put_aside_and_takes_no_other_along(orders, client, consumers):
    await orders.schedule_many([order(n) for n in range(5)] + [order(9, "kill")])
    deadline = time.monotonic() + 90
    while not await letters(orders) and time.monotonic() < deadline:
        if not consumers.processes or consumers.processes[-1].poll() is not None:
            consumers.start()
        await asyncio.sleep(0.1)
    assert await letters(orders) == ["poison"]
    assert sum(process.poll() == -signal.SIGKILL for process in consumers.processes) == 5
    await until(lambda: consumers.bills() == dict.fromkeys(range(5), 1), 30)


async def test_sigterm_finishes_the_job_under_way_and_leaves_no_consumer_behind(orders, client, consumers):
    process = consumers.start()
    await orders.schedule_many([order(1, "last")])

    async def taken():
        return await client.exists(KEYS.stream) and await client.xinfo_groups(KEYS.stream) and await pending(client)

    await until(taken, 30)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert consumers.bills() == {1: 1}
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []


async def test_a_job_that_outlasts_the_grace_is_left_to_another_consumer(orders, client, consumers):
    process = consumers.start()
    await orders.schedule_many([order(1, "stuck")])

    async def taken():
        return await client.exists(KEYS.stream) and await client.xinfo_groups(KEYS.stream) and await pending(client)

    await until(taken, 30)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert await pending(client) == 1


async def test_it_goes_on_after_the_server_lost_its_data_and_was_away(server, orders, client, consumers):
    consumers.start()
    await orders.schedule_many([order(1)])
    await until(lambda: consumers.bills() == {1: 1}, 30)
    await client.flushall()
    await orders.schedule_many([order(2)])
    await until(lambda: consumers.bills() == {1: 1, 2: 1}, 30)
    server.kill()
    await until(lambda: "the server is away" in consumers.log.read_text(), 30)
    server.start()
    with contextlib.suppress(TransientError):
        await orders.stats()  # its connection may be the one that was lost
    await orders.schedule_many([order(3)])
    await until(lambda: consumers.bills() == {1: 1, 2: 1, 3: 1}, 40)


def losing_all_before(command):
    """The consumer, whose server loses its data just before the first one of this command."""
    return FAST.replace(
        "given = consumer.work\n",
        f"""
seen = consumer.Redis.{command}
async def losing(self, *args, **named):
    consumer.Redis.{command} = seen
    await self.flushall()
    print("all is lost", file=sys.stderr, flush=True)
    return await seen(self, *args, **named)
consumer.Redis.{command} = losing
given = consumer.work
""",
    )


async def test_it_goes_on_when_the_server_loses_its_data_before_it_asks_for_the_consumers(orders, consumers):
    process = consumers.start(losing_all_before("xinfo_consumers"))
    await until(lambda: "all is lost" in consumers.log.read_text(), 30)
    await orders.schedule_many([order(1)])
    await until(lambda: process.poll() is not None or consumers.bills() == {1: 1}, 30)
    assert process.poll() is None, consumers.log.read_text()


async def test_it_stops_well_when_the_server_has_just_lost_its_data(orders, consumers):
    process = consumers.start(losing_all_before("xpending_range"))
    await orders.schedule_many([order(1)])
    await until(lambda: consumers.bills() == {1: 1}, 30)
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, 30)
    assert process.poll() == 0, consumers.log.read_text()


def test_without_a_server_it_ends_with_one_line():
    done = processes.run(
        [sys.executable, APPS / "consumer.py"],
        env=os.environ | {"PROMOTER_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("consumer: ")
    assert "Traceback" not in done.stderr
