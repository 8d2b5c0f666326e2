"""The workflows, hooks and templates are valid, and run what is here. Bounds of versions are those that were run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.servers import BINARIES
from tests.typed import present

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MISSPELT = "t" + "eh"
MAKEFILE = (ROOT / "Makefile").read_text()


def jobs(name):
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"]


def matrix(job):
    return jobs("ci")[job]["strategy"]["matrix"]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("dependabot", [ROOT / ".github/dependabot.yml"]),
        ("readthedocs", [ROOT / ".readthedocs.yaml"]),
    ],
    ids=["workflows", "dependabot", "readthedocs"],
)
def test_settings_of_services_are_valid(schema, files, tmp_path):
    pytest.importorskip("check_jsonschema")

    def check(*files):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done := check(*files)).returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(files[0].read_text() + "\nunheard-of: 1\n")
    assert check(broken).returncode == 1


def test_templates_and_hooks_are_yaml():
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_workflows_run_make_targets_that_exist():
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.M))
    variables = set(re.findall(r"^(\w+) [:?]?= ", MAKEFILE, re.M)) | set(re.findall(r"\$\((\w+)\)", MAKEFILE))
    for workflow in WORKFLOWS:
        runs = re.findall(r"- run: make (.+)", workflow.read_text())
        assert runs, workflow.name
        for run in runs:
            words = re.sub(r"\$\{\{.*?\}\}|\".*?\"", "x", run).split()
            assert {word for word in words if "=" not in word} <= targets, run
            assert {word.split("=")[0] for word in words if "=" in word} <= variables, run


def test_the_matrix_has_every_python_client_and_server_that_is_supported():
    pythons = {
        found[1]
        for classifier in PROJECT["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
    }
    assert pythons <= set(matrix("test")["python"])
    oldest, newest = min(pythons, key=int_parts), max(matrix("test")["python"], key=int_parts)
    assert set(matrix("redis-py")["python"]) == {oldest, newest}
    assert set(matrix("servers")["python"]) == {oldest, "3.13"}  # no wheels of two servers for newer ones
    assert set(matrix("servers")["server"]) == set(BINARIES)
    (named,) = re.findall(r"^REDIS_PY := (.*)$", MAKEFILE, re.M)
    assert set(named.split()) <= set(matrix("redis-py")["redis"])
    assert {version.split(".")[0] for version in matrix("redis-py")["redis"]} == {"5", "6", "7", "8"}


def lower_bounds():
    """The lower bound of each package that users get or that those tests need, by the package's name."""
    groups = [*PROJECT["project"]["optional-dependencies"].values(), PROJECT["dependency-groups"]["test"]]
    found: dict[str, str] = {}
    for text in [*PROJECT["project"]["dependencies"], *(text for group in groups for text in group)]:
        requirement = Requirement(text)
        if requirement.name != PROJECT["project"]["name"]:
            (bound,) = requirement.specifier
            assert bound.operator == ">=", f"{text} has no lower bound, or more than that"
            assert found.setdefault(requirement.name, bound.version) == bound.version, f"{text}: two lower bounds"
    return found


def test_what_the_other_groups_need_too_has_the_same_lower_bound():
    lowest = lower_bounds()
    shared = 0
    for text in (text for group in PROJECT["dependency-groups"].values() for text in group if isinstance(text, str)):
        requirement = Requirement(text)
        if bound := lowest.get(requirement.name):
            assert str(requirement.specifier) == f">={bound}", text
            shared += 1
    assert shared > 10


def test_the_lowest_versions_are_those_that_the_bounds_name():
    lowest = lower_bounds()
    assert len(lowest) > 15
    if not os.environ.get("PROMOTER_LOWEST"):
        pytest.skip("make test-lowest compares them with what it has installed")
    installed = {name: Version(metadata.version(name)) for name in lowest}
    assert installed == {name: Version(bound) for name, bound in lowest.items()}


def test_the_lowest_versions_run_on_the_oldest_python():
    setup, run = jobs("ci")["lowest"]["steps"][-2:]
    assert run["run"].startswith("make test-lowest ")
    assert PROJECT["project"]["requires-python"] == f">={setup['with']['python-version']}"


def test_the_versions_that_the_page_names_are_the_lower_bounds():
    page = (ROOT / "docs/reference/versioning.md").read_text()
    lowest = lower_bounds()
    assert f"redis-py {lowest['redis']} and newer, GLIDE {lowest['valkey-glide']} and newer." in page


def int_parts(version):
    return [int(part) for part in version.split(".")]


def test_the_hooks_run_programs_of_the_environment_that_the_makefile_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]:
        program = present(re.search(r"\.venv/bin/([\w-]+)", hook["entry"]))[1]
        assert f"$(BIN)/{program}" in MAKEFILE
        for path in re.findall(r"\b[\w/]+\.py\b", hook["entry"]):
            assert (ROOT / path).is_file(), path


def test_only_the_publishing_job_may_ask_for_an_identity():
    publish = jobs("release")["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    for workflow in WORKFLOWS:
        parsed = yaml.safe_load(workflow.read_text())
        assert parsed["permissions"] == {"contents": "read"}
        for name, job in parsed["jobs"].items():
            assert "permissions" not in job or name == "publish"
            assert all("persist-credentials" in str(s) for s in job["steps"] if "actions/checkout" in s.get("uses", ""))
            assert "timeout-minutes" in job, name


def test_what_cannot_be_audited_fails_the_audit():
    (audit,) = re.findall(r"^AUDIT := (.*)$", MAKEFILE, re.M)
    assert "--strict" in audit.split()  # without it, packages that the service does not answer for are skipped
    assert "$(BIN)/pip-audit" not in MAKEFILE.replace(audit, "")


def test_each_action_is_pinned_by_its_hash():
    for workflow in WORKFLOWS:
        for action, version in re.findall(r"uses: ([\w./-]+)@(.*)", workflow.read_text()):
            if action != "pypa/gh-action-pypi-publish":  # its authors ask publishers to follow the branch
                assert re.fullmatch(r"[0-9a-f]{40}  # v[\d.]+", version), action


def test_a_misspelt_word_fails_lint(tmp_path):
    pytest.importorskip("codespell_lib")
    assert "$(BIN)/codespell" in MAKEFILE
    (tmp_path / "page.md").write_text(f"It is {MISSPELT} promoter.\n")
    command = [sys.executable, "-m", "codespell_lib", "--toml", ROOT / "pyproject.toml", tmp_path / "page.md"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode != 0
    assert f"{MISSPELT} ==> the" in run.stdout
