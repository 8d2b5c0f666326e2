"""The example on a server, from outside: wheels in an empty environment, kill -9 and restarts under traffic."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.packaging.conftest import build, environment, run
from tests.postgres import EXAMPLE

pytestmark = [pytest.mark.timeout(300), pytest.mark.server]

PRODUCER = """
import asyncio, sys
from promoter_core import DelayedQueue, Job, connect
from promoter_core.spi import BackendError

async def main(url):
    async with connect(url) as backend:
        queue = DelayedQueue(backend, "q")
        for first in range(0, 600, 20):
            jobs = [Job(data=i, delay=0.2 + i / 600, job_id=f"j{i}") for i in range(first, first + 20)]
            while True:
                try:
                    await queue.schedule_many(jobs)
                    break
                except BackendError:  # it may have been done: a job_id is taken once
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def bin_(tmp_path_factory, wheel):
    built = build(EXAMPLE, tmp_path_factory.mktemp("dist"))
    return environment(tmp_path_factory.mktemp("postgres"), f"{wheel}[cli,testing]", f"{built}[driver]")


def test_it_is_listed_with_its_own_distribution(bin_, tmp_path):
    rows = json.loads(run(bin_ / "promoter", "plugins", "--json", cwd=tmp_path).stdout)["plugins"]
    (row,) = [row for row in rows if row["name"] == "postgres"]
    assert (row["source"], row["schemes"]) == ("promoter-postgres 0.1.0", ["postgres", "postgresql"])
    assert row["missing"] == []


@pytest.mark.whole_matrix  # tests/contract/test_postgres.py runs the kit
def test_its_own_tests_pass(bin_, postgres):
    """With a part of the kit: tests/contract/test_postgres.py runs all of it, on the same server."""
    kit = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not TestPostgres or kit_lock or kit_promotion",
        "tests",
    ]
    done = run("env", f"PROMOTER_POSTGRES_URL={postgres.url}", bin_ / "python", *kit, cwd=EXAMPLE, check=False)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_a_promoter_is_killed_and_the_server_restarts_under_traffic_and_nothing_is_lost_or_repeated(
    bin_, tmp_path, own_postgres
):
    server = own_postgres
    at = ["--url", server.url, "--queue", "q"]
    command = [bin_ / "promoter", "run", *at, "--lock-ttl-ms", "500", "--holder-id"]
    promoters = {h: subprocess.Popen([*command, h], stderr=subprocess.DEVNULL, cwd=tmp_path) for h in ("one", "two")}
    producer = subprocess.Popen([bin_ / "python", "-c", PRODUCER, server.url], cwd=tmp_path)
    try:
        killed, restarts, deadline = None, 0, time.monotonic() + 90
        while True:
            promoted = number(server, "SELECT count(*) FROM promoter.stream")
            if killed is None and promoted > 100:
                killed = server.sql("SELECT convert_from(holder, 'UTF8') FROM promoter.locks").strip()
                promoters[killed].send_signal(signal.SIGKILL)
            if restarts < 2 and promoted > (200, 400)[restarts]:
                server.restart()
                restarts += 1
            if promoted >= 600:
                break
            assert time.monotonic() < deadline, promoted
            time.sleep(0.02)
        assert (killed is not None, restarts, producer.wait(30)) == (True, 2, 0)
        ids = "SELECT count(*) = 600 AND count(DISTINCT id) = 600 FROM promoter.events"
        assert server.sql("SELECT count(*), count(DISTINCT envelope) FROM promoter.stream").strip() == "600|600"
        assert server.sql(ids).strip() == "t"
        assert number(server, "SELECT count(*) FROM promoter.jobs") == 0
    finally:
        producer.kill()
        producer.wait()
        for process in promoters.values():
            process.terminate()
        codes = {holder: process.wait(10) for holder, process in promoters.items()}
    assert sorted(codes.values()) == [-signal.SIGKILL, 0]


def number(server, sql):
    """0 while there are no tables yet."""
    made = server.sql("SELECT to_regclass('promoter.stream') IS NOT NULL").strip()
    return int(server.sql(sql)) if made == "t" else 0
