"""Builds wheels and runs things in separate environments."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, cwd, check=True):
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("PROMOTER_")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def build(project, out):
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, project, cwd=project)
    (built,) = out.glob("*.whl")
    return built


def environment(folder, *packages):
    """The `bin` of a new environment with these. It has no pip, and compiles what it imports: both take seconds."""
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run(*pip, "install", "-q", "--no-compile", *packages, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def sqlite_wheel(tmp_path_factory):
    return build(ROOT / "docs/examples/promoter-sqlite", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory, wheel):
    """The Python of an environment with the wheel and no extra."""
    return environment(tmp_path_factory.mktemp("env"), wheel) / "python"
