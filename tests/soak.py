"""Fleets and single queues in several promoter processes, and faults all the time; then an account of every job.

    python -m tests.soak [--seconds 60] [--queues 50] [--promoters 5] [--seed 1]

Of five processes two serve the pattern `soak-*`, one of them through a proxy; one serves the first half of the queues
by name, and two serve one queue each. They poll once an hour, so that a lost wake is seen.

Faults, one about every second, at random: a promoter killed (-9) and started again, a promoter suspended for longer
than its lease, the server killed and restarted (append-only file, always), all connections killed, the tick connections
or the watching connections alone killed (of all processes, or of one), a step of the proxy's latency and jitter, its
connections dead without a word, scripts flushed, memory full.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from promoter_core import Backend, DelayedQueue, Job, TransientError, connect
from promoter_core.spi import CHASQUIMQ
from tests.proxy import Proxy, proxy
from tests.servers import Server

LEASE_MS = 1_000
JOBS_A_SECOND = 20  # and queue
LATEST_MS = 30_000  # a wake that was lost for good is seen as more; the worst sum of the faults is a third of it
STOP_S = 15  # within which a process ends after SIGTERM, on a busy machine
WAYS_S = ((0, 0), (0.001, 0.001), (0.005, 0.01), (0.03, 0.02), (0.1, 0.05))  # one way through the proxy: least, jitter


@dataclass
class Account:
    """The fate of the jobs."""

    jobs: int = 0  # acknowledged to the producer
    lost: int = 0
    duplicated: int = 0
    early: int = 0
    unaccounted: int = 0  # in a stream though nobody asked for it
    latest_ms: int = 0  # the longest that a job was promoted after it was due
    faults: Counter[str] = field(default_factory=Counter)
    died: int = 0  # promoters that ended by themselves, or did not end when they were told to

    @property
    def good(self) -> bool:
        wrong = self.lost or self.duplicated or self.early or self.unaccounted or self.died
        return self.jobs > 0 and not wrong and self.latest_ms <= LATEST_MS

    def __str__(self) -> str:
        faults = ", ".join(f"{n} × {what}" for what, n in sorted(self.faults.items()))
        return (
            f"jobs {self.jobs:,}, lost {self.lost}, duplicated {self.duplicated}, early {self.early}, "
            f"not asked for {self.unaccounted}, promoters that ended by themselves {self.died}, "
            f"latest {self.latest_ms:,} ms\n{self.faults.total()} faults: {faults}"
        )


class Soak:
    def __init__(self, queues: int, promoters: int, seed: int) -> None:
        self.queues = [f"soak-{i}" for i in range(queues)]
        self.chance = random.Random(seed)
        self.server = Server(appendonly="yes", appendfsync="always")
        self.promoters: list[asyncio.subprocess.Process | None] = [None] * promoters
        self.asked: dict[str, dict[str, int]] = {queue: {} for queue in self.queues}  # due then, in ms
        self.acknowledged: dict[str, set[str]] = {queue: set() for queue in self.queues}
        self.account = Account()
        self.network = Proxy(self.server.port)  # until there is one that listens
        self.faults: dict[str, Callable[[int], Awaitable[None]]] = {
            "promoter killed": self._kill,
            "promoter suspended": self._suspend,
            "server killed": self._restart,
            "all connections killed": lambda _: self._cut("normal", "pubsub"),
            "tick connections killed": lambda _: self._cut_alone("t"),
            "watching connections killed": lambda _: self._cut_alone("P"),
            "latency step": self._step,
            "silent connections": self._silence,
            "scripts flushed": self._flush_scripts,
            "memory full": self._fill,
        }

    async def run(self, seconds: float) -> Account:
        self.server.start()
        try:
            async with proxy(self.server.port) as self.network, connect(self.server.url) as backend:
                for i in range(len(self.promoters)):
                    await self._start(i)
                until_s = time.monotonic() + seconds
                producers = [asyncio.create_task(self._produce(backend, q, until_s)) for q in self.queues]
                while time.monotonic() < until_s:
                    await asyncio.sleep(self.chance.uniform(0.5, 1.5))
                    await self._fault()
                await asyncio.gather(*producers)
                await self._drain(backend)
                await self._stop()
            await self._check()
        finally:
            for process in self.promoters:
                if process is not None and process.returncode is None:
                    process.kill()
            self.server.stop()
        return self.account

    def _serves(self, i: int) -> tuple[str, list[str]]:
        """The server's address as process `i` knows it, and its queues."""
        match i % 5:
            case 0:
                return self.network.address, ["soak-*"]
            case 1:
                return self.server.address, ["soak-*"]
            case 2:
                return self.server.address, self.queues[: len(self.queues) // 2]
            case _:
                return self.server.address, [self.queues[-i % len(self.queues)]]

    async def _start(self, i: int) -> None:
        address, queues = self._serves(i)
        command = [sys.executable, "-m", "promoter_core", "run", "--url", f"redis://{address}?command_timeout_ms=2000"]
        command += ["--lock-ttl-ms", str(LEASE_MS), "--connect-timeout", "60", "--poll-interval-ms", "3600000"]
        for queue in queues:
            command += ["--queue", queue]
        self.promoters[i] = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)

    async def _produce(self, backend: Backend, queue: str, until_s: float) -> None:
        """Half of the jobs have a due time, half a delay, which counts from a moment after this one."""
        delayed, n = DelayedQueue(backend, queue), 0
        while time.monotonic() < until_s:
            batch = []
            for _ in range(4):
                n += 1
                delay_s, id = self.chance.uniform(0, 2), f"{queue}-{n}"
                self.asked[queue][id] = due_ms = int((time.time() + delay_s) * 1000)
                at = datetime.fromtimestamp(due_ms / 1000, UTC)
                batch.append(Job(data=n, at=at, job_id=id) if n % 2 else Job(data=n, delay=delay_s, job_id=id))
            while True:
                try:
                    await delayed.schedule_many(batch)
                    break
                except TransientError:
                    await asyncio.sleep(0.1)  # safe to repeat: the jobs have ids
            self.acknowledged[queue].update(str(job.job_id) for job in batch)
            await asyncio.sleep(4 / JOBS_A_SECOND)

    async def _fault(self) -> None:
        for i, process in enumerate(self.promoters):
            assert process is not None
            if process.returncode is not None:
                self.account.died += 1
                await self._start(i)
        fault = self.chance.choice(list(self.faults))
        with contextlib.suppress(RedisError, OSError):
            await self.faults[fault](self.chance.randrange(len(self.promoters)))
            self.account.faults[fault] += 1

    async def _kill(self, i: int) -> None:
        process = self.promoters[i]
        assert process is not None
        process.kill()
        await process.wait()
        await self._start(i)

    async def _suspend(self, i: int) -> None:
        process = self.promoters[i]
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.sleep(LEASE_MS / 1000 * 1.5)
        os.kill(process.pid, signal.SIGCONT)

    async def _restart(self, _: int) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)

    async def _cut(self, *kinds: str) -> None:
        async with Redis(port=self.server.port) as client:
            for kind in kinds:
                await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def _cut_alone(self, flag: str) -> None:
        """Of all processes, or of one."""
        async with Redis(port=self.server.port) as client:
            lines = (await client.execute_command("CLIENT", "LIST")).decode().splitlines()
            connections = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
            ids = [c["id"] for c in connections if flag in c["flags"]]
            if self.chance.random() < 0.5:
                ids = self.chance.sample(ids, min(len(ids), 1))
            if not ids:
                raise OSError("nobody has such a connection just now")
            for id in ids:
                await client.execute_command("CLIENT", "KILL", "ID", id)

    async def _step(self, _: int) -> None:
        least_s, jitter_s = self.chance.choice(WAYS_S)
        self.network.way_s = lambda: least_s + random.random() * jitter_s

    async def _silence(self, _: int) -> None:
        self.network.silence()

    async def _flush_scripts(self, _: int) -> None:
        async with Redis(port=self.server.port) as client:
            await client.script_flush()

    async def _fill(self, _: int) -> None:
        async with Redis(port=self.server.port) as client:
            await client.config_set("maxmemory", "1")
            await asyncio.sleep(0.3)
            await client.config_set("maxmemory", "0")

    async def _drain(self, backend: Backend) -> None:
        async with asyncio.timeout(60 + LATEST_MS / 1000):
            for queue in self.queues:
                while True:
                    with contextlib.suppress(TransientError):
                        if (await DelayedQueue(backend, queue).stats()).depth == 0:
                            break
                    await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        processes = [process for process in self.promoters if process is not None]
        for process in processes:
            if process.returncode is None:
                process.terminate()
        for process in processes:
            try:
                async with asyncio.timeout(STOP_S):
                    self.account.died += await process.wait() != 0
            except TimeoutError:
                self.account.died += 1

    async def _check(self) -> None:
        """An entry's id is the server's clock, which is ours too: early is what the rounding of two times leaves."""
        async with Redis(port=self.server.port) as client:
            for queue in self.queues:
                seen: Counter[str] = Counter()
                for entry_id, fields in await client.xrange(CHASQUIMQ.keys_of(queue).stream):
                    job_id = msgpack.unpackb(fields[b"d"])[0]
                    seen[job_id] += 1
                    late_ms = int(entry_id.split(b"-")[0]) - self.asked[queue].get(job_id, 0)
                    self.account.early += late_ms < -1
                    self.account.latest_ms = max(self.account.latest_ms, late_ms)
                self.account.jobs += len(self.acknowledged[queue])
                self.account.lost += len(self.acknowledged[queue] - seen.keys())
                self.account.duplicated += sum(n - 1 for n in seen.values())
                self.account.unaccounted += len(seen.keys() - self.asked[queue].keys())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queues", type=int, default=50)
    parser.add_argument("--promoters", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    account = asyncio.run(Soak(args.queues, args.promoters, args.seed).run(args.seconds))
    print(account)
    sys.exit(not account.good)
