"""One name, another server: a demotion that leaves connections open, connections that die without a word, and clients
that end up with two servers. Everybody follows, and hears of changes where the jobs are now.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Promoter, PromoterSettings, TransientError, connect
from promoter_core.spi import CHASQUIMQ, Wake
from promoter_core.testing import RecordingEvents
from tests.proxy import proxy
from tests.server.bench import connected, patiently, until
from tests.servers import Server, find

pytestmark = [pytest.mark.server, pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")]
both = pytest.mark.parametrize("scheme", ["redis", "glide"])
K = CHASQUIMQ.keys_of("q")
AWAKE_ONLY = {"poll_interval_ms": 3_600_000, "lock_ttl_ms": 600_000}  # nothing but a change has it look


@pytest.fixture
async def servers():
    """Two, the second a replica of the first, each with a client."""
    with Server() as one, Server() as two:
        async with Redis(port=one.port) as first, Redis(port=two.port) as second:
            await second.replicaof("127.0.0.1", one.port)

            async def linked():
                return (await second.info("replication"))["master_link_status"] == "up"

            await until(linked)
            yield (one, first), (two, second)


async def planned_fail_over(network, servers, *, stale="yes"):
    """The second takes over and the first becomes its replica; whoever is connected to it stays connected."""
    (_, first), (two, second) = servers
    await second.replicaof("NO", "ONE")
    await first.config_set("replica-serve-stale-data", stale)
    await first.replicaof("127.0.0.1", two.port if stale == "yes" else 1)
    network.move(two.port)


def url_of(scheme, network, timeout_ms=500):
    return f"{scheme}://{network.address}?command_timeout_ms={timeout_ms}"


@contextlib.asynccontextmanager
async def promoting(url, **settings):
    events = RecordingEvents()
    async with connected(url) as backend:
        promoter = Promoter(backend, "q", PromoterSettings(**settings), events=[events])
        async with promoter.running():
            await until(lambda: promoter.health()[0].leads)
            yield promoter, events, backend


async def announced_is_promoted(events, url, job_id):
    """A job of another process: the promoter sleeps, and only an announcement can wake it."""
    async with connect(url) as producing:
        await DelayedQueue(producing, "q").schedule(1, delay=0.05, job_id=job_id)
    await until(lambda: job_id in events.ids, 15)


@pytest.mark.parametrize(("scheme", "code"), [("redis", "READONLY"), ("glide", "READONLY"), ("glide", "MASTERDOWN")])
async def test_a_promoter_leaves_a_server_that_was_demoted_and_keeps_its_connections(servers, scheme, code):
    async with proxy(servers[0][0].port) as network, promoting(url_of(scheme, network), lock_ttl_ms=1_000) as it:
        promoter, events, backend = it
        await announced_is_promoted(events, servers[0][0].url, "before")
        await planned_fail_over(network, servers, stale="yes" if code == "READONLY" else "no")
        began = time.monotonic()
        await announced_is_promoted(events, servers[1][0].url, "after")
        print(f"{scheme} {code}: promoting again after {time.monotonic() - began:.2f} s")
        await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None)
        await until(lambda: backend.capabilities.wake is not Wake.POLL)
        assert await servers[1][1].xlen(K.stream) == 2


@both
async def test_after_a_demotion_the_promoter_is_woken_by_the_new_server(servers, scheme):
    async with (
        proxy(servers[0][0].port) as network,
        promoting(url_of(scheme, network), **AWAKE_ONLY | {"lock_ttl_ms": 3_000}) as (promoter, events, backend),
    ):
        await planned_fail_over(network, servers)
        await until(lambda: promoter.health()[0].last_error is not None, 20)
        await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None, 20)
        await until(lambda: backend.capabilities.wake is not Wake.POLL)
        await servers[0][1].replicaof("NO", "ONE")  # what it hears from there now is not ours
        await announced_is_promoted(events, servers[1][0].url, "after")


@both
async def test_a_producer_leaves_a_server_that_was_demoted(servers, scheme):
    async with proxy(servers[0][0].port) as network, connected(url_of(scheme, network)) as backend:
        queue = DelayedQueue(backend, "q")
        await patiently(lambda: queue.schedule(1, delay=60, job_id="before"))
        await planned_fail_over(network, servers)
        await asyncio.sleep(0.3)
        refused = 0
        for n in range(5):
            with contextlib.suppress(TransientError):
                await queue.schedule(1, delay=60, job_id=f"after-{n}")
                continue
            refused += 1
        assert refused <= 1
        assert (await queue.stats()).depth == 6 - refused


@both
async def test_a_promoter_whose_connections_die_without_a_word_is_back(server, scheme):
    async with proxy(server.port) as network, promoting(url_of(scheme, network), lock_ttl_ms=1_000) as it:
        promoter, events, backend = it
        await announced_is_promoted(events, server.url, "before")
        for n in range(2):
            network.silence()
            began = time.monotonic()
            await announced_is_promoted(events, server.url, f"after-{n}")
            print(f"{scheme}: promoting again {time.monotonic() - began:.2f} s after all connections fell silent")
        await until(lambda: promoter.health()[0].last_error is None)
        await until(lambda: backend.capabilities.wake is not Wake.POLL, 20)


@both
async def test_a_producer_whose_connection_dies_without_a_word_fails_once(server, scheme):
    async with proxy(server.port) as network, connected(url_of(scheme, network)) as backend:
        queue = DelayedQueue(backend, "q")
        await patiently(lambda: queue.schedule(1, delay=60, job_id="before"))
        network.silence()
        with pytest.raises(TransientError):
            await queue.schedule(1, delay=60, job_id="a")
        began = time.monotonic()

        async def again():
            with contextlib.suppress(TransientError):
                return await queue.schedule(1, delay=60, job_id="a")

        await until(again)
        print(f"{scheme}: scheduling again {time.monotonic() - began:.2f} s after the first time-out")
        assert (await queue.stats()).depth == 2


async def ports_of(admin, kind):
    """The proxy's own ports of the connections of a type; ours, not those of the test."""
    clients = await admin.client_list(_type=kind)
    return [int(c["addr"].rpartition(":")[2]) for c in clients if c["name"] == "promoter"]


async def test_a_subscriber_that_falls_silent_is_noticed_and_made_anew(server):
    async with (
        Redis(port=server.port) as admin,
        proxy(server.port) as network,
        promoting(url_of("glide", network), **AWAKE_ONLY) as (_, events, backend),
    ):
        await announced_is_promoted(events, server.url, "before")
        (port,) = await ports_of(admin, "pubsub")
        network.silence(port)
        await until(lambda: backend.capabilities.wake is Wake.POLL)
        await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED)
        await announced_is_promoted(events, server.url, "after")
        assert port not in await ports_of(admin, "pubsub")


async def test_a_subscriber_that_stays_with_another_server_is_noticed_and_follows():
    with Server() as one, Server() as two:
        async with (
            Redis(port=one.port) as first,
            proxy(one.port) as network,
            promoting(url_of("glide", network), **AWAKE_ONLY | {"lock_ttl_ms": 3_000}) as (promoter, events, backend),
        ):
            await announced_is_promoted(events, one.url, "before")
            network.move(two.port)
            assert len(await ports_of(first, "pubsub")) == 1
            await first.client_kill_filter(_type="normal", skipme=True)  # the client of the commands alone
            await until(lambda: backend.capabilities.wake is Wake.POLL)
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED)
            assert await ports_of(first, "pubsub") == []
            await until(lambda: promoter.health()[0].leads and promoter.health()[0].last_error is None)
            await announced_is_promoted(events, two.url, "after")


@pytest.mark.parametrize("rules", [["resetchannels"], ["allchannels", "-psubscribe"]], ids=["channels", "command"])
async def test_a_user_who_may_not_subscribe_polls_and_is_told_once_what_is_missing(rules, server, caplog):
    """GLIDE would repeat the subscription without a pause, so it is never asked to make it."""
    async with Redis(port=server.port) as admin:
        await admin.execute_command("ACL", "SETUSER", "app", "on", ">x", "~*", "+@all", *rules)
        url = f"glide://app:x@{server.address}?command_timeout_ms=500"
        async with promoting(url, lock_ttl_ms=1_000, poll_interval_ms=20) as (promoter, events, backend):
            await DelayedQueue(backend, "q").schedule(1, delay=0.1, job_id="a")
            await until(lambda: events.ids == ["a"])
            assert backend.capabilities.wake is Wake.POLL
            await until(lambda: [r for r in caplog.records if "+psubscribe" in r.getMessage()], 20)
            assert promoter.health()[0].last_error is None
            await asyncio.sleep(1)
        assert len([r for r in caplog.records if "+psubscribe" in r.getMessage()]) == 1
        assert "cmdstat_psubscribe" not in await admin.info("commandstats")


async def test_a_user_whose_permission_to_subscribe_ends_polls_and_is_awake_again_with_it(server):
    async with Redis(port=server.port) as admin:
        await admin.execute_command("ACL", "SETUSER", "app", "on", ">x", "~*", "+@all", "allchannels")
        url = f"glide://app:x@{server.address}?command_timeout_ms=500"
        async with promoting(url, lock_ttl_ms=1_000, poll_interval_ms=20) as (_, _, backend):
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED)
            await admin.execute_command("ACL", "SETUSER", "app", "resetchannels")
            await until(lambda: backend.capabilities.wake is Wake.POLL, 20)
            await asyncio.sleep(0.5)  # the client that repeats its subscription is closed in the background
            await admin.config_resetstat()
            await asyncio.sleep(2)
            assert "cmdstat_psubscribe" not in await admin.info("commandstats")
            await admin.execute_command("ACL", "SETUSER", "app", "allchannels")
            await until(lambda: backend.capabilities.wake is Wake.ANNOUNCED, 20)
