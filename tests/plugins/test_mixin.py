"""The mixin: dashboards by Grafana's schema, rules that Prometheus takes, and settings that change them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.plugins.grafana import problems
from tests.unit.test_docs import anchors

DOCS = Path(__file__).parents[2] / "docs"
MIXIN = DOCS / "how-to/monitor/mixin"
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted(MIXIN.glob("dashboards/*.json"))}

needs_grafana = pytest.mark.skipif(
    find_spec("grafana_foundation_sdk") is None, reason="Grafana's types are not installed"
)
needs_jsonnet = pytest.mark.skipif(find_spec("_jsonnet") is None, reason="jsonnet is not installed")


@needs_grafana
@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_one_by_the_schema_of_grafana(name):
    assert list(problems(DASHBOARDS[name])) == []


@needs_grafana
@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "timezoen", "utc"),
        ((), "schemaVersion", "39"),
        ((), "refresh", 10),
        (("panels", 0), "titel", "Leaders"),
        (("panels", 0, "gridPos"), "x", "left"),
        (("panels", 0, "gridPos"), "x", True),
        (("panels", 0, "fieldConfig", "defaults"), "units", "s"),
        (("panels", 0, "targets", 0), "epxr", "up"),
        (("panels", 0, "targets", 0), "expr", 1),
        (("templating", "list", 0), "type", "database"),
    ],
)
def test_the_schema_finds_what_is_wrong(where, key, value):
    document = deepcopy(DASHBOARDS["promoter.json"])
    at = document
    for step in where:
        at = at[step]
    at[key] = value
    assert len(list(problems(document))) == 1


def made(what, config="{}"):
    import _jsonnet

    return json.loads(
        _jsonnet.evaluate_snippet("main", f"((import '{MIXIN}/mixin.libsonnet') + {{_config+:: {config}}}).{what}")
    )


def alerts(config="{}"):
    return {rule["alert"]: rule for group in made("prometheusAlerts", config)["groups"] for rule in group["rules"]}


@needs_jsonnet
def test_without_settings_the_mixin_is_what_the_files_say():
    yaml = pytest.importorskip("yaml")
    files = [yaml.safe_load((MIXIN / "rules" / name).read_text()) for name in ("promoter.yml", "exporter.yml")]
    assert made("prometheusAlerts")["groups"] == [group for file in files for group in file["groups"]]
    assert sorted(made("grafanaDashboards").values(), key=str) == sorted(DASHBOARDS.values(), key=str)


@needs_jsonnet
def test_settings_change_the_alerts():
    changed = alerts(
        "{without: ['PromoterLate'], severities+: {page: 'critical'}, labels: {team: 'mail'},"
        " alerts: {PromoterStuck: {'for': '3m', labels: {team: 'core'}}}}"
    )
    assert alerts().keys() - changed.keys() == {"PromoterLate"}
    assert changed["PromoterGone"]["labels"] == {"severity": "critical", "team": "mail"}
    assert changed["PromoterStuck"]["for"] == "3m"
    assert changed["PromoterStuck"]["labels"] == {"severity": "critical", "team": "core"}


@needs_jsonnet
@pytest.mark.parametrize("config", ["{without: ['PromoterLat']}", "{alerts: {PromoterLat: {'for': '1m'}}}"])
def test_a_setting_of_an_alert_that_is_not_there_is_an_error(config):
    with pytest.raises(RuntimeError, match="no such alert: PromoterLat"):
        alerts(config)


def test_every_alert_has_a_runbook_whose_page_and_heading_exist():
    yaml = pytest.importorskip("yaml")
    files = [yaml.safe_load(path.read_text()) for path in MIXIN.glob("rules/*.yml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    assert len(rules) >= 24
    for rule in rules:
        page, heading = rule["annotations"]["runbook"].split("#")
        assert heading in anchors((DOCS / page).read_text()), rule["alert"]


@needs_jsonnet
@pytest.mark.parametrize("slash", ["", "/"])
def test_with_the_address_of_the_docs_every_alert_has_the_address_of_its_runbook(slash):
    changed = alerts(f"{{docs: 'https://docs.example.com/promoter{slash}', labels: {{team: 'mail'}}}}")
    assert all("runbook_url" not in rule["annotations"] for rule in alerts().values())
    for name, rule in alerts().items():
        page, heading = rule["annotations"]["runbook"].split(".md#")
        url = f"https://docs.example.com/promoter/{page}.html#{heading}"
        assert changed[name]["annotations"] == rule["annotations"] | {"runbook_url": url}


@needs_jsonnet
def test_an_alert_can_have_another_runbook():
    url = "https://wiki.example.com/late"
    late = json.dumps({"PromoterLate": {"annotations": {"runbook_url": url}}})
    changed = alerts(f"{{docs: 'https://docs.example.com', alerts: {late}}}")
    assert changed["PromoterLate"]["annotations"]["runbook_url"] == url


@needs_jsonnet
def test_settings_change_the_dashboards():
    made_ = made("grafanaDashboards", "{refresh: '1m', tags: ['queues'], timezone: 'browser'}")
    assert {(d["refresh"], *d["tags"], d["timezone"]) for d in made_.values()} == {("1m", "queues", "browser")}


@needs_jsonnet
def test_the_example_of_the_page_makes_rules_and_dashboards():
    import _jsonnet

    (example,) = re.findall(r"```jsonnet\n(.*?)```", (MIXIN / "README.md").read_text(), re.S)
    files = json.loads(_jsonnet.evaluate_snippet("main", example, jpathdir=[str(MIXIN.parent)]))
    assert files.keys() == {"rules.json", "promoter.json", "promoter-exporter.json"}
    rules = [rule for group in files["rules.json"]["groups"] for rule in group["rules"]]
    assert {rule["labels"]["team"] for rule in rules} == {"mail"}


@needs_jsonnet
def test_every_setting_is_on_the_page():
    settings = re.search(r"_config\+:: \{(.*?)\n  \},", (MIXIN / "mixin.libsonnet").read_text(), re.S)
    page = (MIXIN / "README.md").read_text()
    names = re.findall(r"^    (\w+): ", settings[1] if settings else "", re.M)
    assert len(names) == 9
    rows = " ".join(row.split("|")[1] for row in page.splitlines() if row.startswith("| `"))
    assert all(f"`{name}`" in rows for name in names)


@needs_jsonnet
def test_prometheus_takes_the_rules(tmp_path):
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: on Debian, apt-get install prometheus")
    (tmp_path / "rules.yml").write_text(json.dumps(made("prometheusAlerts", "{severities+: {page: 'critical'}}")))
    done = subprocess.run(
        [promtool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
