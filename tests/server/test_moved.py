"""Another server answers at the same address: behind a name, a virtual IP address or a proxy.

The new server has many connections of others: whatever id a connection has on the old one, the new one knows it, too.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingEvents
from tests.proxy import proxy
from tests.server.bench import TICKS, WATCHES, connected, member, now_ms, patiently, the_one, until
from tests.servers import Server, find

pytestmark = [pytest.mark.server, pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")]
K = CHASQUIMQ.keys_of("q")
SETTINGS = PromoterSettings(lock_ttl_ms=2_000, poll_interval_ms=3_600_000)
TIMEOUT_MS = 1_000
CONNECTIONS = 150


@pytest.fixture
async def two():
    """A primary, its replica, and the clients of both."""
    first = Server().start()
    second = Server(replicaof=f"127.0.0.1 {first.port}")
    try:
        second.start()
        async with (
            Redis(port=first.port) as one,
            Redis(port=second.port) as other,
            contextlib.AsyncExitStack() as stack,
        ):
            for _ in range(CONNECTIONS):
                _, writer = await asyncio.open_connection("127.0.0.1", second.port)
                stack.callback(writer.close)

            async def linked():
                return (await other.info("replication"))["master_link_status"] == "up"

            await until(linked)
            yield first, second, one, other
    finally:
        first.stop()
        second.stop()


async def readonly(network, first, second, one, other):
    """A fail-over that leaves every connection open."""
    await other.replicaof("NO", "ONE")
    network.target = second.port
    await one.replicaof("127.0.0.1", second.port)


async def masterdown(network, first, second, one, other):
    await one.config_set("replica-serve-stale-data", "no")
    await other.replicaof("NO", "ONE")
    network.target = second.port
    await one.replicaof("127.0.0.1", 1)


async def silent(network, first, second, one, other):
    """The old server and its connections are gone without a word."""
    await other.replicaof("NO", "ONE")
    network.target = second.port
    network.freeze()


async def taken_over(network, first, second, one, other):
    """The old server lives on, writable; the next connection, that of the ticks, reaches the other."""
    await other.replicaof("NO", "ONE")
    network.target = second.port
    await one.execute_command("CLIENT", "KILL", "ID", await the_one(one, TICKS))


async def ten(queue, when):
    """Ten calls at once, each on a connection of its own."""
    await asyncio.gather(*(queue.schedule(i, delay=3600, job_id=f"{when}-{i}") for i in range(10)))


MOVES = {"READONLY": readonly, "MASTERDOWN": masterdown, "silent death": silent, "taken over": taken_over}


@pytest.mark.parametrize("info", [True, False], ids=["INFO", "no-INFO"])
@pytest.mark.parametrize("move", MOVES)
async def test_everything_goes_on_with_the_new_server(two, move, info):
    first, _, one, other = two
    events = RecordingEvents()
    for client in (one, other):
        words = ["app", "on", ">secret", "allkeys", "allchannels", "+@all", *([] if info else ["-info"])]
        await client.execute_command("ACL", "SETUSER", *words)
    async with proxy(first.port) as network:
        url = f"redis://app:secret@{network.address}?command_timeout_ms={TIMEOUT_MS}"
        async with connected(url) as promoting, connected(url) as producing:
            queue = DelayedQueue(producing, "q")
            await patiently(lambda: ten(queue, "before"))
            async with Promoter(promoting, "q", SETTINGS, events=[events]).running() as promoter:
                await until(lambda: promoter.health()[0].leads and promoting.capabilities.wake == "any-write")
                await until(lambda: (promoter.health()[0].last_tick_age_s or 0) > 0.2)
                await MOVES[move](network, *two)
                failures = 0
                while move != "taken over":  # nothing tells the producer of that one
                    try:
                        await queue.schedule(1, delay=3600, job_id="after")
                        break
                    except TransientError:
                        failures += 1
                        assert failures < 1_000
                assert failures <= 2
                if move != "taken over":
                    await ten(queue, "after")  # the ten connections were given up together
                # by a push: the poll is an hour away, and only this server is written to
                await until(lambda: promoting.capabilities.wake == "any-write" and promoter.health()[0].leads)
                await the_one(other, WATCHES)
                await asyncio.sleep(0.3)
                await other.zadd(K.delayed, {member("pushed"): await now_ms(other) + 50})
                await until(lambda: "pushed" in events.ids)
                assert await other.xlen(K.stream) == 1


async def test_a_silent_death_is_noticed_long_before_a_command_times_out(two):
    first, _, one, other = two
    events = RecordingEvents()
    async with proxy(first.port) as network:
        url = f"redis://{network.address}?command_timeout_ms=120000"
        async with connect(url) as promoting, connect(url) as producing:
            queue = DelayedQueue(producing, "q")
            await asyncio.gather(*(queue.schedule(i, delay=3600) for i in range(10)))
            async with Promoter(promoting, "q", SETTINGS, events=[events]).running() as promoter:
                await until(lambda: promoter.health()[0].leads and promoting.capabilities.wake == "any-write")
                await silent(network, *two)
                with pytest.raises(TransientError):
                    await queue.schedule(1, delay=3600, job_id="lost")
                await asyncio.gather(*(queue.schedule(i, delay=0.1, job_id=f"after-{i}") for i in range(10)))
                await until(lambda: len(events.ids) == 10, 20)
                assert await one.xlen(K.stream) == 0
                assert await other.xlen(K.stream) == 10
