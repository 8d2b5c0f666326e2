"""Each framework's own mover of due jobs against ours, on the same jobs in one run.

    python -m benchmarks.layouts [--framework rq,docket] [--quick] [--write]

For each framework twice, on a fresh server: with two of its own movers at their defaults, and with two promoters while
its own are off (or at their slowest). Both times two real workers run the jobs, and a start is noted by the job
itself. Lateness is from the due time to the start. Where scores are whole seconds, due times are too, and our layout
gets `early=true`, which is what the framework's own mover does. Then the mover that leads is killed (-9) amid further
jobs.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from benchmarks.report import Report, Section
from benchmarks.servers import valkey
from tests.frameworks import ELSEWHERE, IN_PLACE, OUTWARD, Framework, started

FRAMEWORKS = ELSEWHERE | IN_PLACE | OUTWARD
QUEUE = "bench"
SETTLE_S = 1.0  # for what should not come any more
PATIENCE_S = 90.0  # after the last due time; taskiq's scheduler looks for new schedules once a minute
PATIENCE_KILLED_S = 30.0  # the same, once a mover was killed
COLUMNS = ("", "version", "moved by", "late p50, ms", "p99", "max", "starts a job", "idle commands/s")
KILLED = ("", "moved by", "starts a job", "not run in time", "of these lost", "late at most, ms")


@dataclass(frozen=True)
class Scale:
    jobs: int = 60
    seconds: float = 8.0
    kill_jobs: int = 400
    kill_seconds: float = 4.0
    idle_seconds: float = 4.0

    @classmethod
    def of(cls, *, quick: bool) -> Scale:
        return cls(30, 3.0, 100, 2.0, 2.0) if quick else cls()


@dataclass
class Seen:
    """Of one batch of jobs."""

    late_ms: list[float]
    starts: int
    jobs: int
    missing: int = 0  # not started in time
    lost: int = 0  # of these, how many no key of the server holds any more

    def at(self, part: float) -> float | None:
        """Return this quantile of the lateness, in milliseconds; None if no job started."""
        return self.late_ms[min(int(len(self.late_ms) * part), len(self.late_ms) - 1)] if self.late_ms else None


@dataclass
class Bench:
    """One framework, with one kind of mover."""

    framework: Framework
    url: str
    ours: bool
    out: Path
    movers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Two workers and two movers; the first mover leads, where one does."""
        try:
            for number in range(2):
                if self.ours or self.framework.own_process:
                    self.workers.append(self.framework.start("work", self.url, QUEUE, self.out))
                if self.ours or not (number and self.framework.single):
                    self.movers.append(self._mover(number))
                time.sleep(2)
            yield
        finally:
            for process in (*self.movers, *self.workers):
                process.terminate()
            for process in (*self.movers, *self.workers):
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _mover(self, number: int) -> subprocess.Popen[bytes]:
        if not self.ours:
            if self.framework.own_process:
                return self.framework.start("schedule", self.url, QUEUE)
            return self.framework.start("work-own", self.url, QUEUE, self.out)
        command = [sys.executable, "-m", "promoter_core", "run", "--url", self.url, "--layout", self.framework.layout]
        command += ["--queue", self.framework.promoted or QUEUE, "--holder-id", f"promoter-{number}"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def idle(self, seconds: float) -> float:
        """Commands a second of workers and movers together, while nothing is due."""
        return _commands(self.url, seconds) / seconds

    def batch(
        self,
        name: str,
        jobs: int,
        seconds: float,
        during: Callable[[], object] = lambda: None,
        patience_s: float = PATIENCE_S,
    ) -> Seen:
        """Jobs due over `seconds`; `during` is called half way."""
        due_in = {f"{name}-{i}": seconds * i / jobs for i in range(jobs)}
        if self.framework.whole:
            due_in = {id: float(int(after)) for id, after in due_in.items()}
        some = [{"id": id, "in": after, "value": 0} for id, after in due_in.items()]
        first = self.framework.produce(self.url, QUEUE, some, ours=self.ours)
        if time.time() > first:
            raise RuntimeError(f"{self.framework.name}: scheduling {jobs} jobs took too long")
        due = {id: first + after for id, after in due_in.items()}
        time.sleep(max(first + seconds / 2 - time.time(), 0))
        during()
        starts: list[tuple[str, float]] = []
        until = max(due.values()) + patience_s
        while time.time() < until and len({id for id, _ in starts}) < jobs:
            time.sleep(0.05)
            starts = self._starts(due)
        time.sleep(SETTLE_S)
        starts = self._starts(due)
        times = Counter(id for id, _ in starts)
        missing = due.keys() - times.keys()
        with Redis.from_url(self.url) as client:
            held = _held(client, missing) if missing else set()
        firsts: dict[str, float] = {}
        for id, at in starts:
            firsts[id] = min(at, firsts.get(id, at))
        late = sorted((at - due[id]) * 1000 for id, at in firsts.items())
        return Seen(late, times.total(), jobs, missing=len(missing), lost=len(missing - held))

    def _starts(self, due: dict[str, float]) -> list[tuple[str, float]]:
        return [(str(line["id"]), float(str(line["at"]))) for line in started(self.out) if line["id"] in due]

    def kill(self) -> None:
        self.movers[0].kill()
        self.movers[0].wait()
        if len(self.movers) == 1:  # whoever runs it starts another one
            self.movers.append(self._mover(0))


def _held(client: Redis, ids: set[str]) -> set[str]:
    """Which of these are anywhere in a set, a list or a stream, or where Celery and taskiq keep what is not due."""
    found = set[str]()
    for key in client.scan_iter():
        match client.type(key):
            case b"zset":
                values: object = client.zrange(key, 0, -1)
            case b"list":
                values = client.lrange(key, 0, -1)
            case b"stream":
                values = client.xrange(key)
            case b"hash" if key.startswith(b"unacked"):
                values = client.hvals(key)
            case b"string" if key.startswith(b"schedule:"):
                values = client.get(key)
            case _:
                continue
        text = repr(values)
        found |= {id for id in ids if re.search(rf"{id}\b", text)}
    return found


def _commands(url: str, seconds: float) -> int:
    """How many commands clients send in this time; those of scripts are not counted."""
    at = urlsplit(url)
    seen, until = b"", time.monotonic() + seconds
    with socket.create_connection((at.hostname, at.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        while (left := until - time.monotonic()) > 0:
            monitor.settimeout(left)
            with suppress(TimeoutError):
                seen += monitor.recv(65536)
    return sum(b" lua]" not in line for line in seen.splitlines()[1:])


def measure(framework: Framework, scale: Scale, *, ours: bool) -> tuple[Seen, Seen, float]:
    """The usual run, the one with a mover killed, and the idle commands a second."""
    with valkey() as url, tempfile.TemporaryDirectory() as folder:
        bench = Bench(framework, f"{url}/0", ours, Path(folder) / "out")
        with bench.running():
            time.sleep(SETTLE_S * 4)
            idle = bench.idle(scale.idle_seconds)
            usual = bench.batch("usual", scale.jobs, scale.seconds)
            killed = bench.batch("killed", scale.kill_jobs, scale.kill_seconds, bench.kill, PATIENCE_KILLED_S)
    return usual, killed, idle


def compare(report: Report, scale: Scale, names: list[str], say: Callable[[str], object] = lambda _: None) -> None:
    """Adds two tables and a chart to the report."""
    note = f"{scale.jobs} jobs due over {scale.seconds:g} s, two workers and two movers each."
    usual = report.section("Moved by their own and by ours", *COLUMNS, note=note)
    note = (
        f"{scale.kill_jobs} jobs due over {scale.kill_seconds:g} s. In time: by {PATIENCE_KILLED_S:g} s after the last "
        "due time. Where a framework's own mover is part of its workers, a worker is killed, with the jobs that it has."
    )
    killed = report.section("The same when the mover that leads is killed (-9)", *KILLED, note=note)
    bars: dict[str, float] = {}
    for name in names:
        framework = FRAMEWORKS[name]
        if not framework.version:
            say(f"{name}: {framework.package} is not installed")
            continue
        for ours in (False, True):
            by = "ours" if ours else "its own"
            try:
                seen, after, idle = measure(framework, scale, ours=ours)
            except RuntimeError as error:  # the others go on
                usual.add(name, framework.version, by, f"failed: {error}", "", "", "", "")
                say(_row(usual))
                continue
            row = (name, framework.version, by, *(_or_none(seen.at(part)) for part in (0.5, 0.99, 1.0)))
            usual.add(*row, f"{seen.starts / seen.jobs:.2f}", idle)
            rest = (f"{after.starts / after.jobs:.2f}", after.missing, after.lost, _or_none(after.at(1.0)))
            killed.add(name, by, *rest)
            if (p99 := seen.at(0.99)) is not None:
                bars[f"{name}, {by}"] = max(p99, 1.0)
            say(f"{_row(usual)} | killed: {_row(killed)}")
    report.bars["layouts"] = ("Delayed jobs of other frameworks: lateness, p99, ms", bars)


def _or_none(value: float | None) -> float | str:
    return "none started" if value is None else value


def _row(section: Section) -> str:
    return ", ".join(section.rows[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", default=",".join(FRAMEWORKS), help=f"of {', '.join(FRAMEWORKS)}")
    parser.add_argument("--quick", action="store_true", help="few jobs, for a first look")
    parser.add_argument(
        "--write",
        action="store_true",
        help="keep the figures in docs/explanation/performance/; those of the other frameworks stay",
    )
    args = parser.parse_args()
    names = args.framework.split(",")
    if unknown := [name for name in names if name not in FRAMEWORKS]:
        parser.error(f"no framework {unknown[0]!r}; there are: {', '.join(FRAMEWORKS)}")
    os.environ["TZ"] = "UTC"
    where = f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores."
    report = Report(where, "Delayed jobs of other frameworks", "python -m benchmarks.layouts --write")
    compare(report, Scale.of(quick=args.quick), names, lambda line: print(line, file=sys.stderr, flush=True))
    print(report.markdown())
    if args.write:
        if set(names) != set(FRAMEWORKS):
            kept = Report.kept(name="layouts")
            kept.replace_rows(report, f"{' and '.join(names)}: a separate run, {where}")
            report = kept
        report.write(name="layouts")


if __name__ == "__main__":
    main()
