"""Adds `--promoter-url` and related options to pytest, and closes a run of the conformance kit with its extent.

A separate package, so that not every run imports Promoter.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

KIT = "pytest --pyargs promoter_core.testing.conformance.by_url"
CLASS = "promoter-kit"  # the test's class, in its report: with pytest-xdist, the summary is another process's
_results: dict[str, Counter[str]] = defaultdict(Counter)
_reasons: dict[str, Counter[str]] = defaultdict(Counter)


def pytest_addoption(parser: Any) -> None:
    add = parser.getgroup("promoter").addoption
    add("--promoter-url", metavar="URL", help=f"the backend for {KIT}")
    add("--promoter-second-url", metavar="URL", help="another way to the same store, for tests of two processes")
    add("--promoter-unreachable-url", metavar="URL", help="a backend of that kind whose store cannot be reached")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    """The kit by URL runs in any folder, so without settings of pytest-asyncio. Its default suits the kit."""
    if config.getoption("--promoter-url", default=None) is not None:
        warnings.filterwarnings("ignore", message=".*asyncio_default_fixture_loop_scope", category=pytest.PytestWarning)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any) -> Iterator[None]:
    outcome: Any = yield
    cls: Any = getattr(item, "cls", None)
    if getattr(cls, "kit_summary", False):
        outcome.get_result().user_properties.append((CLASS, cls.__name__))


def pytest_runtest_logreport(report: Any) -> None:
    name = next((value for key, value in report.user_properties if key == CLASS), None)
    if name is None or (report.when != "call" and report.passed):
        return
    _results[name][report.outcome] += 1
    if report.skipped and not hasattr(report, "wasxfail"):
        _reasons[name][str(report.longrepr[2]).removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print, for each class of the kit, how many tests ran, and what the skipped ones need."""
    if not _results:
        return
    terminalreporter.section("Promoter's conformance kit")
    for name, results in sorted(_results.items()):
        counts = [f"{results[word]} {word}" for word in ("passed", "failed", "skipped") if results[word]]
        terminalreporter.line(f"{name}: {', '.join(counts)}")
        for reason, times in sorted(_reasons[name].items(), key=lambda one: (-one[1], one[0])):
            terminalreporter.line(f"{times:>7} skipped: {reason}")
