"""The logging sinks pass their contracts and say what they are told."""

from __future__ import annotations

import logging

import pytest

from promoter_core import ConfigError, Registry, TransientError
from promoter_core.model import LockOutcome, PromotedJob, Promotion, Tick
from promoter_core.testing.contract import EventSinkContract, MetricsSinkContract


class TestLoggingEvents(EventSinkContract):
    @pytest.fixture
    def sink(self):
        return Registry().event_sink("logging")


class TestLoggingMetrics(MetricsSinkContract):
    @pytest.fixture
    def sink(self):
        return Registry().metrics_sink("logging")


async def test_a_line_for_each_job(caplog):
    caplog.set_level(logging.DEBUG)
    sink = Registry().event_sink("logging:level=debug,logger=mine")
    await sink.emit("q", (PromotedJob("a", "n", 1_000, 1_007, "1007-0"),))
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
        "queue 'q': promoted 3, quarantined 0, held back 0, depth 5, lag 0 ms, in 1.0 ms",
        "queue 'q': lock held",
        "queue 'q': error CONNECTION",
    ]


def test_an_unknown_level_is_a_clear_error():
    with pytest.raises(ConfigError, match="unknown level 'loud'"):
        Registry().event_sink("logging:level=loud")
