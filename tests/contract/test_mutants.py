"""The kit is proved: it fails each mutant, by the test that is meant to, and passes the honest backends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.mutants.run import HONEST, MUTANTS

ROOT = Path(__file__).parents[2]
RUN = "tests/contract/mutants/run.py"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """For each class of `mutants/run.py`: its failed tests with their messages, and how many passed.

    The honest backends run the whole kit, a mutant the test that is meant to kill it.
    """
    report = tmp_path_factory.mktemp("mutants") / "report.xml"
    meant = [f"{RUN}::Test{name}::{mutant.killed_by}" for name, mutant in MUTANTS.items()]
    honest = [f"{RUN}::Test{name}" for name in HONEST]
    # A mutant may hang in a wait: each test has a short timeout.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "20", "--tb", "line"]
    run = subprocess.run(
        [*command, "-k", "not random_programs", f"--junitxml={report}", *honest, *meant],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert report.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    failed: dict[str, dict[str, str]] = defaultdict(dict)
    passed: dict[str, int] = defaultdict(int)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = (case.get("classname") or "").rpartition(".")[2].removeprefix("Test")  # none: of no test
        problem = case.find("failure")
        if problem is None:
            problem = case.find("error")
        if problem is not None:
            failed[name].setdefault(case.get("name", "").split("[")[0], problem.get("message", ""))
        elif case.find("skipped") is None:
            passed[name] += 1
    return failed, passed


def test_there_are_enough_mutants():
    assert len(MUTANTS) >= 20


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_backend_passes(name, verdicts):
    failed, passed = verdicts
    assert failed[name] == {}
    assert passed[name] >= 50


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_killed_by_the_test_that_is_meant_to(name, verdicts):
    failed, _ = verdicts
    meant = MUTANTS[name].killed_by
    assert meant in failed[name], f"it passed, or was not run: {meant}"
    message = failed[name][meant]
    assert message.startswith(("AssertionError: ", "Failed: Timeout")), f"the kit stumbled: {message}"
    assert "cannot be called" not in message, f"its signature is wrong, not what it does: {message}"
    assert not re.search(r"raised builtins\.(Attribute|Type|Name)Error", message), f"the mutant is broken: {message}"
