"""The SQLite example shows its figures through the sinks as the first-party backends do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from promoter_core.spi import MetricsSink

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry

from promoter_core import DelayedQueue, Job, Promoter
from promoter_core.spi import parse_url
from promoter_prometheus.sink import PrometheusMetrics

EXAMPLE = Path(__file__).parents[2] / "docs/examples/promoter-sqlite"


@pytest.fixture
async def backend(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from promoter_sqlite.backend import open_url

    backend = open_url(parse_url(f"sqlite://{tmp_path}/jobs.db"))
    await backend.open()
    yield backend
    await backend.close()
    for name in [name for name in sys.modules if name.startswith("promoter_sqlite")]:
        del sys.modules[name]


async def test_it_shows_its_figures(backend, caplog):
    caplog.set_level("INFO")
    registry = CollectorRegistry()
    await DelayedQueue(backend, "q").schedule_many([Job(data=i, delay=0.05 * i) for i in range(1, 4)])
    metrics: list[MetricsSink | str] = [PrometheusMetrics(registry=registry), "logging:format=json"]
    async with Promoter(backend, "q", metrics=metrics, events=["logging"]).running():
        async with asyncio.timeout(10):
            while (registry.get_sample_value("promoter_promoted_total", {"queue": "q"}) or 0) < 3:
                await asyncio.sleep(0.02)
        assert registry.get_sample_value("promoter_leads", {"queue": "q"}) == 1
        assert registry.get_sample_value("promoter_lateness_seconds_count", {"queue": "q"}) == 3
    lines = [r.getMessage() for r in caplog.records if r.name == "promoter.metrics"]
    assert sum(json.loads(line).get("promoted", 0) for line in lines) >= 1
    assert sum(r.name == "promoter.events" for r in caplog.records) == 3
