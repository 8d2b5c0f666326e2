"""`promoter bench` on a real server and on a store that is none: it measures, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from tests.server.test_cli import promoter
from tests.servers import free_port

pytestmark = pytest.mark.server


def test_it_measures_and_leaves_nothing_behind(valkey):
    with Redis.from_url(valkey.url) as client:
        before = set(client.scan_iter("{chasqui:promoter-bench*"))
        url = valkey.url.replace("redis://", "glide://")
        done = promoter("bench", "--url", url, "--jobs", "2000", "--seconds", "0.5", "--json", timeout=90)
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        assert set(client.scan_iter("{chasqui:promoter-bench*")) == before == set()
    assert figures["drain, events off, jobs/s"] > 1_000
    assert figures["drain, events on: CPU of the server, µs/job"] > 0
    assert figures["lateness, plain ZADD, ms"].startswith("p50 ")
    assert 50 < figures["memory of a delayed job without index, bytes"] < 1_000
    assert figures["commands of an idle leader, 1/s"] < 20


def test_any_store_can_be_measured_in_part():
    done = promoter("bench", "--url", "memory://", "--jobs", "2000", "--seconds", "0.5")
    assert done.returncode == 0, done.stderr
    assert "drain, events on, jobs/s" in done.stdout
    assert "memory of a delayed job" not in done.stdout


def test_a_server_that_is_not_there_is_a_clear_error():
    done = promoter("bench", "--url", f"redis://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot reach the server" in done.stderr
    assert "Traceback" not in done.stderr
