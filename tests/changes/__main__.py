"""Processes that change the same jobs at random beside two promoters, and an account of every id.

    python -m tests.changes [--seconds 60] [--server valkey-9.1] [--seed 1] [--faults]

Five processes schedule, reschedule, replace, cancel and run jobs: three of this library (two on redis-py, one on GLIDE)
and two of ChasquiMQ's producer. One promoter is ours, one is that in ChasquiMQ's worker; the lock goes from one to the
other every moment. With `--faults`, processes and promoters are killed (-9), connections too, and the server is
restarted. `tests/changes/history.py` tells what is possible.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from promoter_core.spi import CHASQUIMQ
from tests.changes.history import Entry, Request, Verdict, check
from tests.servers import Server

KINDS = ("redis", "redis", "glide", "chasquimq", "chasquimq")
QUEUE, LEASE_MS = "changes", 1_000
OURS, THEIRS = "ours", "theirs"  # the promoters' holder ids
HANDED_MS = 400  # for which the lock waits for the one that it is handed to
DRAIN_S = 30
LONGER_S = 60  # at most, until both promoters have led, and there were enough requests
ENOUGH = 2_000  # lines in the logs of the processes: about as many requests
SLOW_S = 0.05  # a request of ChasquiMQ's producer that takes longer may have been made twice: it repeats by itself
PROMOTER = """
import asyncio, sys
import chasquimq

async def never(job):
    raise AssertionError("a server before Redis 8.6 gives its workers no jobs")

asyncio.run(chasquimq.Worker(sys.argv[1], never, redis_url=sys.argv[2], consumer_id=sys.argv[3]).run())
"""


@dataclass
class Account:
    """What the ids have come to."""

    requests: Counter[str] = field(default_factory=Counter)  # by what was asked and answered
    unanswered: int = 0
    ids: int = 0
    promoted: int = 0
    led: Counter[str] = field(default_factory=Counter)  # how often each promoter was seen to lead
    verdicts: list[Verdict] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # keys of jobs that wait no more
    died: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    logs: Path = field(default_factory=Path)

    @property
    def good(self) -> bool:
        # ChasquiMQ's promoter deletes an index after the promotion, and may have been killed, or cut off, in between.
        left = self.left and not self.faults
        return not (self.verdicts or left or self.died) and self.promoted > 0

    def __str__(self) -> str:
        answers = ", ".join(f"{n:,} × {what}" for what, n in sorted(self.requests.items()))
        return "\n".join(
            [
                f"{self.requests.total():,} requests for {self.ids:,} ids, {self.unanswered} without an answer, "
                f"{self.promoted:,} promotions; led: {dict(self.led)}; faults: {dict(self.faults)}",
                answers,
                *(f"left: {key}" for key in self.left[:20]),
                *([] if self.good else [f"the processes' logs: {self.logs}"]),
                *self.died,
                f"{len(self.verdicts)} ids without an explanation",
                *map(str, self.verdicts[:3]),
            ]
        )


class Changes:
    def __init__(self, server: str, seed: int, *, faults: bool = False) -> None:
        self.server = Server(server, appendonly="yes", appendfsync="always") if faults else Server(server)
        self.chance = random.Random(seed)
        self.with_faults = faults
        self.account = Account()
        self.keys = CHASQUIMQ.keys_of(QUEUE)
        self._logs = Path(tempfile.mkdtemp(prefix="promoter-changes-"))
        self.account.logs = self._logs
        self._seeds = seed * 1_000
        self._theirs: set[Path] = set()  # logs of ChasquiMQ's producers

    async def run(self, seconds: float) -> Account:
        self.server.start()
        workers: dict[int, asyncio.subprocess.Process] = {}
        promoters: dict[str, asyncio.subprocess.Process] = {}
        try:
            for who in (OURS, THEIRS):
                promoters[who] = await self._start_promoter(who)
            until_s = time.time() + seconds
            for i, kind in enumerate(KINDS):
                workers[i] = await self._start_worker(kind)
            client = Redis(port=self.server.port)
            async with client:
                while time.time() < until_s or (self._too_few and time.time() < until_s + LONGER_S):
                    await asyncio.sleep(self.chance.uniform(0.02, 0.3))
                    with contextlib.suppress(RedisError, OSError):
                        await self._hand_over(client)
                    if self.with_faults and self.chance.random() < 0.1:
                        await self._fault(workers, promoters)
                (self._logs / "stop").touch()
                for i, worker in workers.items():
                    async with asyncio.timeout(DRAIN_S):
                        if await worker.wait() != 0:
                            self.account.died.append(f"{KINDS[i]} ended with {worker.returncode}")
                for who, promoter in promoters.items():
                    # A restart of the server may end that of ChasquiMQ.
                    if promoter.returncode is not None and not (who == THEIRS and self.account.faults):
                        self.account.died.append(f"the promoter {who!r} ended with {promoter.returncode}")
                await self._drain(client)
                await self._check(client)
            if self.account.good:
                shutil.rmtree(self._logs)
        finally:
            for process in (*workers.values(), *promoters.values()):
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            self.server.stop()
        return self.account

    async def _start_worker(self, kind: str) -> asyncio.subprocess.Process:
        self._seeds += 1
        log = self._logs / f"{self._seeds}.jsonl"
        if kind == "chasquimq":
            self._theirs.add(log)
        arguments = (kind, self.server.address, QUEUE, f"{self._seeds}", f"{log}")
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.changes.worker", *arguments)

    async def _start_promoter(self, who: str) -> asyncio.subprocess.Process:
        if who == THEIRS:
            command = ["-c", PROMOTER, QUEUE, self.server.url, THEIRS]
        else:
            command = ["-m", "promoter_core", "run", "--url", self.server.url, "--queue", QUEUE, "--holder-id", OURS]
            command += ["--lock-ttl-ms", f"{LEASE_MS}", "--poll-interval-ms", "100", "--connect-timeout", "60"]
        return await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )

    @property
    def _too_few(self) -> bool:
        """A busy machine needs longer for the same work."""
        if min(self.account.led[who] for who in (OURS, THEIRS)) < 3:
            return True
        return sum(log.read_bytes().count(b"\n") for log in self._logs.glob("*.jsonl")) < ENOUGH

    async def _hand_over(self, client: Redis) -> None:
        """A promoter takes a lock that has its own holder id, and gives it more time than it has here."""
        holder, left_ms = await client.get(self.keys.lock), await client.pttl(self.keys.lock)
        if holder is not None and left_ms > HANDED_MS:
            who = holder.decode()
            self.account.led[who] += 1
            await client.set(self.keys.lock, OURS if who == THEIRS else THEIRS, px=HANDED_MS)

    async def _fault(self, workers: Any, promoters: Any) -> None:
        fault = self.chance.choice(("process killed", "promoter killed", "server restarted", "connections killed"))
        self.account.faults[fault] += 1
        match fault:
            case "process killed":
                i = self.chance.randrange(len(KINDS))
                if workers[i].returncode is not None:
                    self.account.died.append(f"{KINDS[i]} ended with {workers[i].returncode}")
                else:
                    workers[i].kill()
                    await workers[i].wait()
                workers[i] = await self._start_worker(KINDS[i])
            case "promoter killed":
                who = self.chance.choice(list(promoters))
                if promoters[who].returncode is None:
                    promoters[who].kill()
                    await promoters[who].wait()
                for who, promoter in promoters.items():
                    if promoter.returncode is not None:
                        promoters[who] = await self._start_promoter(who)
            case "server restarted":
                self.server.kill()
                await asyncio.to_thread(self.server.start)
            case "connections killed":
                async with Redis(port=self.server.port) as client:
                    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _drain(self, client: Redis) -> None:
        async with asyncio.timeout(DRAIN_S):
            while await client.zcard(self.keys.delayed):
                await asyncio.sleep(0.05)
                if self.chance.random() < 0.1:
                    await self._hand_over(client)
        await asyncio.sleep(0.5)  # the cleanup of ChasquiMQ's promoter follows its promotion

    def _requests(self) -> list[Request]:
        requests: list[Request] = []
        for log in sorted(self._logs.glob("*.jsonl")):
            asked: dict[int, Request] = {}
            for line in log.read_text().splitlines():
                try:
                    values = json.loads(line)
                except ValueError:
                    continue  # the process was killed while it wrote
                n = values.pop("n")
                asked[n] = replace(asked[n], **values) if n in asked else Request(**values)
            requests += asked.values()
            if self.account.faults and log in self._theirs:
                requests += [r.once_more() for r in asked.values() if r.end is None or r.end - r.call > SLOW_S]
        return requests

    async def _check(self, client: Redis) -> None:
        entries: list[Entry] = []
        for entry_id, fields in await client.xrange(self.keys.stream):
            id, payload, _, attempt, *_ = msgpack.unpackb(fields[b"d"])
            name = fields.get(b"n", b"").decode()
            entries.append(Entry(id, int(entry_id.split(b"-")[0]), msgpack.unpackb(payload), name, attempt))
        requests = self._requests()
        for request in requests:
            said = "?" if not request.answered else request.answer
            if request.op in ("add", "mint", "mint_plain", "see"):
                said = "something" if said else "nothing"
            self.account.requests[f"{request.op} {said}"] += 1
        self.account.unanswered = sum(not request.answered for request in requests)
        ids = {entry.token: entry.id for entry in entries} | {r.handle: r.id for r in requests if r.handle}
        ids |= {request.answer[0]: request.id for request in requests if request.op == "see" and request.answer}
        # A job whose id the client made is known by what was answered, or by what others saw of it.
        known = [r if r.id else replace(r, id=r.answer or ids.get(str(r.token), "")) for r in requests]
        known = [request for request in known if request.id]
        self.account.ids = len({request.id for request in known})
        self.account.promoted = len(entries)
        self.account.verdicts = await asyncio.to_thread(check, known, entries)
        async for key in client.scan_iter(self.keys.index + b"?*", count=1_000):
            self.account.left.append(key.decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--server", default="valkey-9.1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args()
    account = asyncio.run(Changes(args.server, args.seed, faults=args.faults).run(args.seconds))
    print(account)
    sys.exit(not account.good)
