"""How soon the command line answers today, beside another revision.

    python -m benchmarks.startup REVISION [--rounds 20] [--only version,run]

Both run in turns and in random order, each from its own tree, so the ratios hold on any machine. CPU is that of the
process, user and system, from its start to its end; `promoter run` is killed as soon as it says that it leads.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import valkey

ROOT = Path(__file__).parents[1]
START = "import sys; sys.argv[0] = 'promoter'; from promoter_core.cli import main; sys.exit(main())"
LEADS = b"leads now"
COMPLETE = {"_PROMOTER_COMPLETE": "complete_bash"}

Case = tuple[list[str], dict[str, str]]  # arguments, and what is added to the environment


def cases(url: str) -> dict[str, Case]:
    return {
        "version": (["--version"], {}),
        "source": ([], {"_PROMOTER_COMPLETE": "source_bash"}),
        "commands": ([], COMPLETE | {"COMP_WORDS": "promoter ", "COMP_CWORD": "1"}),
        "options": ([], COMPLETE | {"COMP_WORDS": "promoter run --", "COMP_CWORD": "2"}),
        "help": (["--help"], {}),
        "run-help": (["run", "--help"], {}),
        "schedule": (["schedule", "{}", "--delay", "1h", "--url", url, "--queue", "startup"], {}),
        "run": (["run", "--url", url, "--queue", "startup"], {}),
        "embedded": (["run", "--url", "embedded://", "--queue", "startup"], {}),
    }


@contextmanager
def tree(revision: str) -> Iterator[Path]:
    """The files of a revision, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "then"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(at), revision], check=True)
        try:
            yield at
        finally:
            subprocess.run([*git, "remove", "--force", str(at)], check=True)


def measure(root: Path, case: Case) -> tuple[float, float]:
    """Milliseconds of CPU, and of the clock."""
    arguments, more = case
    paths = os.pathsep.join(str(root / folder) for folder in ("", "backends", "plugins"))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""} | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""
    while line := process.stderr.readline():
        said += line
        if LEADS in line:
            process.kill()  # the lock ends by itself, or with its server
            break
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took_ms = (time.perf_counter() - began) * 1000
    process.stderr.close()
    assert LEADS in said or process.returncode == 0, said.decode()
    return (used.ru_utime + used.ru_stime) * 1000, took_ms


def compare(then: Path, url: str, name: str, rounds: int) -> tuple[float, float, float, float]:
    """Milliseconds of CPU and of the clock: then, and now."""
    arguments, more = cases(url)[name]
    trees = {"then": then, "now": ROOT}
    found: dict[str, list[tuple[float, float]]] = {which: [] for which in trees}
    for number in range(rounds + 1):
        for which in random.sample(list(trees), 2):
            # A queue for each, so that no lock of one that was killed is in the way.
            own = [f"{which}-{number}" if word == "startup" else word for word in arguments]
            figures = measure(trees[which], (own, more))
            if number:  # the first round compiles
                found[which].append(figures)
    (cpu, took), (cpu_now, took_now) = (map(statistics.median, zip(*found[which], strict=True)) for which in trees)
    return cpu, took, cpu_now, took_now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default=",".join(cases("")))
    args = parser.parse_args()
    with valkey() as url, tree(args.revision) as then:
        print(f"{'':<10}{'CPU then':>10}{'now':>8}{'ratio':>8}{'ms then':>11}{'now':>8}{'ratio':>8}")
        for name in args.only.split(","):
            cpu, took, cpu_now, took_now = compare(then, url, name, args.rounds)
            print(
                f"{name:<10}{cpu:>10.1f}{cpu_now:>8.1f}{cpu_now / cpu:>8.3f}"
                f"{took:>11.1f}{took_now:>8.1f}{took_now / took:>8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
