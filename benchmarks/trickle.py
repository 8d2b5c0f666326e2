"""The CPU that a tick of a steady trickle costs the promoter's process, beside another revision.

    python -m benchmarks.trickle REVISION [--rounds 50] [--only redis,uvloop] [--rate 500]

Each revision's promoter has a process and a queue, on one server. Another process schedules a job at a time, `--rate` a
second, for one of the two in turns and in random order, so the ratios hold on any machine. CPU is that of the
promoter's process, user and system, divided by its ticks. In most cases each job is due at once, so a change that the
server announces ends the wait of each tick; in those with `ahead` the jobs of a round lie in the set before it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROUND_S = 0.4
CASES = ("redis", "uvloop", "glide", "glide-uvloop", "redis-ahead", "uvloop-ahead")


class Ticks:
    """A metrics sink that counts them."""

    wants_jobs = False
    count = jobs = 0

    def on_tick(self, queue: str, tick: Any) -> None:
        self.count += 1
        self.jobs += tick.promotion.promoted

    def on_lock(self, queue: str, outcome: object) -> None: ...
    def on_error(self, queue: str, error: object) -> None: ...
    def on_forget(self, queue: str) -> None: ...


async def promote(url: str, queue: str) -> None:
    """For each line of the standard input, a line with the CPU time so far and the ticks."""
    from promoter_core import Promoter, connect

    ticks = Ticks()

    def answer() -> None:
        if not os.read(0, 100):
            promoter.stop()
        print(time.process_time(), ticks.count, ticks.jobs, flush=True)

    async with connect(url) as backend:
        promoter = Promoter(backend, queue, metrics=[ticks])
        asyncio.get_running_loop().add_reader(0, answer)
        await promoter.run()


class Child:
    """The promoter of one revision."""

    def __init__(self, root: Path, url: str, queue: str, *, uvloop: bool) -> None:
        path = os.pathsep.join(str(root / part) for part in ("", "backends", "plugins"))
        command = [sys.executable, __file__, url, queue, *(["uvloop"] if uvloop else [])]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, cwd="/", **pipes)

    def read(self) -> tuple[float, int, int]:
        """CPU time in seconds, ticks and jobs."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("\n")
        stdin.flush()
        cpu_s, ticks, jobs = stdout.readline().split()
        return float(cpu_s), int(ticks), int(jobs)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def feed(client: Any, queue: str, rate: float, *, ahead: bool) -> None:
    """Schedule the jobs of a round, and wait until they have been due."""
    from promoter_core.spi import CHASQUIMQ, pack_envelope

    delayed, period_s, begin_s = CHASQUIMQ.keys_of(queue).delayed, 1 / rate, time.time()

    def member(i: int) -> bytes:
        return CHASQUIMQ.encode_member("", pack_envelope(f"{begin_s}-{i}", b"x" * 80, 1, 0, index=False))

    numbers = range(int(ROUND_S * rate))
    if ahead:
        client.zadd(delayed, {member(i): int((begin_s + 0.1 + i * period_s) * 1000) for i in numbers})
        time.sleep(ROUND_S + 0.2)
        return
    for i in numbers:
        time.sleep(max(begin_s + i * period_s - time.time(), 0))
        one = client.pipeline(transaction=False).zadd(delayed, {member(i): int(time.time() * 1000)})
        one.publish(CHASQUIMQ.keys_of(queue).wake, delayed).execute()  # GLIDE sees no plain write
    time.sleep(0.05)


def measure(then: Path, case: str, url: str, rounds: int, rate: float = 500.0) -> tuple[float, float, float]:
    """CPU microseconds a tick, then and now, and jobs a tick."""
    from redis import Redis

    kind, _, more = case.partition("-")
    uvloop, ahead = "uvloop" in case, more == "ahead"
    with Redis.from_url(url) as client:
        address = url.replace("redis://", "glide://") if kind == "glide" else url
        children = {
            name: Child(root, address, f"{case}-{name}", uvloop=uvloop)
            for name, root in (("then", then), ("now", ROOT))
        }
        try:
            times: dict[str, list[float]] = {name: [] for name in children}
            shares: list[float] = []
            for number in range(rounds + 1):
                for name in random.sample(list(children), len(children)):
                    before = children[name].read()
                    feed(client, f"{case}-{name}", rate, ahead=ahead)
                    after = children[name].read()
                    if number:  # the first is a rehearsal
                        times[name].append((after[0] - before[0]) / (after[1] - before[1]) * 1e6)
                        shares.append((after[2] - before[2]) / (after[1] - before[1]))
        finally:
            for child in children.values():
                child.close()
    return statistics.median(times["then"]), statistics.median(times["now"]), statistics.mean(shares)


def main() -> None:
    from benchmarks.servers import valkey
    from benchmarks.startup import tree

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--only", default="", help="cases, with commas between them")
    args = parser.parse_args()
    with valkey() as url, tree(args.revision) as then:
        for case in args.only.split(",") if args.only else CASES:
            then_us, now_us, jobs = measure(then, case, url, args.rounds, args.rate)
            print(
                f"{case:<14} then {then_us:>4.0f} us a tick, now {now_us:>4.0f} us, ratio {now_us / then_us:.3f}, "
                f"jobs a tick {jobs:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    if __package__:
        main()
    else:  # as a child, from the tree of a revision
        if sys.argv[3:]:
            import uvloop

            uvloop.run(promote(*sys.argv[1:3]))
        else:
            asyncio.run(promote(*sys.argv[1:3]))
