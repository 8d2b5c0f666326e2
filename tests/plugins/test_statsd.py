"""The statsd sink passes its contract and sends the packets that it should."""

from __future__ import annotations

import socket

import pytest

from tests.typed import untyped

pytest.importorskip("statsd")

from promoter_core import ConfigError, Registry, TransientError
from promoter_core.spi import LockOutcome, Promotion, SinkFailure, Tick
from promoter_core.testing.conformance import MetricsSinkContract


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server


@pytest.fixture
def sink(server):
    sink = untyped(Registry().metrics_sink(f"statsd:port={server.getsockname()[1]},prefix=jobs"))
    yield sink
    sink.close()


class TestStatsd(MetricsSinkContract):
    @pytest.fixture
    def sink(self):
        sink = untyped(Registry().metrics_sink("statsd"))  # nobody listens: that is no matter
        yield sink
        sink.close()


def received(server, packets=1):
    return sorted(line for _ in range(packets) for line in server.recv(65536).decode().splitlines())


def test_a_tick_is_one_packet(server, sink):
    sink.on_tick("e.mails:1", Tick(Promotion(3, depth=7, oldest_pending_lag_ms=20, held_back=1, malformed=2), 0.25))
    assert received(server) == [
        "jobs.e_mails_1.delayed_jobs:7|g",
        "jobs.e_mails_1.held_back_jobs:1|g",
        "jobs.e_mails_1.lateness:1.000000|ms",
        "jobs.e_mails_1.lateness:1.000000|ms",
        "jobs.e_mails_1.lateness:1.000000|ms",
        "jobs.e_mails_1.malformed:2|c",
        "jobs.e_mails_1.oldest_pending_lag_ms:20|g",
        "jobs.e_mails_1.promoted:3|c",
        "jobs.e_mails_1.tick_duration:250.000000|ms",
    ]


def test_a_large_tick_is_represented_by_a_sample(server, sink):
    sink.on_tick("q", Tick(Promotion(10_000, lateness_counts=(5_000, 5_000, 1)), 0.25))
    lines = received(server, 2)
    lateness = [line for line in lines if ".lateness:" in line]
    assert len(lateness) == 21
    assert lateness.count("jobs.q.lateness:1.000000|ms") == 10
    assert lateness.count("jobs.q.lateness:10.000000|ms") == 1


def test_locks_errors_and_troubles(server, sink):
    sink.on_lock("q", LockOutcome.ACQUIRED)
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    sink.on_sink_failure("Slow", SinkFailure.BLOCKED)
    assert received(server, 4) == [
        "jobs.q.errors.CONNECTION:1|c",
        "jobs.q.leads:1|g",
        "jobs.q.lock.acquired:1|c",
        "jobs.sinks.Slow.blocked:1|c",
    ]


ZERO = [f"jobs.q.{name}:0|g" for name in ("delayed_jobs", "held_back_jobs", "leads", "oldest_pending_lag_ms")]


@pytest.mark.parametrize("how", [LockOutcome.HELD, LockOutcome.RELEASED, "forgotten"])
def test_gauges_become_zero_once_with_the_lead_and_with_the_queue(server, sink, how):
    sink.on_lock("q", LockOutcome.ACQUIRED)
    sink.on_tick("q", Tick(Promotion(depth=7, oldest_pending_lag_ms=20, held_back=1), 0.25))
    received(server, 3)
    if how == "forgotten":
        sink.on_forget("q")
    else:
        sink.on_lock("q", how)
        assert received(server) == [f"jobs.q.lock.{how.value}:1|c"]
    assert received(server) == ZERO
    sink.on_forget("q")
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    assert received(server) == ["jobs.q.errors.CONNECTION:1|c"], "they are told once"


def test_a_follower_leaves_the_gauges_of_the_leader_alone(server, sink):
    sink.on_lock("q", LockOutcome.HELD)
    sink.on_lock("q", LockOutcome.RELEASED)
    sink.on_forget("q")
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    assert received(server, 3) == ["jobs.q.errors.CONNECTION:1|c", "jobs.q.lock.held:1|c", "jobs.q.lock.released:1|c"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("port=udp", "port must be a number from 1 to 65535, not 'udp'"),
        ("host=no.such.host.invalid", "statsd: 'no.such.host.invalid' cannot be found"),
        ("colour=red", "no option 'colour'.*options are: host, port, prefix"),
    ],
)
def test_an_option_that_cannot_work_is_a_clear_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Registry().metrics_sink(f"statsd:{options}")
