"""Dashboards and alert rules use metrics, and labels, that a promoter or an exporter shows, and are well formed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("promql_parser")
pytest.importorskip("yaml")

import promql_parser as promql
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from promoter_core import DelayedQueue, Promoter, TransientError
from promoter_core.monitor import Coming, QueueSnapshot, SamplerState, render
from promoter_core.spi import ConsumerGroup, QueueStats
from promoter_core.testing import Fault, FaultyBackend, VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_prometheus.sink import PrometheusMetrics

FOLDER = Path(__file__).parents[2] / "docs/how-to/monitor"
MIXIN = FOLDER / "mixin"
DASHBOARDS = [json.loads(path.read_text()) for path in sorted(MIXIN.glob("dashboards/*.json"))]
ALERTS = [yaml.safe_load(path.read_text()) for path in sorted(MIXIN.glob("rules/*.yml"))]
RULES = [rule for file in ALERTS for group in file["groups"] for rule in group["rules"]]

EXPRESSIONS = [t["expr"] for dashboard in DASHBOARDS for panel in dashboard["panels"] for t in panel["targets"]]
EXPRESSIONS += [rule["expr"] for rule in RULES]
PROMETHEUS_OWN = {"job", "instance"}  # labels that every scraped sample has


@pytest.fixture(scope="module")
def exported():
    """The labels of each sample that a promoter with some trouble exports, by the sample's name."""
    return {}


@pytest.fixture
async def labels(exported):
    if exported:
        return exported
    clock, registry = VirtualClock(), CollectorRegistry()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    faulty = FaultyBackend(backend, Fault("promote", nth=2, error=lambda: TransientError("gone", code="CONNECTION")))

    class Failing:
        async def emit(self, queue, jobs):
            raise RuntimeError("no")

        async def close(self):
            pass

    sink = PrometheusMetrics(registry=registry)
    for delay in (1, 500):
        await DelayedQueue(backend, "q", clock=clock).schedule("x", delay=delay)
    promoter = Promoter(faulty, "q", metrics=[sink], events=[Failing()], clock=clock)
    async with promoter.running():
        await clock.sleep(5)
        for family in registry.collect():
            for sample in family.samples:
                exported.setdefault(sample.name, set()).update(sample.labels)
    for name, labels in samples_of(EXPORTED).items():
        exported.setdefault(name, set()).update(labels)
    return exported


GROUP = ConsumerGroup(
    name="workers", pending=1, undelivered=2, oldest_pending_id="1-0", oldest_pending_consumer="a", oldest_pending_ms=1
)
STATS = QueueStats(
    now_ms=2_000,
    depth=2,
    due=1,
    oldest_pending_lag_ms=1_000,
    next_due_ms=1_000,
    stream_len=1,
    events_len=1,
    dlq_len=1,
    holder="a",
    lease_remaining_ms=3_000,
    groups=(GROUP,),
)
SEEN = QueueSnapshot(name="q", pattern="*", stats=STATS, coming=Coming(minute=1, hour=1, day=1), read_s=1.0)
EXPORTED = render(
    SamplerState(queues=[SEEN], rest={"*": [SEEN]}, now_s=2.0, last_read_s=1.0, pass_s=1.0, discovery_s=1.0)
)


def samples_of(page):
    """The labels of each sample of a page, by its name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used(expression):
    """(metric, labels that are matched or kept) of an expression; fails when it is no PromQL."""
    tree = promql.parse(expression.replace("$__rate_interval", "1m").replace("$queue", ".*"))
    names = set(re.findall(r"\b(promoter_\w+)", expression))
    kept = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",") if label}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*=~?", expression))
    assert tree is not None
    return names, (kept | matched) - PROMETHEUS_OWN


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_uses_what_is_exported(expression, labels):
    names, wanted = used(expression)
    assert names
    for name in names:
        assert name in labels, f"{name} is not exported"
        ours = set() if name.startswith("promoter_exporter_") else wanted  # they are about no queue
        assert ours <= labels[name], f"{name} has no label {wanted - labels[name]}"


def test_every_metric_is_on_the_dashboard(labels):
    shown = {name for e in EXPRESSIONS for name in used(e)[0]}
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in labels}
    hidden = {f for f in families if not any(name.startswith(f) or f.startswith(name) for name in shown)}
    assert not hidden


def test_the_page_names_every_metric(labels):
    page = (FOLDER / "prometheus.md").read_text() + (FOLDER / "exporter.md").read_text()
    for name in labels:
        if not name.endswith(("_created", "_count", "_sum")):
            assert f"`{name.removesuffix('_bucket')}`" in page


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard["uid"])
def test_a_dashboard_is_one(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert len({d["uid"] for d in DASHBOARDS}) == len(DASHBOARDS)
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert {"x", "y", "w", "h"} == panel["gridPos"].keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
    assert {v["name"] for v in dashboard["templating"]["list"]} == {"datasource", "queue"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_rule_says_what_is_wrong_and_what_to_do(rule):
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["annotations"].keys() == {"summary", "action", "runbook"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    tree = promql.parse(rule["expr"])
    assert isinstance(tree, promql.BinaryExpr | promql.Call | promql.AggregateExpr)
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))
    available = used(rule["expr"])[1] | PROMETHEUS_OWN
    for label in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
        assert label in available, f"{label} is not among the labels of the result"


def test_the_urgent_ones_fire_within_a_minute():
    for rule in RULES:
        if rule["labels"]["severity"] == "page":
            assert rule["for"] in ("15s", "30s")
