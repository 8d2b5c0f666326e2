"""Worker processes of a framework, which record the time of each job that they run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from promoter_core.spi import TransientError, cancel_and_wait

URL = os.environ.get("PROMOTER_DEMO_URL", "redis://localhost:1/0")  # the server of a worker
ARRIVED = "promoter-demo:arrived"  # a list of job numbers and the times at which they ran
READY = -1  # the number of a job that is sent immediately
READY_S = 30.0
END_S = 3.0

Arrived = Callable[[int, float], None]


def note(number: int) -> None:
    """Record, in a worker, that this job runs now."""
    now_s = time.time()
    with Redis.from_url(URL) as client:
        client.rpush(ARRIVED, f"{number} {now_s}")


@asynccontextmanager
async def process(
    url: str, arguments: Sequence[str], program: str = sys.executable, *, talks: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that works for the server at `url`, until exit. `talks` gives it pipes."""
    nowhere = asyncio.subprocess.DEVNULL
    pipe = asyncio.subprocess.PIPE if talks else nowhere
    env = os.environ | {"PROMOTER_DEMO_URL": url, "TZ": "UTC"}
    started = await asyncio.create_subprocess_exec(
        program, *arguments, env=env, stdin=pipe, stdout=pipe, stderr=nowhere
    )
    try:
        yield started
    finally:
        _send(started, signal.SIGTERM)
        try:
            await asyncio.wait_for(started.wait(), END_S)
        except TimeoutError:
            _send(started, signal.SIGKILL)
            await started.wait()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Not by `terminate` or `kill`: they consume the exit code of a process that has just ended, and asyncio warns."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


@asynccontextmanager
async def working(
    url: str,
    arguments: Sequence[str],
    arrived: Arrived,
    send_now: Callable[[int], Any],
    program: str = sys.executable,
) -> AsyncIterator[None]:
    """Run a worker process, ready once it has run a job that `send_now(number)` sends. Raises TransientError."""
    ready = asyncio.Event()

    def seen(number: int, at_s: float) -> None:
        ready.set() if number == READY else arrived(number, at_s)

    async with AsyncExitStack() as stack:
        reading = asyncio.create_task(_read(url, seen))
        stack.push_async_callback(cancel_and_wait, reading)
        worker = await stack.enter_async_context(process(url, arguments, program))
        deadline_s = time.monotonic() + READY_S
        while not ready.is_set():
            if worker.returncode is not None or time.monotonic() > deadline_s:
                raise TransientError(f"the worker ({' '.join(arguments[:3])}) runs no job", code="TIMEOUT")
            await send_now(READY)  # repeated, for a consumer that starts at the end of a stream
            try:
                await asyncio.wait_for(ready.wait(), 0.5)
            except TimeoutError:
                continue
        yield


async def _read(url: str, note: Arrived) -> None:
    async with AsyncRedis.from_url(url) as client:
        reading: Any = client.blpop
        while True:
            if (popped := await reading([ARRIVED], 1)) is not None:
                number, at_s = popped[1].split()
                note(int(number), float(at_s))
