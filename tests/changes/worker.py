"""One process that schedules and changes jobs at random, and writes what it asks and what is answered.

    python -m tests.changes.worker KIND ADDRESS QUEUE SEED LOG

It ends when there is a file `stop` beside LOG. KIND is `redis` or `glide` (this library on one of its clients) or
`chasquimq` (that package's own producer).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import msgpack
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from promoter_core import DelayedJob, DelayedQueue, JobExistsError, TransientError, connect
from promoter_core.client.requests import OnRepeat
from promoter_core.client.ulids import ULIDS
from promoter_core.spi import CHASQUIMQ
from tests.changes.history import Request

AT_ONCE = 4  # requests of one process
ROUND_S = 1.0  # then other ids are used
IDS = 24  # of a round
LATEST_MS = 1_200
NAMES = ("", "mail", "größe", "n" * 256)
PAUSE_S = 0.01  # of ChasquiMQ's producer, which is quicker than ours
REQUEST_S = 30  # of ChasquiMQ's producer, which waits longer for a server that is gone


def shared_id(chance: random.Random) -> str:
    """One of the ids of this moment, the same ones in all processes: short, long, with every kind of letter."""
    i = chance.randrange(IDS)
    start = f"{int(time.time() / ROUND_S) % 100_000}-{i}"
    match i % 6:
        case 0:
            return f"{start}-{'x' * 600}"[:512]
        case 1:
            return f"{start}-\N{SNOWMAN}ü\0\r\n{{}}:"
        case 2:
            return f"{start}-{'ü' * 100}"
        case _:
            return start


class Log:
    def __init__(self, file: TextIO, prefix: str) -> None:
        self._file, self._prefix, self._n = file, prefix, 0

    def token(self) -> str:
        self._n += 1
        return f"{self._prefix}-{self._n}"

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    async def asked(self, request: Request, call: Callable[[], Awaitable[Any]], *, fails: type[Exception]) -> Any:
        """Write the request before it is made, and its answer behind it."""
        self._n += 1
        n = self._n
        self._write(n=n, **asdict(request))
        try:
            answer = await call()
        except fails:
            await asyncio.sleep(0.05)
            return None
        self._write(n=n, end=time.time(), answer=answer)
        return answer

    def seen(self, id: str, call: float, end: float, answer: Any) -> None:
        self._n += 1
        self._write(n=self._n, **asdict(Request("see", id, call, end, answer)))


def seen_as(job: DelayedJob | None) -> list[Any] | None:
    return None if job is None else [job.data(), job.name, job.stored.due_ms]


class Ours:
    """All of `DelayedQueue`."""

    def __init__(self, queue: DelayedQueue, plain: Redis, log: Log, chance: random.Random) -> None:
        self.queue, self.plain, self.log, self.chance = queue, plain, log, chance
        self.keys = CHASQUIMQ.keys_of(queue.name)

    async def step(self) -> None:
        chance = self.chance
        if chance.random() < 0.6:
            await self._on_shared(shared_id(chance))
        elif chance.random() < 0.4:
            await self._new()
        else:
            await self._on_listed()

    def _request(self, op: str, id: str, **more: Any) -> Request:
        return Request(op, id, time.time(), **more)

    def _delay(self) -> int:
        return self.chance.choice((0, self.chance.randrange(100), self.chance.randrange(LATEST_MS)))

    async def _ask(self, request: Request, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self.log.asked(request, call, fails=TransientError)

    async def _on_shared(self, id: str) -> None:
        repeats: tuple[OnRepeat | None, ...] = ("keep", "keep", "replace", "extend", "error", None, None, None)
        repeat = self.chance.choice(repeats)
        if repeat is None:
            await self._change(id, id)
            return
        op = {"keep": "schedule", "error": "schedule", "replace": "put", "extend": "extend"}[repeat]
        token, name, delay_ms = self.log.token(), self.chance.choice(NAMES), self._delay()
        keep = self.chance.random() < 0.5

        async def call() -> str:
            try:
                scheduled = await self.queue.schedule(
                    token,
                    name=name,
                    delay=delay_ms / 1000,
                    job_id=id,
                    on_repeat=repeat,
                    keep_id_for=None if keep else 0,
                )
            except JobExistsError as exc:
                return str(exc.outcome)
            return str(scheduled.outcome)

        await self._ask(self._request(op, id, token=token, name=name, delay_ms=delay_ms, keep=keep), call)

    async def _new(self) -> None:
        """A job with an id that no marker guards, with and without an index, or by a plain ZADD."""
        token, name, delay_ms, id = self.log.token(), self.chance.choice(NAMES), self._delay(), ULIDS.take(1)[0]
        kind = self.chance.randrange(3)
        if kind == 2:
            request = self._request("mint_plain", id, token=token, name=name, delay_ms=delay_ms)
            due_ms = int(request.call * 1000) + delay_ms
            packed = msgpack.packb([id, msgpack.packb(token), due_ms, 0])
            job = {CHASQUIMQ.encode_member(name, packed): due_ms}
            await self.log.asked(request, lambda: self.plain.zadd(self.keys.delayed, job), fails=RedisError)
            return
        request = self._request("mint" if kind else "mint_plain", "", token=token, name=name, delay_ms=delay_ms)

        async def call() -> str:
            job = await self.queue.schedule(token, name=name, delay=delay_ms / 1000, index=bool(kind))
            return job.id

        await self._ask(request, call)

    async def _on_listed(self) -> None:
        """Look at a page, and change one of its jobs: as it was seen, or by its id."""
        call = time.time()
        try:
            page = await self.queue.jobs(limit=self.chance.choice((1, 20, 300)), reverse=self.chance.random() < 0.5)
        except TransientError:
            return
        end = time.time()
        if not page.jobs:
            return
        job = self.chance.choice(page.jobs)
        assert job.id is not None
        self.log.seen(job.id, call, end, seen_as(job))
        await self._change(job.id, self.chance.choice((job, job.id)))

    async def _change(self, id: str, job: str | DelayedJob) -> None:
        chance, queue = self.chance, self.queue
        handle = job.data() if isinstance(job, DelayedJob) else None
        match chance.choice(("reschedule", "reschedule", "run_now", "cancel", "replace", "replace", "get")):
            case "reschedule":
                delay_ms = self._delay()
                request = self._request("reschedule", id, delay_ms=delay_ms, handle=handle)
                delay = timedelta(milliseconds=delay_ms)
                await self._ask(request, lambda: queue.reschedule(job, delay=delay))
            case "run_now":
                await self._ask(self._request("run_now", id, handle=handle), lambda: queue.run_now(job))
            case "cancel":
                await self._ask(self._request("cancel", id, handle=handle), lambda: queue.cancel(job))
            case "replace":
                token, name, keep = self.log.token(), chance.choice((None, *NAMES)), chance.random() < 0.5
                kept = {"name": name, "keep_id_for": None if keep else 0}
                request = self._request("replace", id, token=token, name=name, keep=keep)
                if chance.random() < 0.5:
                    await self._ask(request, lambda: queue.replace(job, token, **kept))  # type: ignore[arg-type]
                    return
                delay_ms = self._delay()
                request = replace(request, op="put", delay_ms=delay_ms)
                if len(id) == 26 and not chance.random() < 0.1:
                    return  # nobody creates a job with an id that was minted, but now and then
                await self._ask(request, lambda: queue.replace(job, token, delay=delay_ms / 1000, **kept))  # type: ignore[arg-type]
            case "get":
                request = self._request("see", id)

                async def call() -> Any:
                    return seen_as(await queue.get(id))

                await self._ask(request, call)


class Theirs:
    """ChasquiMQ's producer."""

    def __init__(self, queue: Any, log: Log, chance: random.Random) -> None:
        self.queue, self.log, self.chance = queue, log, chance
        self.made: list[str] = []  # ids that it gave

    async def step(self) -> None:
        chance, id = self.chance, shared_id(self.chance)
        token, name = self.log.token(), chance.choice(NAMES)
        delay_ms = chance.choice((1, chance.randrange(1, LATEST_MS)))
        due: dict[str, Any] = {"token": token, "name": name, "delay_ms": delay_ms}
        match chance.choice(("add", "add", "add_unique", "mint", "cancel", "cancel made")):
            case "mint":
                made = await self._ask(
                    Request("mint_plain", "", time.time(), **due), self._id(self.queue.add, name, token, delay_ms)
                )
                self.made += [made] if made else []
            case "cancel made" if self.made:
                id = chance.choice(self.made[-20:])
                await self._ask(Request("cancel_delayed", id, time.time()), lambda: self.queue.cancel_delayed(id))
            case "cancel":
                await self._ask(Request("cancel_delayed", id, time.time()), lambda: self.queue.cancel_delayed(id))
            case kind:
                add = self.queue.add if kind == "add" else self.queue.add_unique
                await self._ask(Request("add", id, time.time(), **due), self._id(add, name, token, delay_ms, job_id=id))
        await asyncio.sleep(PAUSE_S)

    def _id(self, add: Any, name: str, token: str, delay_ms: int, **id: str) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            return str((await add(name, token, delay_ms=delay_ms, **id)).id)

        return call

    async def _ask(self, request: Request, call: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(REQUEST_S):
                return await call()

        return await self.log.asked(request, bounded, fails=Exception)


async def repeat(step: Callable[[], Awaitable[None]], goes_on: Callable[[], bool]) -> None:
    async def one() -> None:
        while goes_on():
            await step()

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def run(kind: str, address: str, queue: str, seed: int, log: TextIO, goes_on: Callable[[], bool]) -> None:
    chance = random.Random(seed)
    lines = Log(log, f"{kind}-{seed}")
    if kind == "chasquimq":
        import chasquimq

        async with chasquimq.Queue(queue, redis_url=f"redis://{address}") as theirs:
            await repeat(Theirs(theirs, lines, chance).step, goes_on)
        return
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(Redis.from_url(f"redis://{address}", retry=Retry(NoBackoff(), 0)))
        while goes_on():
            try:
                backend = await stack.enter_async_context(connect(f"{kind}://{address}?command_timeout_ms=5000"))
            except TransientError:
                await asyncio.sleep(0.1)  # the server is away
                continue
            await repeat(Ours(DelayedQueue(backend, queue), plain, lines, chance).step, goes_on)


if __name__ == "__main__":
    kind, address, queue, seed, path = sys.argv[1:]
    stop = Path(path).with_name("stop")
    with Path(path).open("a", encoding="utf-8") as file:
        asyncio.run(run(kind, address, queue, int(seed), file, lambda: not stop.exists()))
