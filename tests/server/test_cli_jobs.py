"""Waiting jobs on a real server by the command line, as processes: files, pipes, signals, and a server that dies."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from redis import Redis
from ulid import ULID

from promoter_core import DelayedQueue, Job, connect
from promoter_core.spi import CHASQUIMQ, JobQuery
from tests import processes
from tests.server.test_cli import promoter

pytestmark = pytest.mark.server

HOUR_S = 3_600
JOBS = 4_000


@pytest.fixture
def name():
    return f"q-{ULID()}"


def on(url, call):
    async def go():
        async with connect(url) as backend:
            return await call(backend)

    return asyncio.run(go())


def fill(url, name, n=JOBS):
    jobs = [
        Job(data={"n": i}, delay=HOUR_S + i, name="welcome", job_id=f"job-{i}" if i % 3 == 0 else None)
        for i in range(n)
    ]
    on(url, lambda backend: DelayedQueue(backend, name).schedule_many(jobs))


def waiting(url, name):
    async def all_jobs(backend):
        jobs, cursor = [], ""
        while True:
            page = await backend.list_jobs(name, JobQuery(limit=1_000, after=cursor, want_details=True))
            jobs += [(j.id, j.name, j.envelope, j.due_ms, j.traceparent) for j in page.jobs]
            if not (cursor := page.cursor):
                return jobs

    return on(url, all_jobs)


def started(*words):
    command = [sys.executable, "-m", "promoter_core", *map(str, words)]
    return processes.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


@pytest.mark.parametrize(("ending", "sign"), [("jsonl", signal.SIGKILL), ("jsonl.gz", signal.SIGINT)])
def test_an_export_and_an_import_that_were_killed_go_on(valkey, name, tmp_path, ending, sign):
    fill(valkey.url, name)
    file = tmp_path / f"jobs.{ending}"
    export = ("export", file, "--url", valkey.url, "-q", name)
    process = started(*export)
    until(lambda: (tmp_path / f"{file.name}.exporting").exists() or process.poll() is not None)
    process.send_signal(sign)
    process.communicate()
    assert promoter(*export).returncode == 0 or process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    into = ("import", file, "--url", valkey.url, "-q", name + "-2", "--json")
    process = started(*into)
    until(lambda: (tmp_path / f"{file.name}.importing").exists() or process.poll() is not None)
    process.send_signal(sign)
    process.communicate()
    done = promoter(*into)
    assert done.returncode == 0, done.stderr
    assert waiting(valkey.url, name + "-2") == waiting(valkey.url, name)
    again = json.loads(promoter(*into).stdout)
    assert (again["created"], again["waiting"]) == (0, JOBS)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_jobs_of_other_producers_parked_and_malformed_ones_move_byte_for_byte(valkey, name, tmp_path):
    keys, now_ms = CHASQUIMQ.keys_of(name), int(time.time() * 1000)
    good = CHASQUIMQ.encode_member("näme", b"\x95\xa2\xff\x01\xc4\x01\x02\x05\x01\xc0")  # an id that is no UTF-8
    strange = CHASQUIMQ.encode_member("n", b"\x01")  # no envelope
    parked = CHASQUIMQ.encode_member("", b"\x94\xa1p\xc4\x01\x02\x05\x00")
    with Redis(port=valkey.port) as client:
        members = {good: now_ms + 10**7, strange: now_ms + 10**7, b"bad": now_ms + 10**7, parked: float("inf")}
        client.zadd(keys.delayed, members)
        file = tmp_path / "jobs.jsonl"
        assert promoter("export", file, "--url", valkey.url, "-q", name).returncode == 0
        for new, there in ((3, 0), (0, 3)):
            done = promoter("import", file, "--url", valkey.url, "-q", name + "-2", "--json")
            counts = json.loads(done.stdout)
            assert (counts["created"], counts["waiting"], counts["malformed"]) == (new, there, 1), done.stderr
            moved = dict(client.zrange(CHASQUIMQ.keys_of(name + "-2").delayed, 0, -1, withscores=True))
            assert moved == {good: now_ms + 10**7, strange: now_ms + 10**7, parked: 253_402_300_799_999}


def test_queues_are_copied_between_stores_by_pattern(valkey, server, name):
    for queue in (f"{name}-a", f"{name}-b"):
        fill(valkey.url, queue, 20)
    copy = ("copy", "--from", valkey.url, "--to", server.url, "-q", f"{name}-*", "--json")
    for new in (20, 0):
        rows = [json.loads(line) for line in promoter(*copy).stdout.splitlines()]
        assert [(row["queue"], row["created"]) for row in rows] == [(f"{name}-a", new), (f"{name}-b", new)]
    assert waiting(server.url, f"{name}-a") == waiting(valkey.url, f"{name}-a")


def test_a_pipe_that_is_closed_ends_a_command_without_a_word(valkey, name):
    fill(valkey.url, name)
    for words in (["list", "--all"], ["list", "--all", "--json"], ["export"]):
        command = [sys.executable, "-m", "promoter_core", *words, "--url", valkey.url, "-q", name]
        process = processes.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert b"Traceback" not in said
        assert b"BrokenPipe" not in said
        process.wait(20)
        process.stderr.close()


def test_an_export_is_piped_into_an_import(valkey, name):
    fill(valkey.url, name, 50)
    data = promoter("export", "--url", valkey.url, "-q", name).stdout
    done = promoter("import", "-", "--url", valkey.url, "-q", name + "-2", stdin=data)
    assert (done.returncode, done.stdout) == (0, "50 jobs: 50 new\n")
    assert waiting(valkey.url, name + "-2") == waiting(valkey.url, name)


def test_a_server_that_is_not_there_is_one_line(name, tmp_path):
    (tmp_path / "x").write_text('{"promoter-jobs":1,"queue":"q"}\n{"end":true,"jobs":0}\n')
    for words in (["list"], ["cancel", "--all"], ["import", str(tmp_path / "x")]):
        done = promoter(*words, "--url", "redis://localhost:1", "-q", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot reach the server" in done.stderr
        assert "Traceback" not in done.stderr


def test_colours_are_left_out_on_request(valkey, name):
    fill(valkey.url, name, 2)
    for env in ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, {}):
        done = promoter("list", "--url", valkey.url, "-q", name, env=env)
        assert re.search(r"\x1b\[[0-9;]*[34][0-7]m", done.stdout) is None
        assert "job-0" in done.stdout


def test_many_jobs_are_cancelled_in_steps(valkey, name):
    fill(valkey.url, name, 1_200)
    at = ("--url", valkey.url, "-q", name)
    assert promoter("cancel", "--where", "name=welcome", "--dry-run", *at).stdout.startswith(
        "1,200 jobs match; nothing"
    )
    assert promoter("cancel", "--all", *at).stdout == "1,200 jobs match, 1,200 removed\n"
    assert waiting(valkey.url, name) == []
