"""The demo's producers: ours, and ChasquiMQ's where it is installed, with a mix of names, sizes and delays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

from promoter_core import DelayedQueue, Job, connect

NAMES = ("welcome-email", "invoice", "webhook", "thumbnail", "")
CHUNK = 500
RATE = 8_000  # jobs per second that even a slow machine can schedule


async def produce(
    url: str, queue: str, jobs: int, seconds: float, lead_s: float, advance: Callable[[int], object]
) -> dict[str, int]:
    """Schedule `jobs` jobs due over `seconds`, on most machines all before the first is due.

    Return how many by which producer.
    """
    start_s = time.time() + lead_s + jobs / RATE
    foreign = jobs // 4 if find_spec("chasquimq") else 0
    ours = jobs - foreign
    work = [_ours(url, queue, ours, start_s, seconds, advance)]
    if foreign:
        work.append(_chasquimq(url, queue, foreign, start_s, seconds, advance))
    await asyncio.gather(*work)
    return {"promoter": ours} | ({"chasquimq": foreign} if foreign else {})


def _body(chance: random.Random) -> dict[str, object]:
    """Return data that is mostly small, and sometimes several kilobytes."""
    size = min(int(chance.lognormvariate(4.5, 1)), 8_000)
    return {"to": f"user-{chance.randrange(10_000)}@example.com", "body": "x" * size}


async def _ours(
    url: str, queue: str, jobs: int, start_s: float, seconds: float, advance: Callable[[int], object]
) -> None:
    chance = random.Random(1)  # noqa: S311  # traffic, not secrets
    async with connect(url) as backend:
        delayed = DelayedQueue(backend, queue)
        for first in range(0, jobs, CHUNK):
            chunk = []
            for i in range(first, min(first + CHUNK, jobs)):
                at_s = start_s + chance.random() * seconds
                job_id = f"ours-{i}" if i % 2 else None
                name, data = chance.choice(NAMES), _body(chance)
                if i % 3:
                    chunk.append(Job(data=data, name=name, job_id=job_id, at=datetime.fromtimestamp(at_s, UTC)))
                else:
                    delay = timedelta(seconds=max(at_s - time.time(), 0))
                    chunk.append(Job(data=data, name=name, job_id=job_id, delay=delay))
            await delayed.schedule_many(chunk)
            advance(len(chunk))


async def _chasquimq(
    url: str, queue: str, jobs: int, start_s: float, seconds: float, advance: Callable[[int], object]
) -> None:
    from chasquimq import Queue

    chance = random.Random(2)  # noqa: S311
    producer = Queue(queue, redis_url=url)
    for first in range(0, jobs, 50):
        some = range(first, min(first + 50, jobs))
        await asyncio.gather(
            *(
                producer.add(
                    chance.choice(NAMES[:-1]),
                    _body(chance),
                    # On a slow machine the time may have passed. A delay of 0 would bypass the set of delayed jobs.
                    delay_ms=max(int((start_s + chance.random() * seconds - time.time()) * 1000), 1),
                    **({"job_id": f"theirs-{i}"} if i % 2 else {}),
                )
                for i in some
            )
        )
        advance(len(some))
    await producer.close()
