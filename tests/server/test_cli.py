"""The command line, as processes, the way a user meets it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from ulid import ULID

from tests import processes
from tests.servers import free_port
from tests.typed import present

pytestmark = pytest.mark.server


@pytest.fixture
def name():
    return f"q-{ULID()}"


def promoter(*arguments, env=None, stdin=None, timeout=30):
    command = [sys.executable, "-m", "promoter_core", *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMOTER_")} | {"COLUMNS": "200"} | (env or {})
    return processes.run(command, env=clean, input=stdin, capture_output=True, text=True, timeout=timeout)


@contextlib.contextmanager
def running(*arguments):
    command = [sys.executable, "-m", "promoter_core", "run", *map(str, arguments)]
    process = processes.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        present(process.stderr).close()


def inspect(url, name):
    return json.loads(promoter("inspect", "--url", url, "--queue", name, "--json").stdout)


def until(condition, timeout_s=15):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_it_runs_on_uvloop(valkey, name):
    pytest.importorskip("uvloop")
    at = ("--url", valkey.url, "--queue", name)
    promoter("schedule", *at, "--delay", "1ms", "{}")
    done = promoter("run", *at, "--uvloop", "--until-idle")
    assert (done.returncode, inspect(valkey.url, name)["stream_len"]) == (0, 1)
    with running(*at, "--uvloop") as process:
        until(lambda: inspect(valkey.url, name)["holder"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert inspect(valkey.url, name)["holder"] is None


def test_schedule_inspect_cancel_and_run_until_idle(valkey, name):
    at = ("--url", valkey.url, "--queue", name)
    done = promoter("schedule", *at, "--delay", "1h", "--name", "welcome", "--id", "a", '{"to": "ada"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\n", "")
    again = promoter("schedule", *at, "--delay", "1h", "--id", "a", "{}")
    assert (again.returncode, again.stdout) == (0, "a\n")
    assert "already scheduled" in again.stderr
    assert promoter("schedule", *at, "--at", "2030-01-31T09:00:00+01:00", "-", stdin="[1]").returncode == 0
    stats = inspect(valkey.url, name)
    assert (stats["depth"], stats["due"], stats["holder"]) == (2, 0, None)
    gone = promoter("cancel", *at, "a", "nope")
    assert gone.returncode == 1
    assert gone.stdout == "a\tremoved\nnope\tnot-found\n"
    assert promoter("schedule", *at, "--delay", "1ms", "2").returncode == 0
    run = promoter("run", *at, "--until-idle")
    assert run.returncode == 0, run.stderr
    stats = inspect(valkey.url, name)
    assert (stats["depth"], stats["stream_len"], stats["holder"]) == (1, 1, None)
    shown = promoter("inspect", *at).stdout
    assert "delayed jobs" in shown
    assert "none: start one with `promoter run`" in shown


def test_url_and_queue_come_from_the_environment_too(valkey, name):
    env = {"PROMOTER_URL": valkey.url, "PROMOTER_QUEUE": name}
    assert promoter("schedule", "--delay", "1h", "1", env=env).returncode == 0
    assert json.loads(promoter("inspect", "--json", env=env).stdout)["depth"] == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_releases_the_lock_and_exits_with_0(valkey, name, sign):
    with running("--url", valkey.url, "--queue", name, "--holder-id", "me") as process:
        until(lambda: inspect(valkey.url, name)["holder"] == "me")
        process.send_signal(sign)
        assert process.wait(10) == 0
        assert "stopped" in process.stderr.read()
    assert inspect(valkey.url, name)["holder"] is None


def test_one_process_promotes_several_queues(valkey, name):
    with running("--url", valkey.url, "-q", name, "-q", name + "-2", "--log-format", "json") as process:
        for queue in (name, name + "-2"):
            assert promoter("schedule", "--url", valkey.url, "--queue", queue, "--delay", "10ms", "1").returncode == 0
            until(lambda queue=queue: inspect(valkey.url, queue)["stream_len"] == 1)
        process.terminate()
        assert process.wait(10) == 0
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert {"@timestamp", "log.level", "message", "ecs.version", "log.logger"} <= lines[0].keys()
    locked = {line["queue"] for line in lines if line.get("outcome") == "acquired"}
    assert locked == {name, name + "-2"}, "what programs look for is at the top level"


def test_the_logging_sinks_can_be_chosen(valkey, name):
    assert (
        promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", "1ms", "--id", "x7", "1").returncode == 0
    )
    run = promoter(
        "run", "--url", valkey.url, "--queue", name, "--until-idle", "--event-sink", "logging", "--metrics", "logging"
    )
    assert "waiting x7" in run.stderr
    assert "promoted 1" in run.stderr


def test_run_tries_for_a_while_to_reach_the_server_and_then_fails_with_one_line(name):
    url = f"redis://:s3cret@127.0.0.1:{free_port()}"
    began = time.monotonic()
    run = promoter("run", "--url", url, "--queue", name, "--connect-timeout", "1")
    assert time.monotonic() - began >= 0.75
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: cannot reach the server at 127.0.0.1:")
    assert "Traceback" not in run.stderr
    assert "s3cret" not in run.stderr


def test_run_finds_a_server_that_comes_up_late(name):
    from tests.servers import Server

    server = Server()
    try:
        with running("--url", server.url, "--queue", name) as process:
            time.sleep(1)
            assert process.poll() is None
            server.start()
            until(lambda: inspect(server.url, name)["holder"] is not None)
            server.kill()
            time.sleep(1)
            assert process.poll() is None, "an outage later is waited out"
            server.start()
            until(lambda: inspect(server.url, name)["holder"] is not None)
            process.terminate()
            assert process.wait(10) == 0
    finally:
        server.stop()


U, Q = ("--url", "memory://"), ("--queue", "q")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("inspect",), 2, "Missing option '--url'"),
        (("nope",), 2, "No such command 'nope'"),
        (("inspect", "--url", "redsi://x", *Q), 2, "unknown URL scheme 'redsi'; did you mean 'redis'?"),
        (("inspect", "--url", "localhost", *Q), 2, "is not a backend URL"),
        (("inspect", *U, "--queue", "a{b}"), 2, "queue name 'a{b}' holds '{'"),
        (("schedule", *U, *Q, "--delay", "5s", "{oops"), 2, "the job's data is not valid JSON"),
        (("schedule", *U, *Q, "--delay", "5 parsecs", "1"), 2, "'5 parsecs' is no duration"),
        (("schedule", *U, *Q, "--delay", "nan", "1"), 2, "duration"),
        (("schedule", *U, *Q, "--delay", "-5", "1"), 2, "out of range"),
        (("schedule", *U, *Q, "--at", "whenever", "1"), 2, "expected ISO 8601"),
        (("schedule", *U, *Q, "--at", "2030-01-01T00:00:00", "1"), 2, "has no time zone"),
        (("schedule", *U, *Q, "1"), 2, "give either --delay or --at"),
        (("schedule", *U, *Q, "--delay", "1s", "--name", "x" * 300, "1"), 2, "name is 300 bytes long"),
        (("run", *U, *Q, "--batch", "0"), 2, "promote_batch must be a whole number"),
        (("run", *U, *Q, "--lock-ttl-ms", "-5"), 2, "lock_ttl_ms must be"),
        (("run", *U, *Q, *Q), 2, "given twice"),
        (("run", *U, *Q, "--metrics", "nope"), 2, "unknown metrics sink 'nope'"),
        (("run", *U, *Q, "--event-sink", "logging:x=1"), 2, "no option 'x'"),
        (("run", *U, *Q, "--overflow", "drop"), 2, "'drop' is not one of"),
        (("demo", "--jobs", "1"), 2, "the demo takes"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, tuple) else None,
)
def test_bad_input_is_one_clear_line_and_the_right_exit_code(arguments, code, message):
    run = promoter(*arguments)
    text = " ".join(run.stderr.replace("│", " ").split())
    assert message in text
    assert run.returncode == code
    assert "Traceback" not in run.stderr


def test_a_wrong_database_or_password_is_a_clear_error(valkey, name):
    wrong_db = promoter("inspect", "--url", f"{valkey.url}/999", "--queue", name)
    assert wrong_db.returncode == 1
    assert "database" in wrong_db.stderr
    wrong_password = promoter("inspect", "--url", f"redis://me:s3cret@{valkey.address}", "--queue", name)
    assert wrong_password.returncode == 1
    assert "the user or password of the URL is wrong" in wrong_password.stderr
    debug = promoter("--debug", "inspect", "--url", f"redis://me:s3cret@{valkey.address}", "--queue", name)
    assert "Traceback" in debug.stderr
    for run in (wrong_password, debug):
        assert "s3cret" not in run.stderr
        assert len(wrong_password.stderr.strip().splitlines()) == 1


def test_plugins_lists_what_is_installed_and_from_where():
    listed = json.loads(promoter("plugins", "--json").stdout)
    rows = {(p["kind"], p["name"]): p for p in listed["plugins"]}
    assert rows["backend", "redis"]["schemes"] == ["redis", "rediss", "unix", "valkey", "valkeys"]
    assert rows["backend", "redis"]["missing"] == []
    assert rows["command", "demo"]["source"].startswith("promoter-core ")
    assert "memory://" in promoter("plugins").stdout


def test_version_and_help():
    assert promoter("--version").stdout.startswith("promoter ")
    assert "schedule" in promoter("--help").stdout


def test_a_small_demo_goes_the_whole_way():
    run = promoter("demo", "--jobs", "400", "--seconds", "2", timeout=90)
    assert run.returncode == 0, run.stdout + run.stderr
    for label in ("lost", "twice", "early"):
        (row,) = [line for line in run.stdout.splitlines() if line.startswith(f"│ {label}")]
        assert row.split("│")[2].strip() == "0"
    assert "takeover" in run.stdout
