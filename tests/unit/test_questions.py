"""What the page of an operator's questions names is there: commands with their options, metrics and alerts."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests import processes

pytest.importorskip("typer")

from promoter_core.cli.times import parse_when

MONITOR = Path(__file__).parents[2] / "docs/how-to/monitor"
PAGE = (MONITOR / "questions.md").read_text()
COMMANDS = sorted(set(re.findall(r"`promoter ([a-z-]+(?: list)?)[^`]*`", PAGE)))
METRICS = set(re.findall(r"`(promoter_[a-z_]+)[{`]", PAGE))
ALERTS = set(re.findall(r"`(Promoter[A-Z][A-Za-z]+)`", PAGE))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_there_with_its_options(command):
    words = [sys.executable, "-m", "promoter_core", *command.split(), "--help"]
    shown = processes.run(words, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for text in re.findall(rf"`promoter {command}([^`]*)`", PAGE):
        for option in re.findall(r"--[a-z-]+", text):
            assert option in shown.stdout


def test_metrics_and_alerts_are_there():
    documented = {name for page in ("prometheus.md", "exporter.md") for name in (MONITOR / page).read_text().split("`")}
    assert METRICS - documented == set()
    rules = "".join(path.read_text() for path in MONITOR.glob("mixin/rules/*.yml"))
    assert {alert for alert in ALERTS if f"alert: {alert}\n" not in rules} == set()
    assert len(COMMANDS) >= 6
    assert len(ALERTS) >= 12


@pytest.mark.parametrize("text", sorted(set(re.findall(r"--(?:due-before|due-from|at) (\S+?)[ `]", PAGE))))
def test_a_time_is_one(text):
    parse_when(text.strip("'"))
