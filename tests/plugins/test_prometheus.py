"""The prometheus sink passes its contract and shows what a promoter does."""

from __future__ import annotations

import socket
import urllib.request

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest

from promoter_core import ConfigError, DelayedQueue, Job, Promoter, PromoterSettings, Registry, TransientError
from promoter_core.model import LockOutcome, Promotion, SinkTrouble, Tick
from promoter_core.testing import VirtualClock
from promoter_core.testing.contract import MetricsSinkContract
from promoter_memory.backend import MemoryBackend
from promoter_prometheus.sink import PrometheusMetrics
from tests.servers import free_port


class TestPrometheus(MetricsSinkContract):
    @pytest.fixture
    def sink(self):
        return PrometheusMetrics(registry=CollectorRegistry(), compat="chasquimq")


def value(registry, name, **labels):
    return registry.get_sample_value(name, {"queue": "q"} | labels)


async def test_it_shows_what_a_promoter_does():
    clock, registry = VirtualClock(), CollectorRegistry()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    sink = PrometheusMetrics(registry=registry, compat="chasquimq")
    await DelayedQueue(backend, "q", clock=clock).schedule_many([Job(data=i, delay=1) for i in range(3)])
    await DelayedQueue(backend, "q", clock=clock).schedule("later", delay=500)
    async with Promoter(backend, PromoterSettings(queue="q"), metrics=[sink], clock=clock).running():
        await clock.sleep(2)
        assert value(registry, "promoter_leads") == 1
        assert value(registry, "promoter_delayed_jobs") == 1
        assert value(registry, "promoter_oldest_pending_lag_seconds") == 0
    assert value(registry, "promoter_leads") == 0
    assert value(registry, "promoter_delayed_jobs") is None, "who does not lead does not know"
    assert value(registry, "promoter_lock_outcomes_total", outcome="released") == 1
    sink.on_lock("q", LockOutcome.HELD)
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    sink.on_sink("Slow", SinkTrouble.DROPPED)
    assert registry.get_sample_value("promoter_sink_troubles_total", {"sink": "Slow", "trouble": "dropped"}) == 1
    assert value(registry, "promoter_promoted_total") == 3
    assert value(registry, "promoter_lateness_seconds_count") == 3
    assert value(registry, "promoter_lateness_seconds_bucket", le="0.001") == 3
    assert value(registry, "promoter_tick_duration_seconds_count") >= 2
    assert value(registry, "promoter_leads") == 0
    assert value(registry, "promoter_lock_outcomes_total", outcome="held") == 1
    assert value(registry, "promoter_errors_total", code="CONNECTION") == 1
    assert value(registry, "chasquimq_promoter_promoted_total") == 3
    assert value(registry, "chasquimq_delayed_zset_depth") == 1
    assert value(registry, "chasquimq_promoter_oldest_pending_lag_ms") == 0
    assert value(registry, "chasquimq_promoter_lock_acquired_total") == 1
    assert value(registry, "chasquimq_promoter_lock_lost_total") == 1


def test_lateness_is_counted_by_buckets():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    sink.on_tick("q", Tick(Promotion(promoted=10, late=(6, 6, 1)), 0.001))
    sink.on_tick("q", Tick(Promotion(promoted=5), 0.001))
    sink.on_tick("q", Tick(Promotion(promoted=1, late=(1,) * 14), 0.001))
    buckets = {le: value(registry, "promoter_lateness_seconds_bucket", le=le) for le in ("0.001", "0.002", "0.005")}
    assert buckets == {"0.001": 9, "0.002": 9, "0.005": 14}
    assert value(registry, "promoter_lateness_seconds_bucket", le="60.0") == 15
    assert value(registry, "promoter_lateness_seconds_bucket", le="+Inf") == 16
    assert value(registry, "promoter_lateness_seconds_count") == 16


def test_many_promoters_of_a_process_share_the_instruments():
    registry = CollectorRegistry()
    for _ in range(3):
        PrometheusMetrics(registry=registry).on_lock("q", LockOutcome.ACQUIRED)
    assert value(registry, "promoter_lock_outcomes_total", outcome="acquired") == 3


def test_the_namespace_can_be_chosen():
    registry = CollectorRegistry()
    PrometheusMetrics(namespace="mine", registry=registry)
    text = generate_latest(registry).decode()
    assert "# TYPE mine_promoted_total counter" in text
    assert "chasquimq" not in text


def test_it_answers_on_a_port():
    port = free_port()
    Registry().metrics_sink(f"prometheus:port={port}").on_lock("served", LockOutcome.ACQUIRED)
    Registry().metrics_sink(f"prometheus:port={port}")  # a second promoter of the process
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b'promoter_leads{queue="served"} 1.0' in answer.read()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("namespace=my-jobs", "must be letters, digits and underscores"),
        ("compat=bullmq", "unknown compat 'bullmq'; it can be 'chasquimq'"),
        ("port=http", "port must be a number from 1 to 65535, not 'http'"),
        ("colour=red", "no option 'colour'.*options are: namespace, compat, port, addr"),
    ],
)
def test_an_option_that_cannot_work_is_a_clear_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Registry().metrics_sink(f"prometheus:{options}")


def test_a_port_in_use_is_a_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot be had: Address already in use"):
            PrometheusMetrics(port=str(taken.getsockname()[1]), registry=CollectorRegistry())
