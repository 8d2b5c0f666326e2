"""Many queues in few processes: what idle queues cost, how leadership is spread and how fast it moves.

    python -m benchmarks.fleet [--idle 1000] [--queues 300] [--processes 3]
    python -m benchmarks.fleet --pauses [--queues 5000] [--stacks]
    python -m benchmarks.fleet --simulate [--processes 100] [--queues 10000]

Idle: one `promoter run --queue 'idle-*'` on queues with one far job each; CPU seconds of it and of the server.
Spread: processes on the same queues, of which one is stopped and one killed; the gap is the longest time for which a
queue's lock has had no holder, looked at all the time. Every job scheduled in between is counted at the end.
Pauses: the longest turn of the event loop of one process with thousands of queues, in CPU time (see turns.py), and how
many locks are free at one look, while others come and go, its pages are read, it sweeps and its connections are cut.
Simulated: the same on the memory backend and the virtual clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks import turns
from benchmarks.servers import valkey
from benchmarks.turns import Turns
from promoter_core import DelayedQueue, Job, PromoterFleet, PromoterSettings, connect
from promoter_core.engine.machine import State
from promoter_core.runner.fleet.discovery import REST
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import VirtualClock
from promoter_core.web import serving
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.servers import free_port

LEASE_MS = 5_000
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, its own and the system's on its behalf."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def start(url: str, queue: str, holder: str, *more: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "promoter_core", "run", "--url", url, "--holder-id", holder]
    for pattern in (queue, *more):
        command += ["--queue", pattern]
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)


async def holders(client: Redis, queues: list[str]) -> list[bytes | None]:
    return list(await client.mget([CHASQUIMQ.keys_of(q).lock for q in queues]))


async def led(client: Redis, queues: list[str]) -> None:
    while None in await holders(client, queues):
        await asyncio.sleep(0.05)


async def idle(url: str, client: Redis, queues: int, seconds: float) -> tuple[float, float, float]:
    """Percent of a core that an idle fleet takes, and the server for it; commands a second."""
    names = [f"idle-{i}" for i in range(queues)]
    async with connect(url) as backend:
        for name in names:
            await DelayedQueue(backend, name).schedule(1, delay=86_400)
    process = await start(url, "idle-*", "idle")
    await led(client, names)
    await asyncio.sleep(3)
    server = (await client.info("server"))["process_id"]
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    ours, theirs = cpu_s(process.pid), cpu_s(server)
    await asyncio.sleep(seconds)
    ours, theirs = cpu_s(process.pid) - ours, cpu_s(server) - theirs
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] - calls
    process.terminate()
    await process.wait()
    return 100 * ours / seconds, 100 * theirs / seconds, calls / seconds


async def spread(url: str, client: Redis, queues: int, processes: int) -> None:
    names = [f"mail-{i}" for i in range(queues)]
    jobs = 0
    async with connect(url) as backend:
        for name in names:
            await DelayedQueue(backend, name).schedule(0, delay=86_400)
        running = [await start(url, "mail-*", f"p{i}") for i in range(processes)]
        await led(client, names)
        await asyncio.sleep(2)
        shares = Counter(await holders(client, names))
        print(f"{processes} processes, {queues} queues: shares {sorted(shares.values())}")
        for what, sign, victim in (("stopped", signal.SIGTERM, 0), ("killed", signal.SIGKILL, 1)):
            jobs += 10 * queues
            for name in names:
                await DelayedQueue(backend, name).schedule_many([Job(data=i, delay=0.5 + i * 0.7) for i in range(10)])
            dead = f"p{victim}".encode()
            longest, led_by_dead = 0.0, 0.0
            since: dict[str, float] = {}
            began = time.perf_counter()
            running[victim].send_signal(sign)
            while time.perf_counter() - began < LEASE_MS / 1000 + 3:
                now, found = time.perf_counter(), await holders(client, names)
                for name, holder in zip(names, found, strict=True):
                    if holder is None:
                        longest = max(longest, now - since.setdefault(name, now))
                    else:
                        since.pop(name, None)
                if dead in found:
                    led_by_dead = now - began
                await asyncio.sleep(0.001)
            print(
                f"  one {what}: its locks were gone after {led_by_dead * 1000:.0f} ms; "
                f"no queue was without a holder for longer than {longest * 1000:.0f} ms"
            )
        await asyncio.sleep(5)
        promoted = sum([(await backend.stats(name)).stream_len for name in names])
        print(f"  jobs due meanwhile: {jobs}, promoted: {promoted}")
        for process in running:
            if process.returncode is None:
                process.terminate()
            await process.wait()


FREE = """local free = 0
for i = 0, ARGV[1] - 1 do
  if redis.call('EXISTS', '{chasqui:many-' .. i .. '}:promoter:lock') == 0 then free = free + 1 end
end
return free"""
FILL = """for i = ARGV[1], ARGV[1] + 9999 do redis.call('SET', '{chasqui:other}:dlid:' .. i, 1) end"""


class Turning:
    """How long the turns of the event loop are, and how many locks are free."""

    def __init__(self, client: Redis, queues: int, *, stacks: bool) -> None:
        self.loop = cast("Turns", asyncio.get_running_loop())
        self.pause_s = 0.0
        self.free = 0
        self._client = client
        self._queues = queues
        if stacks:
            self.loop.watch()

    async def turn(self) -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(0.001)
            self.pause_s = max(self.pause_s, time.perf_counter() - began_s - 0.001)

    async def look(self) -> None:
        while True:
            with contextlib.suppress(RedisError):  # this connection is cut, too
                free = await self._client.eval(FREE, 0, self._queues)
                self.free = max(self.free, free)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        self.loop.reset()
        self.pause_s, self.free, began_s, cpu_s = 0.0, 0, time.perf_counter(), time.process_time()
        yield
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        loop = self.loop
        turn, process, collector = (1000 * x for x in (loop.longest_s, loop.process_s, loop.collected_s))
        print(
            f"  {name:<34} {took_s:5.1f} s, CPU {100 * cpu_s / took_s:4.1f}%; longest turn {turn:4.1f} ms of CPU "
            f"(collector {collector:4.1f}), {process:4.1f} with other threads, {1000 * self.pause_s:4.0f} by clock; "
            f"{self.free} locks free at one look",
            flush=True,
        )
        for stack, seen in sorted(loop.stacks.items(), key=lambda x: -x[1])[:6]:
            print(f"      {seen:3} × {stack}", flush=True)


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.05)


async def pauses(url: str, client: Redis, queues: int, keys: int = 200_000, *, stacks: bool = False) -> None:
    names = [f"many-{i}" for i in range(queues)]
    async with connect(url) as backend:
        for name in names:
            await DelayedQueue(backend, name).schedule(1, delay=86_400)
    for first in range(0, keys, 10_000):
        await client.eval(FILL, 0, first)
    settings = PromoterSettings(lock_ttl_ms=LEASE_MS)
    turning, port = Turning(client, queues, stacks=stacks), free_port()
    watching = [asyncio.create_task(watcher) for watcher in (turning.turn(), turning.look(), turning.loop.tick())]
    print(f"one process, {queues} queues, {keys} other keys, a lease of {LEASE_MS / 1000:g} s")

    def get(path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return len(answer.read())

    async with connect(url) as backend:
        fleet = PromoterFleet(
            backend, ["many-*", "none-*"], settings, holder_id="us", metrics=["prometheus"], discover_s=3_600
        )

        def led() -> int:
            return sum(served.machine.state is State.LEADER for served in fleet._pool.queues.values())

        async with serving(str(port), [fleet]):
            gc.freeze()  # as `promoter run` does
            task = asyncio.create_task(fleet.run())
            async with turning.phase("starts, until it leads all"):
                await until(lambda: led() == queues)
            async with turning.phase("idle, for two leases"):
                await asyncio.sleep(2 * LEASE_MS / 1000)
            async with turning.phase("sweeps"):
                await fleet._discovery._sweep(REST)
            async with turning.phase("/metrics"):
                size = await asyncio.to_thread(get, "/metrics")
            async with turning.phase(f"/status, /readyz ({size >> 10} kB before)"):
                await asyncio.to_thread(get, "/status")
                await asyncio.to_thread(get, "/readyz")
            async with turning.phase("all connections are cut"):
                for kind in ("normal", "pubsub"):
                    await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                await asyncio.sleep(LEASE_MS / 1000)
            other = await start(url, "many-*", "other", "none-*")
            async with turning.phase("another comes, until it has half"):
                await until(lambda: led() < 0.55 * queues)
                await asyncio.sleep(1)
            async with turning.phase("that is killed, until we lead all"):
                other.kill()
                await until(lambda: led() == queues)
            async with turning.phase("stops"):
                fleet.stop()
                await task
            await other.wait()
    for watcher in watching:
        watcher.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def simulate(queues: int, processes: int) -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    names = [f"q{i}" for i in range(queues)]
    backends, fleets, tasks, settings = [], [], [], PromoterSettings(lock_ttl_ms=LEASE_MS)
    began = time.perf_counter()
    for i in range(processes):
        backend = MemoryBackend(store)
        await backend.open()
        fleet = PromoterFleet(backend, names, settings, holder_id=f"p{i}", clock=clock)
        backends.append(backend)
        fleets.append(fleet)
        tasks.append(asyncio.create_task(fleet.run()))
    await clock.sleep(20)
    print(
        f"simulated {processes} processes, {queues} queues; started in {time.perf_counter() - began:.0f} s of real time"
    )

    def shares() -> Counter[str | None]:
        now_ms = clock.time_ms()
        return Counter(store[name].holder(now_ms) for name in names)

    async def gap(seconds: float) -> int:
        longest, current = 0, Counter[str]()
        for _ in range(int(seconds * 10)):
            now_ms = clock.time_ms()
            for name in names:
                current[name] = 0 if store[name].holder(now_ms) else current[name] + 100
            longest = max(longest, max(current.values()))
            await clock.sleep(0.1)
        return longest

    led = shares()
    print(f"  shares from {min(led.values())} to {max(led.values())}, without a leader: {led[None]}")
    fleets[0].stop()
    print(f"  one stops: no queue without a leader for longer than {await gap(2)} ms")
    await backends[1].close()
    print(f"  one dies: no queue without a leader for longer than {await gap(LEASE_MS / 1000 + 2)} ms")
    led = shares()
    print(f"  then {len(led)} lead from {min(led.values())} to {max(led.values())}, without a leader: {led[None]}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(f"  {clock.monotonic():.0f} s of virtual time in {time.perf_counter() - began:.0f} s")


async def main(queues: int, processes: int, idle_queues: int, seconds: float) -> None:
    with valkey() as url:
        client = Redis.from_url(url)
        ours, theirs, calls = await idle(url, client, idle_queues, seconds)
        print(f"{idle_queues} idle queues: promoter {ours:.2f}% of a core, server {theirs:.2f}%, {calls:.1f} calls/s")
        await client.flushall()
        await spread(url, client, queues, processes)
        await client.flushall()
        await pauses(url, client, max(queues, 5_000))
        await client.aclose()


async def only_pauses(queues: int, *, stacks: bool) -> None:
    with valkey() as url:
        client = Redis.from_url(url)
        await pauses(url, client, queues, stacks=stacks)
        await client.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--queues", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--pauses", action="store_true")
    parser.add_argument("--stacks", action="store_true", help="show where turns take long")
    args = parser.parse_args()
    if args.simulate:
        asyncio.run(simulate(args.queues or 10_000, args.processes or 100))
    elif args.pauses:
        turns.run(only_pauses(args.queues or 5_000, stacks=args.stacks))
    else:
        turns.run(main(args.queues or 300, args.processes or 3, args.idle, args.seconds))
