"""Runs the kit on many mutants in little time: pytest collects once, and forks a process for each of them.

A mutant runs the tests that call the function that was mutated, and stops at the first that fails. The one that killed
it in the last run of all comes first, then those that have killed mutants of the same function, then the quickest.
Where the kit waits for something that never happens, or works on without an end, the mutant is killed as well.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
from _pytest.runner import runtestprotocol

from tests.contract.mutants.generated import kit, loading
from tests.contract.mutants.generated.mutate import Mutation

BUSY_S = 3  # of processor time for one test
IDLE_S = 0.5  # nothing is waited for so long in real time
STATED = ("AssertionError: ", "promoter_core.spi.errors.", "it ")  # how a message begins that says what was broken
ROOT = Path(__file__).parents[4]


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `killer` is a test, and None when it survived."""

    mutation: Mutation | None  # none: of the backend as it is
    killer: str | None
    how: str = ""


class Forks:
    """A pytest plugin that runs the collected tests once for each mutant, instead of once."""

    def __init__(self, mutants: Iterable[Mutation], log: TextIO | None) -> None:
        self.mutants = mutants
        self.log = log
        self.verdicts: list[Verdict] = []
        self.honest: Verdict | None = None
        self.tests = 0
        self._callers: dict[str, set[str]] = defaultdict(set)  # of each function: tests
        self._took_ms: dict[str, int] = {}
        self._kills: dict[str, Counter[str]] = defaultdict(Counter)  # by function; "" for all
        self._last = loading.killers()

    @property
    def survivors(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.killer is None]

    @property
    def killed(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.killer is not None]

    @property
    def stumbled(self) -> list[Verdict]:
        """Killed by an error of the test that states no obligation."""
        return [v for v in self.killed if not v.how.startswith(STATED)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.tests = len(session.items)
        for name in loading.SOURCES:
            loading.unchanged(name)
        gc.collect()
        gc.freeze()  # what is shared stays shared
        self.honest = self._fork(None, session.items)
        if self.honest.killer is None:
            for mutant in self.mutants:
                self.verdicts.append(verdict := self._fork(mutant, self._ordered(session.items, mutant)))
                if self.log is not None:
                    print(mutant.name, verdict.killer, verdict.how, sep="\t", file=self.log)
                if verdict.killer is not None:
                    for function in (mutant.function, ""):
                        self._kills[function][verdict.killer] += 1
        return True

    def _ordered(self, items: Sequence[pytest.Item], mutant: Mutation) -> list[pytest.Item]:
        last, same, all_ = self._last.get(mutant.name), self._kills[mutant.function], self._kills[""]
        if (callers := self._callers.get(mutant.function)) is not None:  # none: of the body of a class or of a module
            items = [item for item in items if item.name in callers]
        return sorted(
            items, key=lambda item: (item.name != last, -same[item.name], -all_[item.name], self._took_ms[item.name])
        )

    def _fork(self, mutation: Mutation | None, items: Sequence[pytest.Item]) -> Verdict:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            try:
                _run(mutation, items, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        for function, test in (line[5:].split("\t") for line in said if line.startswith("call ")):
            self._callers[function].add(test)
        for ms, test in (line[5:].split("\t") for line in said if line.startswith("took ")):
            self._took_ms[test] = int(ms)
        if status == 0:
            return Verdict(mutation, None)
        test = next((line[5:] for line in reversed(said) if line.startswith("test ")), "import")
        how = next((line[7:] for line in said if line.startswith("failed ")), "it went on without an end")
        return Verdict(mutation, test, how)


def _run(mutation: Mutation | None, items: Sequence[pytest.Item], writer: int) -> None:
    """In the forked process: it ends with 0 when the mutant has survived."""

    def say(line: str) -> None:
        os.write(writer, line.replace("\n", " ").encode() + b"\n")

    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    called: set[str] = set()
    try:
        loading.load(mutation, called.add if mutation is None else None)
    except Exception as error:
        say(f"failed it cannot be imported: {error!r}")
        os._exit(1)

    select = selectors.DefaultSelector.select

    def impatient(self: Any, timeout: float | None = None) -> Any:
        if timeout is None or timeout > IDLE_S:
            say("failed it waits for what never happens")
            os._exit(1)
        return select(self, timeout)

    selectors.DefaultSelector.select = impatient  # type: ignore[method-assign]
    for item in items:
        say(f"test {item.name}")
        signal.setitimer(signal.ITIMER_PROF, BUSY_S)  # ends the process
        began_s = time.process_time()
        called.clear()
        for report in runtestprotocol(item, log=False):
            if report.failed:
                say(f"failed {_message(report)}")
                os._exit(1)
        if mutation is None:
            say(f"took {(time.process_time() - began_s) * 1000:.0f}\t{item.name}")
            for function in called:
                say(f"call {function}\t{item.name}")
    os._exit(0)


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else str(report.longrepr)[-300:]


def run(mutants: Iterable[Mutation], log: TextIO | None = None) -> Forks:
    """The verdicts on these mutants, in this process."""
    forks = Forks(mutants, log)
    without = ["cacheprovider", "unraisableexception", "threadexception", "faulthandler", "xdist"]
    options = [option for name in without for option in ("-p", f"no:{name}")]
    pytest.main(
        [
            "-q",
            "-q",
            *options,
            "--timeout=0",
            "--tb=line",
            "-W",
            "ignore",
            "-k",
            "not random_programs",
            f"--rootdir={ROOT}",
            kit.__file__,
        ],
        plugins=[forks],
    )
    return forks


def cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)
