"""Servers for all tests, and the matrix of backends and servers that closes a run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from tests.postgres import PostgresServer, binaries
from tests.servers import BINARIES, Server, find, is_default, required, wanted, whole_matrix

pytest_plugins = ["tests.spread"]

# The machine may be busy: no example has to end within a time, and the caches of modules make the first ones slow.
# A change is judged by the same examples each time; HYPOTHESIS_PROFILE=search looks for new ones (`make soak` does).
UNHURRIED = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("promoter", UNHURRIED, derandomize=True)
hypothesis.settings.register_profile("search", UNHURRIED, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "promoter"))

# As on Python 3.14, nothing makes a loop by asking for the current one. pytest-asyncio before 1.4 asks, and the loop
# stays the current one: the next asyncio.run leaves none, so that loop is never closed, and some later test is blamed.
asyncio.set_event_loop(None)
if os.environ.get("PROMOTER_LOWEST"):
    # It also closes loops without ending their tasks. A virtual clock's is about to end, and some later test is blamed.
    logging.getLogger("asyncio").addFilter(lambda record: "name='virtual-clock'" not in record.getMessage())


def pytest_report_header() -> str:
    return f"servers: {', '.join(wanted())}" + ("" if whole_matrix() else " (PROMOTER_SERVERS=all: the whole matrix)")


def is_left_out(item: pytest.Item) -> bool:
    if item.get_closest_marker("whole_matrix") is not None and not whole_matrix():
        return True
    if item.get_closest_marker("newest_server") is None or not is_default():
        return False
    callspec = getattr(item, "callspec", None)
    newest = next(iter(BINARIES))
    return callspec is not None and callspec.params.get("any_server", newest) != newest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if (cls := getattr(item, "cls", None)) is not None and hasattr(cls, "kit_summary"):
            cls.kit_summary = False  # the matrix below counts the backends
    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]


def start_or_skip(name: str) -> Iterator[Server]:
    """A running server; skips where it is not installed, and fails where PROMOTER_REQUIRE names it."""
    if find(name) is None:
        if name in required():
            pytest.fail(f"PROMOTER_REQUIRE names {name}, which is not installed", pytrace=False)
        pytest.skip(f"{name} is not installed")
    with Server(name) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """The server that most tests use."""
    yield from start_or_skip("valkey-9.1")


@pytest.fixture(scope="session", params=wanted())
def any_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each server in turn."""
    yield from start_or_skip(request.param)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, to be killed, filled or reconfigured."""
    yield from start_or_skip("valkey-9.1")


def start_postgres_or_skip() -> Iterator[PostgresServer]:
    """As `start_or_skip`. It does not wait for the disk: what a test kills is the server, not the machine."""
    if binaries() is None:
        if "postgres" in required():
            pytest.fail("PROMOTER_REQUIRE names postgres, which is not installed", pytrace=False)
        pytest.skip("postgres is not installed: on Debian, apt-get install postgresql")
    with PostgresServer(fsync="off") as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    yield from start_postgres_or_skip()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, to be restarted."""
    yield from start_postgres_or_skip()


# The matrix: a contract test says which backend runs on which server, the summary counts. What a test says travels in
# its report, for with pytest-xdist the summary is another process's.

MATRIX = "promoter-matrix"
_results: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
_skips: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    backend = getattr(getattr(item, "cls", None), "matrix_backend", None)
    if backend is not None:
        callspec = getattr(item, "callspec", None)
        server = callspec.params.get("any_server") if callspec else None
        server = server or getattr(getattr(item, "cls", None), "matrix_server", "–")
        outcome.get_result().user_properties.append((MATRIX, [backend, server]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    cell: Any = next((value for name, value in report.user_properties if name == MATRIX), None)
    if cell is None or (report.when != "call" and report.passed):
        return
    cell = tuple(cell)
    _results[cell][report.outcome] += 1
    if report.skipped:
        reason: Any = report.longrepr
        _skips[cell][str(reason[2]).removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _results:
        return
    terminalreporter.section("backends and servers")
    terminalreporter.line(f"{'backend':<12} {'server':<12} {'passed':>7} {'skipped':>8} {'failed':>7}")
    for cell in sorted(_results):
        n = _results[cell]
        terminalreporter.line(f"{cell[0]:<12} {cell[1]:<12} {n['passed']:>7} {n['skipped']:>8} {n['failed']:>7}")
        for reason, times in sorted(_skips[cell].items()):
            terminalreporter.line(f"{'':<25} {times} skipped: {reason}")
