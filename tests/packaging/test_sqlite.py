"""A backend from outside: both wheels in an empty environment, the kit by URL, and traffic with two processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.packaging.conftest import ROOT, environment, run

EXAMPLE = ROOT / "docs/examples/promoter-sqlite"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def bin_(tmp_path_factory, wheel, sqlite_wheel):
    return environment(tmp_path_factory.mktemp("sqlite"), f"{wheel}[cli,testing]", sqlite_wheel)


@pytest.fixture
def url(tmp_path):
    return f"sqlite://{tmp_path / 'jobs.db'}"


def test_it_is_listed_with_its_own_distribution(bin_, tmp_path):
    rows = json.loads(run(bin_ / "promoter", "plugins", "--json", cwd=tmp_path).stdout)["plugins"]
    (row,) = [r for r in rows if r["name"] == "sqlite"]
    assert (row["source"], row["schemes"], row["missing"]) == ("promoter-sqlite 0.1.0", ["sqlite"], [])


def test_it_passes_the_kit_by_its_url(bin_, tmp_path, url):
    """A part of the kit: its own tests below run all of it, on the same database."""
    kit = ["-m", "pytest", "-q", "--pyargs", "promoter_core.testing.conformance.by_url", "--promoter-url", url]
    part = ["kit_lock", "kit_scheduling", "kit_promotion", "kit_cancellation", "kit_identity", "kit_management"]
    done = run(bin_ / "python", *kit, "-k", " or ".join(part), cwd=tmp_path)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 100
    assert "failed" not in done.stdout


def test_the_kit_by_url_says_what_is_missing(bin_, tmp_path):
    kit = ["-m", "pytest", "-q", "-x", "--pyargs", "promoter_core.testing.conformance.by_url"]
    done = run(bin_ / "python", *kit, cwd=tmp_path, check=False)
    assert "say which backend: --promoter-url" in done.stdout


def test_two_processes_promote_what_a_third_schedules_and_one_takes_over(bin_, tmp_path, url):
    at = ["--url", url, "--queue", "q"]
    produce = f"""
import asyncio
from promoter_core import DelayedQueue, Job, connect

async def main():
    async with connect({url!r}) as backend:
        queue = DelayedQueue(backend, "q")
        for first in range(0, 600, 50):
            chunk = range(first, first + 50)
            await queue.schedule_many([Job(data=i, delay=0.2 + i / 300, job_id=f"j{{i}}") for i in chunk])

asyncio.run(main())
"""
    command = [bin_ / "promoter", "run", *at, "--lock-ttl-ms", "500", "--holder-id"]
    promoters = {h: subprocess.Popen([*command, h], stderr=subprocess.DEVNULL, cwd=tmp_path) for h in ("one", "two")}
    try:
        run(bin_ / "python", "-c", produce, cwd=tmp_path)
        killed, deadline = None, time.monotonic() + 60
        while True:
            stats = json.loads(run(bin_ / "promoter", "inspect", *at, "--json", cwd=tmp_path).stdout)
            if killed is None and stats["holder"] and stats["stream_len"] > 100:
                killed = stats["holder"]
                promoters[killed].send_signal(signal.SIGKILL)
            if stats["stream_len"] == 600 and stats["depth"] == 0:
                break
            assert time.monotonic() < deadline, stats
        assert killed is not None
        assert stats["events_len"] == 600
    finally:
        for process in promoters.values():
            process.terminate()
        codes = {h: p.wait(10) for h, p in promoters.items()}
    assert sorted(codes.values()) == [-signal.SIGKILL, 0]


@pytest.mark.whole_matrix  # the kit by its URL, above, is most of them
def test_its_own_tests_pass(bin_, tmp_path):
    """In memory where the system offers it: no test cuts the power, and a disk takes most of the time."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        options = ("-q", "-p", "no:cacheprovider", "--basetemp", Path(folder) / "tests")
        done = run(bin_ / "python", "-m", "pytest", *options, "tests", cwd=EXAMPLE, check=False)
    assert done.returncode == 0, done.stdout
