"""The kit's wishes beyond the contract: malformed members, the names of all that a store holds, hours that pass."""

from __future__ import annotations

from functools import partial

import pytest

from promoter_core.spi import CHASQUIMQ, to_text
from promoter_core.testing import VirtualClock
from tests.leap import leap


def names_in_memory(store):
    """Queues, and of each the ids in its cancel index and in its dedup markers."""
    return [
        name for queue, q in store.queues() for name in (queue, *(f"{queue}:{id}" for id in (*q._index, *q._markers)))
    ]


def set_time_in_memory(clock):
    """The kit's `set_time` of a store that lives by a VirtualClock."""

    async def set_time(ms):
        clock.jump((ms - clock.time_ms()) / 1000)

    return set_time


class OnAVirtualClock:
    """The kit's `clock` and the fixtures that move it, for a store that lives by it."""

    @pytest.fixture
    def clock(self):
        return VirtualClock()

    @pytest.fixture
    def leap(self, clock):
        return lambda queue, ms: clock.sleep(ms / 1000)

    @pytest.fixture
    def set_time(self, clock):
        return set_time_in_memory(clock)


class ServerFixtures:
    """The kit's optional fixtures for a server, with a fixture `client`: a redis-py client of that server."""

    @pytest.fixture
    def leap(self, client):
        return partial(leap, client)

    @pytest.fixture
    def add_malformed(self, client):
        async def add(queue, member):
            await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {member: 1})

        return add

    @pytest.fixture
    def add_parked(self, client):
        async def add(queue, request):
            member = CHASQUIMQ.encode_member(request.name, request.envelope)
            await client.zadd(CHASQUIMQ.keys_of(queue).delayed, {member: "inf"})

        return add

    @pytest.fixture
    def stored_names(self, client):
        async def names():
            return [to_text(key) async for key in client.scan_iter(count=10_000)]

        return names
