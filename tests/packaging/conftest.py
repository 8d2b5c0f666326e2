"""Builds wheels and runs things in separate environments."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("PROMOTER_")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def build(project: Path, out: Path) -> Path:
    """With the project's build backend, which the development dependencies have."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=project)
    (built,) = out.glob("*.whl")
    return built


def environment(folder: Path, *packages: str | Path) -> Path:
    """The `bin` of a new environment with these and nothing else."""
    venv.create(folder)
    python = folder / "bin" / "python"
    done = run(
        sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, *packages, cwd=folder, check=False
    )
    if done.returncode != 0:  # an index that only pip is configured for; pip takes seconds longer
        run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", *packages, cwd=folder)
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
