"""The contract of layouts in place is proved: it fails each mutant by the test that is meant to, and no honest one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.contract.mutants.run_in_place import BESIDE, MUTANTS

pytestmark = pytest.mark.server
ROOT = Path(__file__).parents[2]
RUN = "tests/contract/mutants/run_in_place.py"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """The failed tests of each class, with their messages."""
    report = tmp_path_factory.mktemp("mutants") / "report.xml"
    meant = [f"{RUN}::Test{name}::{test}" for name, (_, test) in MUTANTS.items()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb", "line", f"--junitxml={report}"]
    run = subprocess.run(
        [*command, f"{RUN}::TestHonest", f"{RUN}::TestHonestAtTheSecond::{BESIDE}", *meant],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert report.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    found: dict[str, Any] = {"Honest": {}, "passed": 0, "skipped": 0}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2].removeprefix("Test")
        problem = next((p for p in (case.find("failure"), case.find("error")) if p is not None), None)
        if problem is not None:
            found.setdefault(name, {})[case.get("name")] = problem.get("message")
        elif name == "Honest":
            found["skipped" if case.find("skipped") is not None else "passed"] += 1
    return found


@pytest.mark.timeout(900)
def test_an_honest_layout_passes_every_test(verdicts):
    assert verdicts["Honest"] == {}
    assert "HonestAtTheSecond" not in verdicts, "it is not that which kills a mutant beside their scheduler"
    assert (verdicts["passed"] >= 13, verdicts["skipped"]) == (True, 0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed_by_the_test_that_is_meant_to(name, verdicts):
    test = MUTANTS[name][1]
    assert test in verdicts.get(name, {}), "it survives"
    assert "fixture" not in verdicts[name][test], verdicts[name][test]
