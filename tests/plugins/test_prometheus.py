"""The prometheus sink passes its contract and shows what a promoter does."""

from __future__ import annotations

import gzip
import re
import socket
import sys
import threading
import time
import urllib.request

import pytest

from tests.typed import present

pytest.importorskip("prometheus_client")

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from promoter_core import ConfigError, DelayedQueue, Job, Promoter, Registry, TransientError
from promoter_core.spi import LATENESS_MS, LockOutcome, Promotion, SinkFailure, Tick, later_than
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import MetricsSinkContract
from promoter_memory.backend import MemoryBackend
from promoter_prometheus.figures import LATE_MS
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
    async with Promoter(backend, "q", metrics=[sink], clock=clock).running():
        await clock.sleep(2)
        assert value(registry, "promoter_leads") == 1
        assert value(registry, "promoter_delayed_jobs") == 1
        assert value(registry, "promoter_oldest_pending_lag_seconds") == 0
        sink.on_error("q", TransientError("gone", code="CONNECTION"))
        sink.on_sink_failure("Slow", SinkFailure.DROPPED)
        assert registry.get_sample_value("promoter_queues") == 1
        assert registry.get_sample_value("promoter_sink_failures_total", {"sink": "Slow", "failure": "dropped"}) == 1
        assert value(registry, "promoter_promoted_total") == 3
        assert value(registry, "promoter_lateness_seconds_count") == 3
        assert value(registry, "promoter_lateness_seconds_bucket", le="0.002") == 3
        assert value(registry, "promoter_tick_duration_seconds_count") >= 2
        assert value(registry, "promoter_lock_outcomes_total", outcome="acquired") == 1
        assert value(registry, "promoter_errors_total", code="CONNECTION") == 1
        assert value(registry, "chasquimq_promoter_promoted_total") == 3
        assert value(registry, "chasquimq_delayed_zset_depth") == 1
        assert value(registry, "chasquimq_promoter_oldest_pending_lag_ms") == 0
        assert value(registry, "chasquimq_promoter_lock_acquired_total") == 1
        assert value(registry, "chasquimq_promoter_lock_lost_total") == 0


TICK = Tick(
    Promotion(
        3,
        depth=7,
        oldest_pending_lag_ms=20,
        next_due_ms=1_000,
        now_ms=900,
        malformed=1,
        held_back=2,
        jobs=(),
        lateness_counts=(2, 1),
    ),
    0.25,
)


@pytest.mark.parametrize("outcome", [LockOutcome.HELD, LockOutcome.RELEASED])
def test_who_does_not_lead_has_no_figures_that_only_the_leader_knows(outcome):
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry, compat="chasquimq")
    sink.on_lock("q", LockOutcome.ACQUIRED)
    sink.on_tick("q", TICK)
    assert value(registry, "promoter_delayed_jobs") == value(registry, "chasquimq_delayed_zset_depth") == 7
    sink.on_lock("q", outcome)
    assert value(registry, "promoter_leads") == 0
    for name in ("promoter_delayed_jobs", "promoter_oldest_pending_lag_seconds", "promoter_held_back_jobs"):
        assert value(registry, name) is None
    assert value(registry, "chasquimq_delayed_zset_depth") is None
    assert value(registry, "promoter_promoted_total") == 3
    assert value(registry, "promoter_lock_outcomes_total", outcome=outcome.value) == 1


def test_no_series_of_a_forgotten_queue_stays():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry, compat="chasquimq")
    for queue in ("q", "other"):
        sink.on_lock(queue, LockOutcome.ACQUIRED)
        sink.on_tick(queue, TICK)
        sink.on_error(queue, TransientError("gone", code="CONNECTION"))
        sink.on_lock(queue, LockOutcome.RELEASED)
    sink.on_forget("q")
    sink.on_forget("never seen")
    for page in (sink.exposition()[0].decode(), generate_latest(registry).decode()):
        assert 'queue="q"' not in page
        assert 'queue="other"' in page
        assert "promoter_queues 1.0" in page
    sink.on_forget("other")
    page = sink.exposition()[0].decode()
    assert "queue=" not in page, "nothing is left that PromoterNoLeader could page for"
    assert "promoter_queues 0.0" in page, "and PromoterGone knows that we are there"
    sink.on_tick("q", TICK)
    assert value(registry, "promoter_promoted_total") == 3


def parsed(page):
    """The samples of a page by name and labels, and each metric's type and help."""
    families = list(text_string_to_metric_families(page))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    return samples, {f.name: (f.type, f.documentation) for f in families}


def test_the_page_is_what_prometheus_client_makes_of_the_registry():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry, compat="chasquimq")
    Counter("of_the_application", "Its own.", registry=registry).inc()
    for queue in (
        "q",
        'a "quoted\\" name\nwith lines',
        "ünï–code",
        "not \udcff unicode".encode("utf-8", "replace").decode(),
    ):
        sink.on_lock(queue, LockOutcome.ACQUIRED)
        for late in ((), (2, 1), (3,) * 14):
            sink.on_tick(queue, Tick(Promotion(3, depth=2**40, oldest_pending_lag_ms=5, lateness_counts=late), 0.25))
        sink.on_error(queue, TransientError("gone", code='OD"D'))
    sink.on_sink_failure("Slow", SinkFailure.DROPPED)
    page, content_type = sink.exposition()
    assert parsed(page.decode()) == parsed(generate_latest(registry).decode())
    assert content_type == CONTENT_TYPE_LATEST
    names = re.findall(r"^# TYPE (\S+)", page.decode(), re.M)
    assert len(names) == len(set(names))


def test_a_queue_has_few_series():
    sink = PrometheusMetrics(registry=CollectorRegistry())
    page = sink.exposition()[0]
    sink.on_lock("q", LockOutcome.ACQUIRED)
    sink.on_tick("q", TICK)
    assert sink.exposition()[0].count(b"\n") - page.count(b"\n") <= 30


def test_counters_begin_at_zero_so_that_the_first_event_is_an_increase():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    sink.on_sinks(("Webhook", "PrometheusMetrics"))
    sink.on_lock("q", LockOutcome.HELD)
    for name in ("promoted", "malformed", "failed_steps"):
        assert value(registry, f"promoter_{name}_total") == 0
    assert value(registry, "promoter_lock_outcomes_total", outcome="acquired") == 0
    assert value(registry, "promoter_lateness_seconds_bucket", le="1.0") == 0
    assert value(registry, "promoter_tick_duration_seconds_count") == 0
    for failure in SinkFailure:
        labels = {"sink": "Webhook", "failure": failure.value}
        assert registry.get_sample_value("promoter_sink_failures_total", labels) == 0
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    assert value(registry, "promoter_failed_steps_total") == 1


async def test_the_failures_of_all_sinks_of_a_promoter_begin_at_zero():
    class Slow:
        async def emit(self, queue, jobs):
            pass

        async def close(self):
            pass

    clock, registry = VirtualClock(), CollectorRegistry()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    sink = PrometheusMetrics(registry=registry)
    async with Promoter(backend, "q", metrics=[sink], events=[Slow()], clock=clock).running():
        await clock.sleep(1)
        for name in ("Slow", "PrometheusMetrics"):
            labels = {"sink": name, "failure": "dropped"}
            assert registry.get_sample_value("promoter_sink_failures_total", labels) == 0


def test_a_leader_that_no_longer_ticks_shows_it():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    sink.on_lock("q", LockOutcome.ACQUIRED)
    began_s = time.time()
    sink.on_tick("q", TICK)
    assert began_s <= value(registry, "promoter_last_tick_timestamp_seconds") <= time.time()
    assert value(registry, "promoter_next_due_timestamp_seconds") == 1
    assert present(registry.get_sample_value("promoter_start_timestamp_seconds")) <= began_s
    sink.on_lock("q", LockOutcome.HELD)
    assert value(registry, "promoter_last_tick_timestamp_seconds") is None
    assert value(registry, "promoter_next_due_timestamp_seconds") is None


def test_thousands_of_queues_are_rendered_in_a_part_of_the_usual_time():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    for i in range(2_000):
        sink.on_lock(f"queue-{i}", LockOutcome.ACQUIRED)
        sink.on_tick(f"queue-{i}", TICK)

    def cpu_s(make):
        began_s = time.process_time()
        make()
        return time.process_time() - began_s

    usual_s = min(cpu_s(lambda: generate_latest(registry)) for _ in range(2))
    ours_s = min(cpu_s(sink.exposition) for _ in range(3))
    assert ours_s < usual_s / 1.5


def test_a_page_that_is_rendered_while_others_record_is_of_one_piece():
    """Every page holds together: buckets grow, the last one is the count, and the sum is that of the count."""
    sink = PrometheusMetrics(registry=CollectorRegistry())
    pages, done, failed = [], threading.Event(), []

    def render():
        try:
            while not done.is_set():
                pages.append(sink.exposition()[0].decode())
        except Exception as exc:
            failed.append(exc)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=render)
    thread.start()
    try:
        i, end_s = 0, time.monotonic() + 1
        while (len(pages) < 50 or time.monotonic() < end_s) and not failed and i < 10**6:
            i += 1
            queue = f"queue-{i % 7}"
            sink.on_tick(queue, Tick(Promotion(1, lateness_counts=(1,)), 0.5))
            if i % 11 == 0:
                sink.on_forget(queue)
                sink.on_error(f"new-{i}", TransientError("", code=f"CODE{i % 3}"))
                sink.on_forget(f"new-{i - 110}")
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval_s)
    assert not failed
    for page in pages:
        samples, _ = parsed(page)
        for (name, labels), total in samples.items():
            if name.endswith("seconds_count"):
                base, queue = name.removesuffix("_count"), dict(labels)["queue"]
                buckets = [
                    (float(dict(of)["le"]), n)
                    for (b, of), n in samples.items()
                    if b == f"{base}_bucket" and dict(of)["queue"] == queue
                ]
                counts = [n for _, n in sorted(buckets)]
                assert counts == sorted(counts)
                assert counts[-1] == total
                each_s = 0.5 if "tick" in name else 0.002
                assert samples[f"{base}_sum", labels] == pytest.approx(total * each_s)


def test_lateness_is_counted_by_buckets():
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    sink.on_tick("q", Tick(Promotion(promoted=10, lateness_counts=(6, 6, 1)), 0.001))
    sink.on_tick("q", Tick(Promotion(promoted=5), 0.001))
    sink.on_tick("q", Tick(Promotion(promoted=1, lateness_counts=(1,) * 14), 0.001))
    bounds = ("0.002", "0.01", "0.05", "60.0", "+Inf")
    buckets = {le: value(registry, "promoter_lateness_seconds_bucket", le=le) for le in bounds}
    assert buckets == {"0.002": 9, "0.01": 15, "0.05": 15, "60.0": 15, "+Inf": 16}
    assert value(registry, "promoter_lateness_seconds_count") == 16
    assert value(registry, "promoter_lateness_seconds_sum") == pytest.approx(9 * 0.001 + 5 * 0.005 + 0.010 + 60)


def test_each_bound_of_ours_is_one_that_backends_count_by():
    assert set(LATE_MS) <= set(LATENESS_MS)
    for bound_ms in LATENESS_MS:
        registry = CollectorRegistry()
        PrometheusMetrics(registry=registry).on_tick(
            "q", Tick(Promotion(1, lateness_counts=later_than(bound_ms, [0])), 0.001)
        )
        for ours_ms in LATE_MS:
            counted = value(registry, "promoter_lateness_seconds_bucket", le=str(ours_ms / 1000))
            assert counted == (bound_ms <= ours_ms)


def test_a_tick_at_a_bound_is_below_it():
    registry = CollectorRegistry()
    PrometheusMetrics(registry=registry).on_tick("q", Tick(Promotion(), 0.005))
    assert value(registry, "promoter_tick_duration_seconds_bucket", le="0.005") == 1
    assert value(registry, "promoter_tick_duration_seconds_bucket", le="0.001") == 0


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
    for encoding in ("identity", "gzip"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": encoding})
        with urllib.request.urlopen(request) as answer:
            page = answer.read()
            assert answer.headers["Content-Type"] == CONTENT_TYPE_LATEST
            assert (answer.headers["Content-Encoding"] == "gzip") == (encoding == "gzip")
        page = gzip.decompress(page) if encoding == "gzip" else page
        assert b'promoter_leads{queue="served"} 1.0' in page
        assert b"process_cpu_seconds_total" in page, "and whatever else the registry holds"


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


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_how_far_the_clocks_are_apart_is_a_figure_while_it_leads(ahead_s):
    registry = CollectorRegistry()
    sink = PrometheusMetrics(registry=registry)
    sink.on_tick("q", Tick(Promotion(now_ms=int((time.time() + ahead_s) * 1_000)), 0.001))
    seen = present(registry.get_sample_value("promoter_clock_offset_seconds"))
    assert 0.9 < seen / ahead_s < 1.1
    assert f"promoter_clock_offset_seconds {seen}" in sink.exposition()[0].decode()
    sink.on_tick("q", Tick(Promotion(now_ms=int((time.time() - 3) * 1_000)), 5.0))
    assert registry.get_sample_value("promoter_clock_offset_seconds") == 0, "the call took so long"
    sink.on_tick("q", Tick(Promotion(now_ms=int((time.time() + ahead_s) * 1_000)), 0.001))
    sink.on_lock("other", LockOutcome.HELD)
    assert registry.get_sample_value("promoter_clock_offset_seconds") != 0, "it leads this queue"
    sink.on_lock("q", LockOutcome.HELD)
    assert registry.get_sample_value("promoter_clock_offset_seconds") == 0


@pytest.mark.parametrize("addr", ["127.0.0.1", "::1"])
def test_its_address_is_in_the_log_with_the_port_that_0_became(caplog, addr):
    caplog.set_level("INFO", "promoter.prometheus")
    Registry().metrics_sink(f"prometheus:port=0,addr={addr}")
    (text,) = [record.getMessage() for record in caplog.records]
    url = text.removeprefix("metrics on ")
    assert url.startswith("http://[::1]:" if addr == "::1" else "http://127.0.0.1:")
    assert urllib.request.urlopen(url).status == 200


def test_a_port_in_use_is_a_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen on .*: Address already in use"):
            PrometheusMetrics(port=str(taken.getsockname()[1]), registry=CollectorRegistry())
