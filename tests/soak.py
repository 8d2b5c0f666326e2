"""Many queues, several promoter processes, and faults all the time; then an account of every job by its id.

    python -m tests.soak [--seconds 60] [--queues 50] [--promoters 3] [--seed 1]

Faults, one every second or two, at random: a promoter killed (-9) and started again, a promoter suspended for longer
than its lease, the server killed and restarted (append-only file, always), all connections killed, scripts flushed,
memory full.
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
from dataclasses import dataclass, field

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from promoter_core import DelayedQueue, Job, TransientError, connect
from promoter_resp.keys import keys_of
from tests.servers import Server

LEASE_MS = 1_000
JOBS_A_SECOND = 20  # and queue


@dataclass
class Account:
    """What became of the jobs."""

    jobs: int = 0  # acknowledged to the producer
    lost: int = 0
    duplicated: int = 0
    early: int = 0
    unaccounted: int = 0  # in a stream though nobody asked for it
    latest_ms: int = 0  # the longest that a job was promoted after it was due
    faults: Counter[str] = field(default_factory=Counter)
    died: int = 0  # promoters that ended by themselves

    @property
    def good(self) -> bool:
        return self.jobs > 0 and not (self.lost or self.duplicated or self.early or self.unaccounted or self.died)

    def __str__(self) -> str:
        faults = ", ".join(f"{n} × {what}" for what, n in sorted(self.faults.items()))
        return (
            f"jobs {self.jobs:,}, lost {self.lost}, duplicated {self.duplicated}, early {self.early}, "
            f"promoters that ended by themselves {self.died}, latest {self.latest_ms:,} ms\nfaults: {faults}"
        )


class Soak:
    def __init__(self, queues: int, promoters: int, seed: int) -> None:
        self.queues = [f"soak-{i}" for i in range(queues)]
        self.chance = random.Random(seed)
        self.server = Server(appendonly="yes", appendfsync="always")
        self.promoters: list[asyncio.subprocess.Process | None] = [None] * promoters
        self.due: dict[str, dict[str, float]] = {queue: {} for queue in self.queues}  # acknowledged
        self.asked: dict[str, dict[str, float]] = {queue: {} for queue in self.queues}
        self.account = Account()

    async def run(self, seconds: float) -> Account:
        self.server.start()
        try:
            for i in range(len(self.promoters)):
                await self._start(i)
            until_s = time.monotonic() + seconds
            async with connect(self.server.url) as backend:
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

    async def _start(self, i: int) -> None:
        command = [sys.executable, "-m", "promoter_core", "run", "--url", self.server.url]
        command += ["--lock-ttl-ms", str(LEASE_MS), "--connect-timeout", "60"]
        for queue in self.queues:
            command += ["--queue", queue]
        self.promoters[i] = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)

    async def _produce(self, backend: object, queue: str, until_s: float) -> None:
        delayed, n = DelayedQueue(backend, queue), 0  # type: ignore[arg-type]
        while time.monotonic() < until_s:
            batch = [Job(data=i, delay=self.chance.uniform(0, 2), job_id=f"{queue}-{i}") for i in range(n, n + 4)]
            n += 4
            for job in batch:
                self.asked[queue][str(job.job_id)] = time.time() * 1000 + float(job.delay) * 1000  # type: ignore[arg-type]
            while True:
                try:
                    await delayed.schedule_many(batch)
                    break
                except TransientError:
                    await asyncio.sleep(0.1)  # safe to repeat: the jobs have ids
            for job in batch:
                self.due[queue][str(job.job_id)] = self.asked[queue][str(job.job_id)]
            await asyncio.sleep(4 / JOBS_A_SECOND)

    async def _fault(self) -> None:
        fault = self.chance.choice(["kill -9", "suspend", "server", "connections", "scripts", "memory"])
        i = self.chance.randrange(len(self.promoters))
        process = self.promoters[i]
        assert process is not None
        if process.returncode is not None:
            self.account.died += 1
            await self._start(i)
            return
        self.account.faults[fault] += 1
        with contextlib.suppress(RedisError, OSError):
            if fault == "kill -9":
                process.kill()
                await process.wait()
                await self._start(i)
            elif fault == "suspend":
                os.kill(process.pid, signal.SIGSTOP)
                await asyncio.sleep(LEASE_MS / 1000 * 1.5)
                os.kill(process.pid, signal.SIGCONT)
            elif fault == "server":
                self.server.kill()
                await asyncio.to_thread(self.server.start)
            else:
                await self._upset(fault)

    async def _upset(self, fault: str) -> None:
        async with Redis(port=self.server.port) as client:
            if fault == "connections":
                for kind in ("normal", "pubsub"):
                    await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            elif fault == "scripts":
                await client.script_flush()
            else:
                await client.config_set("maxmemory", "1")
                await asyncio.sleep(0.3)
                await client.config_set("maxmemory", "0")

    async def _drain(self, backend: object) -> None:
        async with asyncio.timeout(60):
            for queue in self.queues:
                while True:
                    with contextlib.suppress(TransientError):
                        if (await DelayedQueue(backend, queue).stats()).depth == 0:  # type: ignore[arg-type]
                            break
                    await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        for process in self.promoters:
            if process is not None and process.returncode is None:
                process.terminate()
                self.account.died += await process.wait() != 0

    async def _check(self) -> None:
        async with Redis(port=self.server.port) as client:
            for queue in self.queues:
                seen: Counter[str] = Counter()
                for entry_id, fields in await client.xrange(keys_of(queue).stream):
                    job_id = msgpack.unpackb(fields[b"d"])[0]
                    seen[job_id] += 1
                    late_ms = int(entry_id.split(b"-")[0]) - self.asked[queue].get(job_id, 0)
                    self.account.early += late_ms < -1  # the due time was asked for a moment before it was set
                    self.account.latest_ms = max(self.account.latest_ms, int(late_ms))
                self.account.jobs += len(self.due[queue])
                self.account.lost += len(self.due[queue].keys() - seen.keys())
                self.account.duplicated += sum(n - 1 for n in seen.values())
                self.account.unaccounted += len(seen.keys() - self.asked[queue].keys())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queues", type=int, default=50)
    parser.add_argument("--promoters", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    account = asyncio.run(Soak(args.queues, args.promoters, args.seed).run(args.seconds))
    print(account)
    sys.exit(not account.good)
