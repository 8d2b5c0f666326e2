"""Several processes change the same jobs at random while promoters take them: by each id, the sums come out right."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import count

import pytest

from promoter_core import Promoter, connect, unpack_envelope
from promoter_core.spi import (
    JobOutcome,
    JobRequest,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StreamName,
    pack_envelope,
)
from tests.server.bench import until

pytestmark = pytest.mark.server

IDS = [f"j{i}" for i in range(40)]
ROUNDS = 120
ENOUGH = 50
numbers = count()


def a_request(id, chance):
    return JobRequest(
        id,
        pack_envelope(id, b"%d" % next(numbers), 1, 0),  # a request that equals a waiting job is that job
        name=chance.choice(["", "mail"]),
        delay_ms=chance.choice([0, 1, 20, 300]),
        unique=chance.random() < 0.8,
        keep_id_ms=chance.choice([0, 0, 5, 3_600_000]),
        traceparent=chance.choice(["", "00-a"]),
    )


async def change_at_random(backend, name, chance, made, gone):
    """Count what is made and what is taken away, by id, until there is enough of both."""
    rounds = 0
    while rounds < ROUNDS or min(gone.total(), made.total() - gone.total()) <= ENOUGH:
        rounds += 1
        ids = chance.choices(IDS, k=chance.choice([1, 1, 8]))
        if chance.random() < 0.3:
            requests = [a_request(id, chance) for id in ids]
            made.update(one.id for one in await backend.schedule(name, requests) if one.created)
            continue
        jobs = await backend.get_jobs(name, ids) if chance.random() < 0.3 else ids
        changes = []
        for id, job in zip(ids, jobs, strict=True):
            which = job or id
            delay_ms = chance.choice([0, 5, 200])
            changes.append(
                chance.choice(
                    [
                        Reschedule(job=which, delay_ms=delay_ms),
                        RunNow(job=which, max_stream_len=chance.choice([0, 10**6])),
                        Remove(job=which),
                        Replace(request=a_request(id, chance), search=chance.random() < 0.5),
                        Replace(request=a_request(id, chance), keep_due=True, keep_name=True),
                        Replace(request=a_request(id, chance), keep_data=True),
                    ]
                )
            )
        for id, outcome in zip(ids, await backend.change_jobs(name, changes), strict=True):
            made[id] += outcome is JobOutcome.CREATED
            gone[id] += outcome is JobOutcome.REMOVED


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_or_doubled_while_jobs_are_changed_from_all_sides(valkey, name, seed):
    made: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    urls = [f"{scheme}://{valkey.address}" for scheme in ("redis", "redis", "redis", "glide", "glide")]
    backends = []
    async with connect(valkey.url) as backend, connect(valkey.url) as other, asyncio.timeout(60):
        contexts = [connect(url) for url in urls]
        backends = [await context.__aenter__() for context in contexts]
        try:
            async with Promoter(backend, name).running(), Promoter(other, name).running():
                work = [
                    change_at_random(b, name, random.Random(seed * 100 + i), made, gone) for i, b in enumerate(backends)
                ]
                await asyncio.gather(*work)
                await until(lambda: drained(backend, name), 30)
        finally:
            for context in contexts:
                await context.__aexit__(None, None, None)
        entries = await backend.read(name, StreamName.JOBS, "", 100_000)
    arrived = Counter(unpack_envelope(entry.fields["d"]).id for entry in entries)
    assert {id: made[id] - gone[id] for id in IDS} == {id: arrived[id] for id in IDS}
    assert sum(gone.values()) > ENOUGH < len(entries)


async def drained(backend, name):
    return (await backend.stats(name)).depth == 0
