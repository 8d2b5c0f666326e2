"""`InPlaceContract` on an honest layout and on mutants of it. Run by `test_in_place_mutants.py`, never collected.

The framework is made up: ids in a sorted set by whole seconds, a hash for each job, a list, a lock. Its scheduler takes
jobs in several steps, so that only the lock keeps two movers from moving one job.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import connect
from promoter_core.spi import in_place
from promoter_core.testing.conformance import InPlaceContract
from promoter_core.testing.conformance.harness import REQUEST
from tests.server.in_place.apps import OnAServer, contents, copied

CHECK = """
    local state = find(member, '^job%-%w+$') and pcall('HGET', key1 .. member, 'state')
    if type(state) ~= 'string' then dead = 'no job' else
"""
PUSH = "added = pcall('RPUSH', target, member)"
DONE = """
    if type(added) == 'number' then pcall('HSET', key1 .. member, 'state', 'queued') end
    end
"""


def lua(body, **changes):
    return in_place.Lua(**({"body": body, "keys": ("job:",), "target": "mail:{queue}"} | changes))


WRITES = (
    in_place.Writes(key="mail:{queue}", commands=("rpush", "lpush", "llen")),
    in_place.Writes(key="job:*", commands=("hget", "hset")),
)
HONEST = in_place.InPlace(
    name="mail",
    source="mail:{queue}:later",
    score=in_place.Score.S,
    whole=True,
    floor="1",
    their_lock="mail:{queue}:lock",
    beside=in_place.Beside.SHARED_LOCK,
    moves=lua(CHECK + PUSH + DONE),
    writes=WRITES,
)
JOBS, EARLY = "test_jobs_of_their_producer_reach_their_consumer_once", "test_no_job_arrives_early_and_none_stays"
POISON, GOLDEN = "test_what_is_no_job_is_kept_and_stops_nothing", "test_the_store_is_as_after_their_own_scheduler"
FULL = "test_a_full_target_holds_jobs_back_and_none_is_dropped"
ACL = "test_the_permissions_are_enough_and_no_other_key_is_written"
FLOOR, LOCK = "test_members_below_the_floor_stay_as_they_are", "test_one_lock_excludes_their_scheduler_and_ours"
BESIDE = "test_beside_their_own_scheduler_each_job_arrives_once"
TYPE = "test_a_target_of_another_type_takes_no_member"
AT_THE_SECOND = replace(HONEST, whole=False)
OTHER_LOCK = replace(HONEST, their_lock="mail:{queue}:other")


def somewhere(push):
    """A move to a target that the layout does not name."""
    return lua(CHECK + push.replace("target", "key2") + DONE, target="", keys=("job:", "mail:{queue}"))


MUTANTS = {  # a layout, and the test that is to fail
    "AtTheSecond": (AT_THE_SECOND, EARLY),
    "InMilliseconds": (replace(HONEST, score=in_place.Score.MS), EARLY),
    "AnHourAhead": (replace(HONEST, offset_s=-3_600), EARLY),
    "WithoutAFloor": (replace(HONEST, floor=""), FLOOR),
    "ALockOfItsOwn": (OTHER_LOCK, LOCK),
    "BesideWithoutTheirLock": (replace(OTHER_LOCK, whole=False), BESIDE),
    "LeavesTheHash": (replace(HONEST, moves=lua(CHECK + PUSH + "end")), JOBS),
    "TheOtherEnd": (replace(HONEST, moves=lua(CHECK + PUSH.replace("RPUSH", "LPUSH") + DONE)), GOLDEN),
    "StaysInTheSet": (replace(HONEST, take=in_place.Take.RESCORE), GOLDEN),
    "DropsWhatIsNoJob": (
        replace(HONEST, moves=lua((CHECK + PUSH + DONE).replace("dead = 'no job'", "added = 1"))),
        POISON,
    ),
    "RaisesAtWhatIsNoJob": (
        replace(
            HONEST, moves=lua(f"local state = call('HGET', key1 .. string.match(member, '^job.*'), 'state'){PUSH}")
        ),
        POISON,
    ),
    "PassesErrorsOver": (replace(HONEST, moves=somewhere(f"{PUSH} added = 1")), TYPE),
    "KnowsNoLimit": (replace(HONEST, moves=somewhere(PUSH)), FULL),
    "SaysTooLittleOfItsWrites": (replace(HONEST, writes=WRITES[:1]), ACL),
    "PushesTwice": (replace(HONEST, moves=lua(CHECK + f"{PUSH} {PUSH}" + DONE)), JOBS),
}


class Made(OnAServer, InPlaceContract):
    layout = HONEST

    async def _timed(self, produce, dues):
        ids = await super()._timed(produce, dues)
        Made._ahead_s = self._ahead_s  # one producer makes the jobs of all classes: the next begins with what it took
        return ids

    @pytest.fixture
    async def client(self, server):
        async with Redis.from_url(server.url, decode_responses=False) as client:
            yield client

    @pytest.fixture
    def queue(self):
        return "q"

    @pytest.fixture
    async def backend(self, server):
        async with connect(server.url, layout=self.layout) as backend:
            yield backend

    @pytest.fixture
    def produce(self, client):
        async def produce(dues):
            ids = [f"job-{ULID()}" for _ in dues]
            pipeline = client.pipeline()
            for id, due in zip(ids, dues, strict=True):
                pipeline.hset(f"job:{id}", "state", "later")
                pipeline.zadd("mail:q:later", {id: int(due)})
            await pipeline.execute()
            return ids

        return produce

    @pytest.fixture
    def consume(self, client):
        async def consume():
            ids = []
            while (id := await client.lpop("mail:q")) is not None:
                assert await client.hget(b"job:" + id, "state") == b"queued"
                ids.append(id.decode())
            return ids

        return consume

    @pytest.fixture
    def add(self, client):
        return lambda member, score: client.zadd("mail:q:later", {member: score})

    @pytest.fixture
    def spoil(self, client):
        return lambda: client.hset("mail:q", "a", "b")

    @pytest.fixture
    def scores(self, client):
        return lambda: client.zrange("mail:q:later", 0, -1, withscores=True)

    @pytest.fixture
    def below(self):
        return 0.0

    @pytest.fixture
    def theirs(self, client):
        async def theirs():
            return bool(await client.set("mail:q:lock", "them", nx=True, px=60_000))

        return theirs

    @pytest.fixture
    def beside(self, client):
        async def scheduler():
            while True:
                if await client.set("mail:q:lock", "them", nx=True, px=5_000):
                    await schedule(client)
                    await client.delete("mail:q:lock")
                await asyncio.sleep(0.01)

        @contextlib.asynccontextmanager
        async def beside():
            task = asyncio.create_task(scheduler())
            yield
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        return beside

    @pytest.fixture
    def golden(self, server, client, backend, produce):
        async def golden():
            ids = await produce([1_000.0 + i for i in range(3)])
            async with Redis.from_url(f"{server.url}/1") as other:
                await copied(client, other, "mail:q:later", *(f"job:{id}" for id in ids))
                await schedule(other)
                lease = await backend.lock("q", "leader", 10_000)
                await backend.promote(lease, REQUEST)
                await backend.unlock(lease)
                return await contents(client), await contents(other)

        return golden


async def schedule(client):
    """The framework's scheduler: in several steps."""
    ids = await client.zrangebyscore("mail:q:later", 1, int(time.time()))
    await asyncio.sleep(0.05)
    for id in ids:
        await client.hset(b"job:" + id, "state", "queued")
        await client.rpush("mail:q", id)
        await client.zrem("mail:q:later", id)


class TestHonest(Made):
    pass


class TestHonestAtTheSecond(Made):
    layout = AT_THE_SECOND


for name, (mutant, _) in MUTANTS.items():
    globals()[f"Test{name}"] = type(f"Test{name}", (Made,), {"layout": mutant, "__module__": __name__})
