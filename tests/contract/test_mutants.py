"""The kit is proved: it fails each mutant, by the test that is meant to, and passes the honest backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.mutants.run import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """For each class of `mutants/run.py`: its failed tests with their messages, and how many passed."""
    folder = tmp_path_factory.mktemp("mutants")
    reports = [folder / f"{part}.xml" for part in range(2)]
    # A mutant may hang in a wait: each test has a short timeout of its own.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/mutants/run.py"]
    command += ["--timeout", "20", "-k", "not random_programs"]
    runs = [
        subprocess.Popen(
            [*command, f"--junitxml={report}"],
            cwd=ROOT,
            env=os.environ | {"PART": f"{part}/2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for part, report in enumerate(reports)
    ]
    for run in runs:
        run.wait()
    failed: dict[str, dict[str, str]] = defaultdict(dict)
    passed: dict[str, int] = defaultdict(int)
    for case in (c for report in reports for c in ElementTree.parse(report).getroot().iter("testcase")):
        name = case.get("classname").rpartition(".")[2].removeprefix("Test")
        problem = case.find("failure")
        if problem is None:
            problem = case.find("error")
        if problem is not None:
            failed[name].setdefault(case.get("name").split("[")[0], problem.get("message"))
        elif case.find("skipped") is None:
            passed[name] += 1
    return failed, passed


def test_there_are_enough_mutants():
    assert len(MUTANTS) >= 20


@pytest.mark.timeout(300)
def test_the_honest_backend_passes(verdicts):
    failed, passed = verdicts
    assert failed["Honest"] == {}
    assert passed["Honest"] >= 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_killed_by_the_test_that_is_meant_to(name, verdicts):
    failed, _ = verdicts
    meant = MUTANTS[name].killed_by
    assert meant in failed[name], f"it failed {sorted(failed[name])} instead"
