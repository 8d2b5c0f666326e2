"""The dashboard and the alert rules use metrics, and labels, that a running promoter exports, and are well formed."""

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

from promoter_core import DelayedQueue, Promoter, TransientError
from promoter_core.testing import Fault, FaultyBackend, VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_prometheus.sink import PrometheusMetrics

FOLDER = Path(__file__).parents[2] / "docs/how-to/monitor"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

EXPRESSIONS = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]] + [rule["expr"] for rule in RULES]


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
    await DelayedQueue(backend, "q", clock=clock).schedule("x", delay=1)
    promoter = Promoter(faulty, "q", metrics=[sink], events=[Failing()], clock=clock)
    async with promoter.running():
        await clock.sleep(5)
        for family in registry.collect():
            for sample in family.samples:
                exported.setdefault(sample.name, set()).update(sample.labels)
    return exported


def used(expression):
    """(metric, labels that are matched or kept) of an expression; fails when it is no PromQL."""
    tree = promql.parse(expression.replace("$__rate_interval", "1m").replace("$queue", ".*"))
    names = set(re.findall(r"\b(promoter_\w+)", expression))
    kept = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*=~?", expression))
    assert tree is not None
    return names, kept | matched


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_uses_what_is_exported(expression, labels):
    names, wanted = used(expression)
    assert names
    for name in names:
        assert name in labels, f"{name} is not exported"
        assert wanted <= labels[name], f"{name} has no label {wanted - labels[name]}"


def test_every_metric_is_on_the_dashboard(labels):
    shown = {name for e in EXPRESSIONS for name in used(e)[0]}
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in labels}
    hidden = {f for f in families if not any(name.startswith(f) or f.startswith(name) for name in shown)}
    assert hidden <= {"promoter_promoted", "promoter_errors", "promoter_malformed", "promoter_lock_outcomes"}, hidden


def test_the_page_names_every_metric(labels):
    page = (FOLDER / "prometheus.md").read_text()
    for name in labels:
        if not name.endswith(("_created", "_count", "_sum")):
            assert f"`{name.removesuffix('_bucket')}`" in page


def test_the_dashboard_is_one():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert DASHBOARD["uid"]
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert {"x", "y", "w", "h"} == panel["gridPos"].keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
    assert {v["name"] for v in DASHBOARD["templating"]["list"]} == {"datasource", "queue"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_rule_says_what_is_wrong_and_what_to_do(rule):
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["annotations"].keys() == {"summary", "action"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    tree = promql.parse(rule["expr"])
    assert isinstance(tree, promql.BinaryExpr | promql.Call)
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))
    available = used(rule["expr"])[1]
    for label in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
        assert label in available, f"{label} is not among the labels of the result"


def test_the_urgent_ones_fire_within_a_minute():
    for rule in RULES:
        if rule["labels"]["severity"] == "page":
            assert rule["for"] == "30s"
