"""A pytest plugin that runs the kit of `run.py` on each of its backends, in one process that has collected it once.

An honest backend runs all tests. A mutant runs the one that is meant to kill it, with one parameter after the other
until it fails. EACH_REPORT names the file that gets the verdicts: JSON, by the names of the backends.

The backends live in this process. What the kit waits for while nothing is ready can come by a timer alone, so the
event loop skips that time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import selectors
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

tested: Any = None  # the class of the backend that `TestKit` makes
_skipped_s = 0.0


def _skip(select: Any) -> Any:
    def skipping(self: Any, timeout: float | None = None) -> Any:
        global _skipped_s
        ready = select(self, timeout if timeout is None else 0)
        if not ready and timeout:
            _skipped_s += timeout
        return ready

    return skipping


def pytest_configure() -> None:
    """Skip such time from now on: only where this module is a plugin, not where the names of the mutants are read."""
    selectors.DefaultSelector.select = _skip(selectors.DefaultSelector.select)
    asyncio.BaseEventLoop.time = lambda self: time.monotonic() + _skipped_s


class Verdict:
    """What became of one backend."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}  # tests, without their parameters: the message of the first that failed
        self.passed = 0


_now = Verdict()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in session.items:
        tests[_name(item.nodeid)].append(item)
    backends: Any = session.items[0].getparent(pytest.Module).obj
    verdicts = {name: _run(cls, session.items, to_the_end=True) for name, cls in backends.HONEST.items()}
    gc.freeze()
    for name, cls in backends.MUTANTS.items():
        verdicts[name] = _run(cls, tests[cls.killed_by], to_the_end=False)
    Path(os.environ["EACH_REPORT"]).write_text(json.dumps({name: vars(verdict) for name, verdict in verdicts.items()}))
    return True


def _run(cls: Any, items: Sequence[pytest.Item], *, to_the_end: bool) -> Verdict:
    global tested, _now
    tested, _now = cls, Verdict()
    for item in items:
        # Whichever other test comes next, it is of this class and module, which are not set up anew.
        other = next(one for one in item.session.items if one is not item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=other)
        if _now.failed and not to_the_end:
            break
    return _now


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _now.failed.setdefault(_name(report.nodeid), crash.message if crash is not None else str(report.longrepr))
    elif report.when == "call" and report.passed:
        _now.passed += 1


def _name(nodeid: str) -> str:
    return nodeid.rpartition("::")[2].split("[")[0]
