"""Failures that alerts are about, made at once, each on a queue of its kind. For `python -m benchmarks.alerts`.

Malformed members in a queue that is served, and in one whose process starts later; a full stream; a webhook that is
refused, and one that hangs while a burst is promoted; a process that starts again every few seconds; an event loop that
is blocked while a thread answers scrapes; a store that cannot be reached, and one that is far away.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis.asyncio import Redis

from promoter_core import DelayedQueue, Job, connect
from tests.proxy import Proxy, proxy

PORTS = 8  # that processes of these failures answer scrapes on
BEFORE = ["blocked-1", "errors-1", "late-1"]  # queues that are well until their failure
BURST = 70_000  # jobs: more than an event sink has room for
FAR_S = 0.7  # from here to the store, each way: so that jobs are late, and the lead is held all the same
DUE_S = 30  # from the start to the jobs of a full stream and of both webhooks
# Alerts, with the queue or with what failed of a sink, and how many seconds after the start their failure begins.
TOGETHER = {
    ("PromoterStalled", "blocked-1"): 0,
    ("PromoterUnserved", "blocked-1"): 0,
    ("PromoterErrors", "errors-1"): 0,
    ("PromoterLate", "late-1"): 0,
    ("PromoterMalformed", "bills-1"): 0,
    ("PromoterDeadLetters", "bills-1"): 0,
    ("PromoterMalformed", "old-1"): 0,
    ("PromoterDeadLetters", "old-1"): 0,
    ("PromoterHeldBack", "full-1"): DUE_S,
    ("PromoterSinkFailure", "refused"): DUE_S,
    ("PromoterSinkFailure", "dropped"): DUE_S,
    ("PromoterRestarts", ""): 0,
}

# Its page is answered by a thread of prometheus-client, so it answers while the event loop is blocked.
APPLICATION = """
import asyncio, signal, sys, time
from promoter_core import Promoter, connect

async def main(url, queue, port):
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
    async with connect(url) as backend:
        await Promoter(backend, queue, metrics=[f"prometheus:port={port}"]).run()

asyncio.run(main(*sys.argv[1:]))
"""


def start(stack: ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def promoter(stack: ExitStack, *words: str) -> subprocess.Popen[bytes]:
    return start(stack, sys.executable, "-m", "promoter_core", *words)


def run(stack: ExitStack, url: str, queue: str, port: int, *words: str) -> None:
    promoter(stack, "run", "--url", url, "--queue", queue, "--http", str(port), *words)


@dataclass
class Ready:
    blocked: subprocess.Popen[bytes]
    errors: Proxy
    late: Proxy


@asynccontextmanager
async def before(stack: ExitStack, url: str, ports: list[int]) -> AsyncIterator[Ready]:
    """Processes that are well until `together`."""
    async with AsyncExitStack() as proxies:
        errors, late = [await proxies.enter_async_context(proxy(urlsplit(url).port or 0)) for _ in range(2)]
        blocked = start(stack, sys.executable, "-c", APPLICATION, url, "blocked-1", str(ports[0]))
        run(stack, f"redis://{errors.address}", "errors-*", ports[1])
        run(stack, f"redis://{late.address}", "late-*", ports[2])
        yield Ready(blocked, errors, late)


@asynccontextmanager
async def together(url: str, ready: Ready, ports: list[int]) -> AsyncIterator[None]:
    """All failures, for as long as it is entered."""
    with ExitStack() as stack:
        refusing, hanging = [await asyncio.start_server(answer, "127.0.0.1", 0) for answer in (refuse, hang)]
        hooks = [f"webhook:url=http://127.0.0.1:{port_of(server)}/,buffer=1" for server in (refusing, hanging)]
        async with connect(url) as backend, Redis.from_url(url) as client:
            for queue in ("bills-1", "old-1"):
                await client.zadd(f"{{chasqui:{queue}}}:delayed", {"x": 1, "y": 2})
            for queue, count in (("full-1", 100), ("hooks-1", 100), ("burst-1", BURST)):
                for first in range(0, count, 10_000):
                    jobs = [Job(data=i, delay=DUE_S) for i in range(first, min(count, first + 10_000))]
                    await DelayedQueue(backend, queue).schedule_many(jobs)
        run(stack, url, "full-*", ports[3], "--max-stream-len", "5")
        run(stack, url, "hooks-*", ports[4], "--event-sink", hooks[0])
        run(stack, url, "burst-*", ports[5], "--event-sink", hooks[1])
        run(stack, url, "old-*", ports[6])
        ready.blocked.send_signal(signal.SIGUSR1)
        ready.errors.refuse = True
        ready.errors.drop()
        ready.late.way_s = lambda: FAR_S
        restarts = asyncio.create_task(restart(url, ports[7]))
        try:
            yield
        finally:
            restarts.cancel()
            refusing.close()
            hanging.close()
            with suppress(asyncio.CancelledError):
                await restarts


def port_of(server: asyncio.Server) -> int:
    listening: socket.socket = server.sockets[0]
    return int(listening.getsockname()[1])


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A receiver that says: never."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A receiver that does not answer."""
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()


async def restart(url: str, port: int) -> None:
    """A process that ends and starts again."""
    while True:
        with ExitStack() as stack:
            run(stack, url, "again-*", port)
            await asyncio.sleep(12)
