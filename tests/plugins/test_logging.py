"""The logging sinks pass their contracts and say what they are told."""

from __future__ import annotations

import json
import logging
import re

import pytest

from promoter_core import ConfigError, Registry, TransientError
from promoter_core.cli.json_logs import JsonFormatter
from promoter_core.spi import LockOutcome, PromotedJob, Promotion, Tick
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import EventSinkContract, MetricsSinkContract
from promoter_logging.sink import LoggingEvents, LoggingMetrics
from tests.typed import present


class TestLoggingEvents(EventSinkContract):
    @pytest.fixture
    def sink(self):
        return Registry().event_sink("logging")

    @pytest.fixture
    def delivered(self, caplog):
        caplog.set_level(logging.INFO)
        return lambda: re.findall(r"waiting (\S+)", caplog.text)


class TestLoggingMetrics(MetricsSinkContract):
    @pytest.fixture
    def sink(self):
        return Registry().metrics_sink("logging")


async def test_a_line_for_each_job(caplog):
    caplog.set_level(logging.DEBUG)
    sink = Registry().event_sink("logging:level=debug,logger=mine")
    await sink.emit("q", (PromotedJob("a", "n", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0"),))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mine", logging.DEBUG)
    assert record.getMessage() == "queue 'q': waiting a n, 7 ms late"


def test_idle_ticks_are_silent_and_busy_ones_are_not(caplog):
    caplog.set_level(logging.INFO)
    sink = Registry().metrics_sink("logging")
    sink.on_tick("q", Tick(Promotion(depth=5), 0.001))
    assert caplog.records == []
    sink.on_tick("q", Tick(Promotion(promoted=3, depth=5), 0.001))
    sink.on_lock("q", LockOutcome.HELD)
    sink.on_error("q", TransientError("gone", code="CONNECTION"))
    assert [r.getMessage() for r in caplog.records] == [
        "queue 'q': promoted 3, malformed 0, held back 0, depth 5, lag 0 ms, in 1 ticks of up to 1.0 ms",
        "queue 'q': lock held",
        "queue 'q': error CONNECTION",
    ]


def test_a_drain_is_a_line_a_second(caplog):
    caplog.set_level(logging.INFO)
    clock = VirtualClock()
    sink = LoggingMetrics(clock=clock)
    for _ in range(1_000):
        sink.on_tick("q", Tick(Promotion(promoted=100, depth=5), 0.004))
        sink.on_tick("other", Tick(Promotion(promoted=1), 0.001))
        clock.jump(0.01)
    lines = [r.getMessage() for r in caplog.records if "'q'" in r.getMessage()]
    assert 10 <= len(lines) <= 11
    promoted = [int(present(re.search(r"promoted (\d+)", line))[1]) for line in lines]
    assert promoted[0] == 100
    assert promoted[1:] == [10_000] * (len(lines) - 1)


def test_an_outage_is_a_line_a_second(caplog):
    clock = VirtualClock()
    sink = LoggingMetrics(clock=clock)
    for _ in range(100):
        sink.on_error("q", TransientError("gone", code="CONNECTION"))
        clock.jump(0.05)
    messages = [r.getMessage() for r in caplog.records]
    assert messages[:2] == ["queue 'q': error CONNECTION", "queue 'q': errors 20 × CONNECTION"]
    assert len(messages) == 5


async def test_a_drain_of_jobs_is_cut_short_and_counted(caplog):
    caplog.set_level(logging.INFO)
    clock = VirtualClock()
    sink = LoggingEvents(per_second="3", clock=clock)
    jobs = tuple(PromotedJob(f"{i}", "", due_ms=1, promoted_ms=2, stream_id=f"2-{i}") for i in range(10))
    await sink.emit("q", jobs)
    await sink.emit("q", jobs)
    clock.jump(1)
    await sink.emit("q", jobs[:1])
    await sink.close()
    messages = [r.getMessage() for r in caplog.records]
    assert [m.split(" ", 3)[3] for m in messages[:3]] == [f"{i} , 1 ms late" for i in range(3)]
    assert messages[3] == "and 17 jobs more within a second"
    assert len(messages) == 5


async def test_lines_can_be_json(caplog):
    caplog.set_level(logging.INFO)
    events, metrics = Registry().event_sink("logging:format=json"), Registry().metrics_sink("logging:format=json")
    await events.emit("q {x}", (PromotedJob("a", "n", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0"),))
    metrics.on_tick("q", Tick(Promotion(promoted=3, depth=5), 0.0014))
    metrics.on_error("q", TransientError("gone", code="CONNECTION"))
    first, second, third = [json.loads(r.getMessage()) for r in caplog.records]
    assert first == {"event.action": "waiting", "queue": "q {x}", "job_id": "a", "job_name": "n", "late_ms": 7}
    assert (second["event.action"], second["promoted"], second["tick_ms"]) == ("ticks", 3, 1.4)
    assert third == {"event.action": "errors", "queue": "q", "errors": {"CONNECTION": 1}}


async def test_each_line_has_its_fields_in_the_record_for_the_handler(caplog):
    caplog.set_level(logging.INFO)
    events, metrics = Registry().event_sink("logging"), Registry().metrics_sink("logging")
    await events.emit("q", (PromotedJob("a", "n", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0"),))
    metrics.on_tick("q", Tick(Promotion(promoted=3, depth=5), 0.0014))
    metrics.on_lock("q", LockOutcome.HELD)
    metrics.on_error("q", TransientError("gone", code="{ODD}"))
    job, tick, lock, errors = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert job["message"] == "queue 'q': waiting a n, 7 ms late"
    assert (job["event.action"], job["queue"], job["job_id"], job["job_name"], job["late_ms"]) == (
        "waiting",
        "q",
        "a",
        "n",
        7,
    )
    assert (tick["event.action"], tick["promoted"], tick["depth"]) == ("ticks", 3, 5)
    assert (lock["event.action"], lock["outcome"]) == ("lock", "held")
    assert (errors["event.action"], errors["errors"]) == ("errors", {"{ODD}": 1})
    assert errors["message"] == "queue 'q': error {ODD}"
    assert errors["log.level"] == "warning"


def test_what_a_forgotten_queue_has_not_told_yet_is_told_and_nothing_is_kept(caplog):
    caplog.set_level(logging.INFO)
    sink = LoggingMetrics(clock=VirtualClock())
    for _ in range(3):
        sink.on_tick("q", Tick(Promotion(promoted=2, depth=5), 0.001))
        sink.on_error("q", TransientError("gone", code="CONNECTION"))
    caplog.clear()
    sink.on_forget("q")
    assert [r.getMessage() for r in caplog.records] == [
        "queue 'q': promoted 4, malformed 0, held back 0, depth 5, lag 0 ms, in 2 ticks of up to 1.0 ms",
        "queue 'q': errors 2 × CONNECTION",
    ]
    sink.on_forget("q")
    sink.on_forget("never seen")
    assert len(caplog.records) == 2
    assert sink._sums == {}


@pytest.mark.parametrize(
    ("options", "problem"),
    [("format=xml", "format must be text or json, not 'xml'"), ("per_second=many", "per_second must be a number")],
)
def test_an_option_that_cannot_work_is_a_clear_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Registry().event_sink(f"logging:{options}")


def test_an_unknown_level_is_a_clear_error():
    with pytest.raises(ConfigError, match="unknown level 'loud'"):
        Registry().event_sink("logging:level=loud")
