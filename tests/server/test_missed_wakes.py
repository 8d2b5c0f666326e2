"""A push that never comes costs one renewal at most, whatever connection it was lost with."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from ulid import ULID

from promoter_core import PermanentError, Promoter, PromoterFleet, PromoterSettings, connect
from promoter_core.spi import CHASQUIMQ, FleetSupport, Renewal
from promoter_core.testing import RecordingEvents
from tests.proxy import proxy
from tests.server.bench import member, now_ms, until
from tests.typed import untyped

pytestmark = pytest.mark.server

RENEWAL_MS = 1_000
SETTINGS = PromoterSettings(lock_ttl_ms=3 * RENEWAL_MS, poll_interval_ms=3_600_000)
SLACK_MS = 1_500  # for a busy machine; without a renewal that looks, the job stays indefinitely


class Serving:
    """A fleet of two queues, or a promoter on the first of them, on one backend."""

    def __init__(self, kind, backend):
        self.queues = [f"missed-{ULID()}" for _ in range(2)]
        self.keys = [CHASQUIMQ.keys_of(queue).delayed for queue in self.queues]
        self.events = RecordingEvents()
        if kind == "fleet":
            self.runs: Promoter | PromoterFleet
            self.runs = PromoterFleet(backend, self.queues, SETTINGS, events=[self.events])
        else:
            self.keys = self.keys[:1]
            self.runs = Promoter(backend, self.queues[0], SETTINGS, events=[self.events])

    async def settled(self):
        """Everybody leads and waits."""

        def ticked():
            return all(h.last_tick_age_s for h in self.runs.health())

        await until(ticked)
        await asyncio.sleep(0.3)

    async def is_on_time(self, client, id):
        """A plain ZADD is promoted within a renewal."""
        due = await now_ms(client) + 200
        await client.zadd(self.keys[0], {member(id): due})
        await until(lambda: id in self.events.ids)
        (late,) = [job.promoted_ms - job.due_ms for job in self.events.jobs if job.id == id]
        print(f"promoted {late} ms after it was due")
        assert 0 <= late <= RENEWAL_MS + SLACK_MS


@pytest.fixture(params=["fleet", "promoter"])
def kind(request):
    return request.param


async def connection(client, flag):
    """The id of the connection with that flag: "t" is tracked, "P" subscribes."""
    lines = (await client.execute_command("CLIENT", "LIST")).decode().splitlines()
    found = [dict(field.split("=", 1) for field in line.split(" ")) for line in lines]
    (id,) = [c["id"] for c in found if flag in c["flags"]]
    return id


@pytest.mark.parametrize("lost", ["t", "P"], ids=["tick-connection", "watching-connection"])
async def test_a_job_is_promoted_within_a_renewal_when_one_connection_alone_is_lost(valkey, client, kind, lost):
    async with connect(valkey.url) as backend:
        serving = Serving(kind, backend)
        async with serving.runs.running():
            await serving.settled()
            for round_ in range(3):
                async with client.pipeline(transaction=True) as both:
                    # The push wakes that queue at once; its tick finds the connection gone before anybody else does.
                    both.zadd(serving.keys[-1], {member(f"later-{round_}"): await now_ms(client) + 3_600_000})
                    both.execute_command("CLIENT", "KILL", "ID", await connection(client, lost))
                    await both.execute()
                await asyncio.sleep(0.2)
                await serving.is_on_time(client, f"now-{round_}")


async def test_a_job_is_promoted_within_a_renewal_while_no_push_arrives_at_all(valkey, client, kind):
    async with proxy(valkey.port) as network, connect(f"redis://{network.address}") as backend:
        serving = Serving(kind, backend)
        async with serving.runs.running():
            await serving.settled()
            network.mode = "mute"
            for round_ in range(2):
                await serving.is_on_time(client, f"{round_}")


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_an_error_of_one_queue_leaves_the_renewals_of_the_others(valkey, client, scheme):
    queues = [f"renewed-{ULID()}" for _ in range(4)]
    async with connect(valkey.url.replace("redis://", f"{scheme}://")) as backend:
        assert isinstance(backend, FleetSupport)
        leases = await backend.lock_many(queues, "me", 5_000)
        await client.set(CHASQUIMQ.keys_of(queues[1]).delayed, "no sorted set")
        await client.delete(CHASQUIMQ.keys_of(queues[2]).lock)
        await client.rpush(CHASQUIMQ.keys_of(queues[2]).lock, "no string")
        answers = await backend.renew_many([replace(untyped(lease), ttl_ms=60_000) for lease in leases])
        assert [type(answer) for answer in answers] == [Renewal, PermanentError, PermanentError, Renewal]
        assert [untyped(answer).code for answer in answers[1:3]] == ["WRONGTYPE"] * 2
        assert await client.pttl(CHASQUIMQ.keys_of(queues[3]).lock) > 30_000
        await client.delete(*(CHASQUIMQ.keys_of(queue).lock for queue in queues))


async def test_a_head_that_is_never_due_is_no_next_due_time(valkey, client):
    queue = f"renewed-{ULID()}"
    async with connect(valkey.url) as backend:
        assert isinstance(backend, FleetSupport)
        leases = await backend.lock_many([queue], "me", 5_000)
        for score, due, next_due_ms in (("+inf", False, None), (2**63, False, None), ("-inf", True, 0), (5.5, True, 6)):
            await client.delete(CHASQUIMQ.keys_of(queue).delayed)
            await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {b"m": score})
            (answer,) = await backend.renew_many([untyped(lease) for lease in leases])
            assert isinstance(answer, Renewal)
            assert (answer.due, answer.next_due_ms) == (due, next_due_ms), score
