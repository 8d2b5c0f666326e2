"""Real producers, workers and schedulers of other frameworks, for the tests and the benchmark of layouts.

Each `with_NAME` is a program in the framework's own language. It runs in a process of its own:

    produce URL QUEUE JOBS    schedules the jobs of a JSON file: [{"id", "due", "value"}, …], see `jobs_of`
    work URL QUEUE OUT        works, and adds a line of JSON to OUT for each start: {"id", "at", "value"}; its own mover
                              of due jobs is off, or at its slowest where it cannot be
    work-own URL QUEUE OUT    the same with its own mover as it is by default
    schedule URL QUEUE        its own mover alone, where it is a process of its own
    move URL QUEUE            moves what is due by its own code, once
    produce-ours …            schedules with ours, where jobs are delivered to the framework and not moved in place

Those of Python are in the group dev. The others are found when they are installed: `apt-get install ruby-sidekiq
php-illuminate-queue php-redis`, `npm install --prefix tests/frameworks --no-save bee-queue`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from promoter_layouts.demos import programs
from tests import processes

FOLDER = Path(__file__).parent
RUN = {"js": "node", "rb": "ruby", "php": "php"}  # interpreters


@dataclass(frozen=True)
class Framework:
    """How to run a framework's program, and what it is called where it comes from."""

    name: str
    package: str
    module: str = ""  # what it imports, when it is a Python program
    whole: bool = False  # its scores are whole seconds
    own_process: bool = False  # its mover is a process of its own, `schedule`
    single: bool = False  # of which only one may run
    outward: bool = False  # our layout delivers to it
    promoted: str = ""  # the queue that our promoter serves, when it is not the queue of the jobs
    options: str = ""  # of the layout, so that it moves a job at its score, as the framework's own scheduler does

    @cached_property
    def version(self) -> str:
        """Of the package; "" when it is not installed."""
        if self.module:
            return metadata.version(self.package) if find_spec(self.module) else ""
        if self.name in programs.TITLE:
            return programs.version(self.name)
        prints = f"process.stdout.write(require('{self.package}/package.json').version)"
        try:
            done = processes.run(["node", "-e", prints], cwd=FOLDER, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    @property
    def program(self) -> Path:
        (path,) = (path for path in FOLDER.glob(f"with_{self.name.replace('-', '_')}.*") if path.is_file())
        return path

    @property
    def layout(self) -> str:
        return f"{self.name}:{self.options}" if self.options else self.name

    def command(self, *words: str | Path) -> list[str | Path]:
        if self.module:
            return [sys.executable, "-m", f"tests.frameworks.with_{self.name}", *words]
        return [RUN[self.program.suffix.removeprefix(".")], self.program, *words]

    def start(self, *words: str | Path, quiet: bool = True) -> subprocess.Popen[bytes]:
        out = subprocess.DEVNULL if quiet else None
        return processes.Popen(
            self.command(*words), cwd=FOLDER.parents[1], stdout=out, stderr=out, env=os.environ | {"TZ": "UTC"}
        )

    def run(self, *words: str | Path) -> str:
        """What it prints. Raises RuntimeError with what it said when it fails."""
        done = processes.run(
            self.command(*words),
            cwd=FOLDER.parents[1],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"TZ": "UTC"},
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} {words[0]}: {done.stderr[-2000:]}")
        return str(done.stdout)

    def produce(self, url: str, queue: str, jobs: Sequence[dict[str, object]], *, ours: bool = False) -> float:
        """Schedule jobs by the framework's own producer; those of an outward layout by ours when `ours` is set.

        Returns the time after which those with `in` in place of `due` are due that many seconds.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(jobs, file)
            file.flush()
            return float(self.run("produce-ours" if ours and self.outward else "produce", url, queue, file.name))


IN_PLACE = {
    framework.name: framework
    for framework in (
        Framework("rq", "rq", "rq", whole=True, own_process=True, options="early=true"),
        Framework("huey", "huey", "huey"),
        Framework("saq", "saq", "saq", whole=True, options="early=true"),
        Framework("docket", "pydocket", "docket"),
        Framework("streaq", "streaq", "streaq"),
        Framework("bee-queue", "bee-queue"),
    )
}
ELSEWHERE = {  # whose layouts are tested in tests/server/in_place
    framework.name: framework
    for framework in (
        Framework("sidekiq", "sidekiq", promoted="schedule"),
        Framework("laravel", "laravel", whole=True, options="early=true"),
    )
}
OUTWARD = {
    framework.name: framework
    for framework in (
        Framework("celery", "celery", "celery", outward=True),
        Framework("taskiq", "taskiq-redis", "taskiq_redis", own_process=True, single=True, outward=True),
    )
}


def started(out: Path) -> list[dict[str, Any]]:
    """What workers have noted so far."""
    return [json.loads(line) for line in out.read_text().split("\n")[:-1]] if out.exists() else []


class Note:
    """What the programs' jobs do."""

    def __init__(self, out: str) -> None:
        self.file = os.open(out, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, id: str, value: object) -> None:
        line = json.dumps({"id": id, "at": time.time(), "value": value})
        os.write(self.file, line.encode() + b"\n")


def jobs_of(path: str) -> list[dict[str, Any]]:
    """The jobs of a file. Those with `in` in place of `due` are due that long after a whole second soon from now."""
    jobs = json.loads(Path(path).read_text())
    start = math.ceil(time.time() + 1.5 + len(jobs) / 100)
    for job in jobs:
        job.setdefault("due", start + job.get("in", 0))
    print(start)
    return list(jobs)
