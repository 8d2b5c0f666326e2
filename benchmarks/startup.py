"""How soon the command line answers today, beside an interpreter that does nothing, or beside another revision.

    python -m benchmarks.startup [REVISION] [--rounds 20] [--only version,run]

Both run in turns and in random order, each from its own tree, so the ratios hold on any machine. CPU is that of the
process, user and system, from its start to its end; `promoter run` is killed as soon as it says that it leads. Without
REVISION, the exit status is 1 when `promoter --version` or a completion takes more than the aim.
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
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.servers import valkey

ROOT = Path(__file__).parents[1]
START = "import sys; sys.argv[0] = 'promoter'; from promoter_core.cli import main; sys.exit(main())"
LEADS = b"leads now"
NOTHING = "pass"
COMPLETE = {"_PROMOTER_COMPLETE": "complete_bash"}
IN_ZSH = {"_PROMOTER_COMPLETE": "complete_zsh"}
IN_FISH = {"_PROMOTER_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
# `promoter --version` and completion. The aim is 80 ms of CPU where an interpreter alone takes 16.
QUICK = ("version", "source", "commands", "options", "zsh-commands", "zsh-options", "fish-commands", "fish-options")
QUICK_RATIO = 5.0

Case = tuple[list[str], dict[str, str]]  # arguments, and what is added to the environment


def cases(url: str) -> dict[str, Case]:
    return {
        "version": (["--version"], {}),
        "source": ([], {"_PROMOTER_COMPLETE": "source_bash"}),
        "commands": ([], COMPLETE | {"COMP_WORDS": "promoter ", "COMP_CWORD": "1"}),
        "options": ([], COMPLETE | {"COMP_WORDS": "promoter run --", "COMP_CWORD": "2"}),
        "zsh-commands": ([], IN_ZSH | {"_TYPER_COMPLETE_ARGS": "promoter "}),
        "zsh-options": ([], IN_ZSH | {"_TYPER_COMPLETE_ARGS": "promoter run --"}),
        "fish-commands": ([], IN_FISH | {"_TYPER_COMPLETE_ARGS": "promoter "}),
        "fish-options": ([], IN_FISH | {"_TYPER_COMPLETE_ARGS": "promoter run --"}),
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


def measure(root: Path, case: Case, code: str = START) -> tuple[float, float]:
    """Milliseconds of CPU, and of the clock."""
    arguments, more = case
    paths = os.pathsep.join(str(root / folder) for folder in ("", "backends", "plugins"))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
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
    return in_turns({"then": (then, START), "now": (ROOT, START)}, cases(url)[name], rounds)


def beside_nothing(url: str, name: str, rounds: int) -> tuple[float, float, float, float]:
    """Milliseconds of CPU and of the clock: of `python -c pass`, and of the command."""
    return in_turns({"nothing": (ROOT, NOTHING), "now": (ROOT, START)}, cases(url)[name], rounds)


def in_turns(sides: dict[str, tuple[Path, str]], case: Case, rounds: int) -> tuple[float, float, float, float]:
    """Medians of both sides, each a tree and the code that runs in it."""
    arguments, more = case
    found: dict[str, list[tuple[float, float]]] = {which: [] for which in sides}
    for number in range(rounds + 1):
        for which in random.sample(list(sides), 2):
            # A queue for each, so that no lock of one that was killed is in the way.
            own = [f"{which}-{number}" if word == "startup" else word for word in arguments]
            root, code = sides[which]
            figures = measure(root, (own, more), code)
            if number:  # the first round compiles
                found[which].append(figures)
    (cpu, took), (cpu_now, took_now) = (map(statistics.median, zip(*found[which], strict=True)) for which in sides)
    return cpu, took, cpu_now, took_now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default=",".join(cases("")))
    args = parser.parse_args()
    beside = "then" if args.revision else "pass"
    missed = []
    with valkey() as url, tree(args.revision) if args.revision else nullcontext() as then:
        print(f"{'':<14}{f'CPU {beside}':>10}{'now':>8}{'ratio':>8}{f'ms {beside}':>11}{'now':>8}{'ratio':>8}")
        for name in args.only.split(","):
            found = compare(then, url, name, args.rounds) if then else beside_nothing(url, name, args.rounds)
            cpu, took, cpu_now, took_now = found
            print(
                f"{name:<14}{cpu:>10.1f}{cpu_now:>8.1f}{cpu_now / cpu:>8.3f}"
                f"{took:>11.1f}{took_now:>8.1f}{took_now / took:>8.3f}",
                flush=True,
            )
            if then is None and name in QUICK and cpu_now > QUICK_RATIO * cpu:
                missed.append(name)
    if missed:
        sys.exit(f"more than {QUICK_RATIO:g} times the CPU of `python -c pass`: {', '.join(missed)}")


if __name__ == "__main__":
    main()
