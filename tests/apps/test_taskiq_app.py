"""docs/examples/apps/taskiq_app.py, with real workers that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Promoter, connect
from tests import processes
from tests.apps.conftest import APPS
from tests.server.bench import until

pytest.importorskip("taskiq_redis")
pytestmark = pytest.mark.server

# The example with short times, and with mails that take long.
FAST = f"""
import asyncio, sys
sys.path.insert(0, {str(APPS)!r})
import taskiq_app
from taskiq_app import broker
broker.idle_timeout, broker.block = 1500, 100
taskiq_app.RUNS, taskiq_app.BACKOFF = 3, taskiq_app.Backoff.fixed(0.1)
given = taskiq_app.write
def write(task_id, to):
    if to.startswith("slow@") and not taskiq_app.os.path.exists(taskiq_app.DATABASE + ".slow"):
        open(taskiq_app.DATABASE + ".slow", "w").close()
        import time; time.sleep(600)
    given(task_id, to)
taskiq_app.write = write
"""


class Workers:
    def __init__(self, url, folder):
        self.folder, self.database = folder, folder / "mails.db"
        self.environment = os.environ | {"PROMOTER_URL": url, "DATABASE": str(self.database)}
        (folder / "fast_app.py").write_text(FAST)
        self.processes = []

    def start(self):
        command = [sys.executable, "-m", "taskiq", "worker", "fast_app:broker", "--workers", "1"]
        with (self.folder / "log").open("ab") as log:
            process = processes.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def kill(self, process):
        """With its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self):
        return (self.folder / "log").read_text()

    def mails(self):
        if not self.database.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as database:
            try:
                return sorted(to for (to,) in database.execute("SELECT recipient FROM mails"))
            except sqlite3.OperationalError:  # no table yet
                return []


@pytest.fixture
def workers(server, tmp_path):
    found = Workers(server.url, tmp_path)
    yield found
    for process in found.processes:
        found.kill(process)


@pytest.fixture
async def mails(server):
    async with connect(server.url, layout="taskiq") as backend, Promoter(backend, "mails").running():
        yield DelayedQueue(backend, "mails")


def schedule(workers, *words):
    command = [sys.executable, APPS / "taskiq_app.py", *words]
    return processes.run(command, env=workers.environment, capture_output=True, text=True, timeout=60)


async def test_a_mail_is_sent_when_it_is_due_also_when_the_worker_starts_later(mails, workers):
    assert (await asyncio.to_thread(schedule, workers, "ada@example.com", "0.1")).returncode == 0
    await until(lambda: mails_promoted(mails), 20)
    workers.start()
    await until(lambda: workers.mails() == ["ada@example.com"], 40)


async def mails_promoted(mails):
    return (await mails.stats()).stream_len == 1


async def test_a_task_that_fails_returns_after_a_delay_and_is_given_up_in_the_end(mails, workers):
    workers.start()
    await asyncio.to_thread(schedule, workers, "nobody", "0")
    await until(lambda: "has failed 3 times, and is given up" in workers.log(), 60)
    assert workers.log().count("ValueError: nobody is no address") == 3
    stats = await mails.stats()
    assert stats.depth == 0
    assert stats.stream_len == 3


async def test_a_task_whose_worker_was_killed_runs_on_another_one(server, mails, workers):
    first = workers.start()
    await asyncio.to_thread(schedule, workers, "slow@example.com", "0")
    await until(lambda: (workers.folder / "mails.db.slow").exists(), 40)
    async with Redis.from_url(server.url) as client:
        await client.set("autoclaim:taskiq:mails", "of a worker that was killed while it held it")
        workers.kill(first)
        workers.start()

        async def ends():
            return 0 < await client.ttl("autoclaim:taskiq:mails") <= 60

        await until(ends, 40)
        await client.delete("autoclaim:taskiq:mails")  # as its end does, a minute later
    await until(lambda: workers.mails() == ["slow@example.com"], 40)


def test_without_a_server_nothing_is_scheduled_and_one_line_says_so(workers):
    workers.environment["PROMOTER_URL"] = "redis://127.0.0.1:1"
    done = schedule(workers, "ada@example.com", "5")
    assert done.returncode == 1
    assert done.stderr.startswith("nothing was scheduled: ")
    assert done.stderr.count("\n") == 1
