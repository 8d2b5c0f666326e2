"""The tick connection or the watching one is killed alone, and what is written after that is heard all the same.

Leases and polls are far longer than the tests: only a push wakes anybody.
"""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import Promoter, PromoterFleet, PromoterSettings, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingEvents
from tests.server.bench import TICKS, WATCHES, member, now_ms, the_one, until

pytestmark = pytest.mark.server

LONG = PromoterSettings(lock_ttl_ms=3_600_000, poll_interval_ms=3_600_000, follower_poll_ms=3_600_000)
FLAG = {"tick connection": TICKS, "watching connection": WATCHES}


class Serving:
    """A promoter of one queue, or a fleet of three."""

    def __init__(self, kind, backend):
        self.queues = [f"lost-{ULID()}" for _ in range(3 if kind == "fleet" else 1)]
        self.events = RecordingEvents()
        if kind == "fleet":
            self.runs: Promoter | PromoterFleet = PromoterFleet(backend, self.queues, LONG, events=[self.events])
        else:
            self.runs = Promoter(backend, self.queues[0], LONG, events=[self.events])

    @property
    def ticked(self):
        return all(h.last_tick_age_s is not None for h in self.runs.health())

    async def hears(self, client, queue, id):
        """A job that a plain ZADD adds is promoted."""
        await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {member(id): await now_ms(client) + 100})
        await until(lambda: id in self.events.ids)


async def another(client, flag, than):
    return await the_one(client, flag) != than


@pytest.mark.parametrize("kind", ["fleet", "promoter"])
@pytest.mark.parametrize("lost", FLAG)
@pytest.mark.parametrize("found_by", ["a tick", "nobody"])
async def test_what_is_written_after_one_connection_alone_was_lost_is_heard(server, kind, lost, found_by):
    async with connect(server.url) as backend, Redis(port=server.port) as client:
        serving = Serving(kind, backend)
        async with serving.runs.running():
            await until(lambda: serving.ticked)
            for round_ in range(3):
                await until(lambda: backend.capabilities.wake == "any-write")
                await asyncio.sleep(0.2)  # everybody has heard of what there was, and sleeps
                killed = await the_one(client, FLAG[lost])
                async with client.pipeline(transaction=True) as both:
                    if found_by == "a tick":  # the push wakes this queue, and its tick fails
                        far = await now_ms(client) + 3_600_000
                        both.zadd(CHASQUIMQ.keys_of(serving.queues[-1]).delayed, {member(f"far-{round_}"): far})
                    both.execute_command("CLIENT", "KILL", "ID", killed)
                    await both.execute()
                await until(lambda: backend.capabilities.wake == "any-write")
                await until(lambda killed=killed: another(client, FLAG[lost], killed))
                await asyncio.sleep(0.2)
                for queue in serving.queues:
                    await serving.hears(client, queue, f"{queue}-{round_}")
        assert len(serving.events.ids) == 3 * len(serving.queues)
        assert len(set(serving.events.ids)) == len(serving.events.ids)
