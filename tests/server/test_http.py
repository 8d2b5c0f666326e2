"""`promoter run --http`: what it answers while the promoter leads, follows, cannot reach its server, and ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from itertools import islice

import pytest

from tests import processes
from tests.server.test_cli import promoter, running, until
from tests.servers import Server, free_port
from tests.typed import present

pytestmark = pytest.mark.server


@pytest.fixture
def name():
    return f"http-{free_port()}"


def get(port, path):
    """Status and text; (0, "") when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_a_leader_and_a_follower_are_ready_and_show_what_they_do(valkey, name):
    one, two = free_port(), free_port()
    arguments = ("--url", valkey.url, "--queue", name)
    promoter("schedule", *arguments, "--delay", "1h", "{}")
    with running(*arguments, "--http", f"127.0.0.1:{one}", "--holder-id", "a") as leader:
        until(lambda: get(one, "/readyz") == (200, "ok\n"))
        with running(*arguments, "--http", str(two)) as follower:
            until(lambda: get(two, "/readyz") == (200, "ok\n"))
            assert get(one, "/livez") == (200, "ok\n")
            status = json.loads(get(one, "/status")[1])
            assert status["ready"] is True
            assert status["leads"] == 1
            assert status["dropped_batches"] == 0
            (queue,) = status["queues"]
            assert (queue["queue"], queue["state"], queue["last_error"]) == (name, "leader", None)
            assert json.loads(get(two, "/status")[1])["queues"][0]["state"] == "follower"
            code, metrics = get(one, "/metrics")
            assert code == 200
            assert f'promoter_leads{{queue="{name}"}} 1.0' in metrics
            assert f'promoter_delayed_jobs{{queue="{name}"}} 1.0' in metrics
            assert get(one, "/nothing")[0] == 404
            for process in (leader, follower):
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            ("run", "--queue", "q", "--http", ":0"),
            r"pages on (http://127\.0\.0\.1:\d+): /metrics /livez /readyz /status$",
        ),
        (("exporter", "--listen", "127.0.0.1:0"), r"metrics on (http://127\.0\.0\.1:\d+)/metrics$"),
        (("ui", "--port", "0"), r"the page is at (http://127\.0\.0\.1:\d+)/ui/$"),
    ],
)
def test_the_log_says_where_the_pages_are_with_the_real_port(valkey, command, line):
    words = [sys.executable, "-m", "promoter_core", *command, "--url", valkey.url]
    process = processes.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        (found,) = islice(filter(None, (re.search(line, text) for text in present(process.stderr))), 1)
        with urllib.request.urlopen(f"{found[1]}/livez", timeout=5) as answer:
            assert answer.status == 200
    finally:
        process.kill()
        process.communicate()


def test_it_is_not_ready_while_its_server_is_away(name):
    port, server = free_port(), Server("valkey-9.1")
    arguments = ("--url", server.url, "--queue", name, "--http", f":{port}", "--lock-ttl-ms", "200")
    with running(*arguments, "--connect-timeout", "60") as process:
        until(lambda: get(port, "/livez") == (200, "ok\n"))
        assert get(port, "/readyz") == (503, f"queue '{name}': never seen to be led\n")
        with server:
            until(lambda: get(port, "/readyz")[0] == 200)
        until(lambda: get(port, "/readyz")[0] == 503, 20)
        reason = get(port, "/readyz")[1]
        assert f"queue '{name}': not seen to be led for" in reason
        assert "CONNECTION" in reason
        assert get(port, "/livez")[0] == 200
        assert process.poll() is None


def test_a_fleet_is_ready_when_all_its_queues_are_led(valkey, name):
    port = free_port()
    with running("--url", valkey.url, "-q", f"{name}-1", "-q", f"{name}-2", "--http", f"localhost:{port}") as process:
        until(lambda: get(port, "/readyz") == (200, "ok\n"))
        status = json.loads(get(port, "/status")[1])
        assert [q["queue"] for q in status["queues"]] == [f"{name}-1", f"{name}-2"]
        assert status["leads"] == 2
        assert process.poll() is None


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("web", "expected HOST:PORT to serve pages on, such as 127.0.0.1:9464 or :9464, not 'web'"),
        (
            "127.0.0.1:99999",
            "expected HOST:PORT to serve pages on, such as 127.0.0.1:9464 or :9464, not '127.0.0.1:99999'",
        ),
    ],
)
def test_an_address_that_is_none_is_a_clear_error(address, problem):
    done = promoter("run", "--url", "memory://", "--queue", "q", "--http", address)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_clear_error(valkey):
    done = promoter("run", "--url", "memory://", "--queue", "q", "--http", f"127.0.0.1:{valkey.port}")
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{valkey.port}: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
