"""The kit is proved: it fails each mutant, by the test that is meant to, and passes the honest backends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.mutants.run import HONEST, MUTANTS

ROOT = Path(__file__).parents[2]
RUN = "tests/contract/mutants/run.py"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Of each backend of `mutants/run.py`: its failed tests with their messages, and how many passed."""
    report = tmp_path_factory.mktemp("mutants") / "report.json"
    # A mutant may hang in a wait: each test has a short timeout.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "20", "--tb", "line"]
    run = subprocess.run(
        [*command, "--no-summary", "-p", "tests.contract.mutants.each", "-k", "not random_programs", RUN],
        cwd=ROOT,
        env=os.environ | {"EACH_REPORT": str(report)},
        capture_output=True,
        text=True,
    )
    assert report.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(report.read_text())


def test_there_are_enough_mutants():
    assert len(MUTANTS) >= 20


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_backend_passes(name, verdicts):
    assert verdicts[name]["failed"] == {}
    assert verdicts[name]["passed"] >= 50


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_killed_by_the_test_that_is_meant_to(name, verdicts):
    meant, failed = MUTANTS[name].killed_by, verdicts[name]["failed"]
    assert meant in failed, f"it passed, or was not run: {meant}"
    message = failed[meant]
    assert message.startswith(("AssertionError: ", "Failed: Timeout")), f"the kit stumbled: {message}"
    assert "cannot be called" not in message, f"its signature is wrong, not what it does: {message}"
    assert not re.search(r"raised builtins\.(Attribute|Type|Name)Error", message), f"the mutant is broken: {message}"
