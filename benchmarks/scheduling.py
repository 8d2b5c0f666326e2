"""How fast jobs are scheduled in bulk today, with a cancel index, beside another revision and a bare pipelined loop.

    python -m benchmarks.scheduling REVISION [--rounds 15] [--jobs 20000] [--batch 1000] [--only redis-py]

All run on one server, in turns and in random order, each in a process of its tree, so the ratios hold on any machine.
They are medians of those of each round. The bare loop is redis-py's own pipeline of the same writes, whose members are
made beforehand.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.servers import valkey
from benchmarks.startup import ROOT, tree

CLIENTS = {"redis-py": "redis", "GLIDE": "glide"}
WORKER = Path(__file__).with_name("scheduling_worker.py")


@contextmanager
def worker(root: Path, url: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join(str(root / folder) for folder in ("", "backends", "plugins"))
    process = subprocess.Popen(
        [sys.executable, "-P", str(WORKER), url, *map(str, arguments)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # which ends it


def measure(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Seconds of one round, and of its CPU."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    took, used = map(float, process.stdout.readline().split())
    return took, used


@dataclass(frozen=True)
class Compared:
    """Rates in jobs a second, and medians of the ratios of each round: today's time to another's is rate over rate."""

    then: float
    now: float
    bare: float
    now_then: float
    now_bare: float
    cpu_now_then: float
    cpu_now_bare: float


def compare(then: Path, name: str, kind: str, rounds: int, jobs: int = 20_000, batch: int = 1_000) -> Compared:
    """`name` is a client's, `kind` is "made" for Jobs that are made before, "new" for Jobs that are made as well."""
    with valkey() as url, ExitStack() as stack:
        ours = url.replace("redis", CLIENTS[name])
        run = [
            stack.enter_context(worker(root, where, url, kind_, jobs, batch))
            for root, where, kind_ in ((then, ours, kind), (ROOT, ours, kind), (ROOT, url, "bare"))
        ]
        found: list[list[tuple[float, float]]] = [[], [], []]
        for number in range(rounds + 1):
            for i in random.sample(range(3), 3):
                figures = measure(run[i])
                if number:  # the first round warms up
                    found[i].append(figures)
        rates = [jobs / statistics.median(took for took, _ in figures) for figures in found]
        ratios = [
            statistics.median(a[what] / b[what] for a, b in zip(found[i], found[1], strict=True))
            for what in (0, 1)
            for i in (0, 2)
        ]
        return Compared(*rates, *ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1_000, help="jobs of one call of schedule_many")
    parser.add_argument("--only", default=",".join(CLIENTS))
    args = parser.parse_args()
    head = ("then", "now", "bare", "now/then", "now/bare", "CPU now/then", "CPU now/bare")
    print(f"{'jobs/s':<28}" + "".join(f"{title:>13}" for title in head))
    with tree(args.revision) as then:
        for name in args.only.split(","):
            for kind, what in (("made", "Jobs made before"), ("new", "Jobs made as well")):
                found = astuple(compare(then, name, kind, args.rounds, args.jobs, args.batch))
                shown = [f"{rate:>13,.0f}" for rate in found[:3]] + [f"{ratio:>13.2f}" for ratio in found[3:]]
                print(f"{f'{name}, {what}':<28}" + "".join(shown), flush=True)


if __name__ == "__main__":
    main()
