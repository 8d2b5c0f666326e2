"""How pytest-xdist spreads the suite over its workers: in units whose tests share servers, the longest units first.

`--dist loadscope` uses it. The seconds of the units are kept in `durations.json`, for the order alone; a run with
PROMOTER_KEEP_DURATIONS=1 writes them anew.
"""

from __future__ import annotations

import gc
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import pytest

from tests.servers import BINARIES

KEPT = Path(__file__).with_name("durations.json")
UNKNOWN_S = 5.0  # a new file is not left for the end

# Files that take long and whose tests share nothing that is dear to make: how many units each class of them is.
EACH_TEST = 0
PARTS = {
    "tests/contract/test_redis.py": 3,
    "tests/contract/test_glide.py": 3,
    "tests/contract/test_postgres.py": 2,
    "tests/contract/test_clusters.py": 2,
    "tests/contract/test_generated_mutants.py": EACH_TEST,
    "tests/server/test_cluster_faults.py": EACH_TEST,
    "tests/server/test_doctor.py": 2,
    "tests/server/test_exporter.py": 3,
    "tests/server/test_glide_cluster.py": EACH_TEST,
    "tests/server/test_layout_consumers.py": 2,
    "tests/server/test_redis_versions.py": EACH_TEST,
    "tests/server/test_security.py": 2,
    "tests/server/test_shutdown.py": 2,
    "tests/server/test_slow_links.py": 2,
    "tests/server/test_sync_processes.py": 3,
    "tests/unit/test_docs.py": 4,
    "tests/unit/test_startup.py": 2,
}

_took_s: defaultdict[str, float] = defaultdict(float)


@cache
def unit_of(nodeid: str) -> str:
    """The tests of a file, a class and a server are one unit, or as many as `PARTS` says."""
    file, _, rest = nodeid.partition("::")
    name, _, parameters = rest.partition("[")
    owner, _, function = name.rpartition("::")
    server = next((server for server in BINARIES if re.search(rf"\b{re.escape(server)}\b", parameters)), "")
    unit = "::".join(filter(None, (file, owner, server)))
    parts = PARTS.get(file, 1)
    if parts == EACH_TEST:
        return nodeid
    return unit if parts == 1 else f"{unit}#{crc32(function.encode()) % parts}"


def kept() -> dict[str, float]:
    return dict(json.loads(KEPT.read_text())) if KEPT.exists() else {}


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(hypothesis.strategies.none())
def _first_example(_: None) -> None:
    """Let Hypothesis make its source of random numbers."""


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests stay until the end: the garbage collector need not look at them again and again."""
    gc.disable()
    _first_example()  # it looks through all objects for what refers to its source: few now, many frozen ones later
    yield
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    seconds = kept()

    def late(item: pytest.Item) -> tuple[float, str]:
        unit = unit_of(item.nodeid)
        return -seconds.get(unit, UNKNOWN_S), unit

    items.sort(key=late)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Spread(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False  # the workers have put their tests in order
    return Spread(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _took_s[unit_of(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("PROMOTER_KEEP_DURATIONS") != "1" or hasattr(session.config, "workerinput"):
        return
    took = {unit: round(s, 1) for unit, s in sorted(_took_s.items())}
    KEPT.write_text(json.dumps(kept() | took, indent=0, ensure_ascii=False) + "\n")
