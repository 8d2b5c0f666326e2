"""The layers hold: contracts that name everything and are seen to fail, and public imports alone outside the core."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import promoter_core

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {
    Path(folder).name: ROOT / folder for folder in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
}
OUTSIDE = set(FOLDERS) - {"promoter_core"}
CONTRACTS = {contract["id"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
COMMANDS = {"promoter_demo", "promoter_bench", "promoter_ui"}  # their plugins are applications

SPI = {"promoter_core.spi"}
API = SPI | {"promoter_core", "promoter_core.monitor", "promoter_core.web"}
TESTING = {"promoter_core.testing", "promoter_core.testing.conformance", "promoter_core.testing.conformance.by_url"}

PLANTS = [  # contract, file, line
    ("layers", "promoter_core/spi/names.py", "import promoter_core.settings"),
    ("layers", "promoter_core/engine/pacing.py", "import promoter_core.registry"),
    ("layers", "promoter_core/client/queue.py", "import promoter_core.runner.base"),
    ("layers", "promoter_core/runner/health.py", "import promoter_core"),
    ("layers", "promoter_core/web/server.py", "import promoter_core.testing.doubles"),
    ("layers", "promoter_core/newcomer.py", "X = 1"),
    ("spi-alone", "backends/promoter_memory/store.py", "import promoter_core"),
    ("spi-alone", "plugins/promoter_statsd/sink.py", "import promoter_core.settings"),
    ("public-api", "plugins/promoter_demo/traffic.py", "import promoter_core.client.queue"),
    ("public-api", "promoter_core/cli/run.py", "import promoter_core.runner.base"),
    ("public-api", "promoter_core/web/server.py", "import promoter_core.settings"),
    ("independence", "plugins/promoter_logging/sink.py", "import promoter_resp.errors"),
    ("independence", "backends/promoter_redis/driver.py", "import promoter_glide.errors"),
    ("independence", "backends/promoter_resp/driver.py", "import promoter_redis.link"),
    ("core", "promoter_core/testing/faults.py", "import promoter_memory"),
    ("core", "promoter_core/registry.py", "import redis"),
    ("resp", "backends/promoter_resp/driver.py", "import glide"),
    ("sans-io", "promoter_core/engine/machine.py", "import time"),
    ("sans-io", "promoter_core/engine/leadership.py", "from promoter_core.spi import Backend"),
    ("sans-io", "promoter_core/settings.py", "import promoter_core.spi.optional.fleet"),
    ("cycles", "promoter_core/spi/model.py", "import promoter_core.spi.sinks"),
    ("cycles", "backends/promoter_memory/store.py", "import promoter_memory.backend"),
    ("pluggy", "promoter_core/runner/reporter.py", "import pluggy"),
    ("pluggy", "plugins/promoter_webhook/plugin.py", "import pluggy"),
    ("listing", "plugins/promoter_statsd/plugin.py", "import promoter_statsd.sink"),
    ("pytest", "plugins/promoter_pytest/__init__.py", "import promoter_core.spi"),
]
CHECK = """
import importlib.util, json, sys
from pathlib import Path
import importlinter.api
from importlinter.application.use_cases import lint_imports

assert Path(importlib.util.find_spec("promoter_core").origin).is_relative_to(Path.cwd())

def kept(*contracts):
    return lint_imports("pyproject.toml", contracts, cache_dir="cache", is_debug_mode=True, no_logo=True)

results = [kept()]
for contract, file, line in json.loads(sys.argv[1]):
    path = Path(file)
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + line + "\\n")
    results.append(kept(contract))
    path.unlink() if before is None else path.write_text(before)
results[0] = results[0] and kept()  # no plant is left, nor in the cache
Path("results.json").write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Whether a copy of the sources keeps the contracts: as it is, and then each contract with its plant."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in FOLDERS.values():
        shutil.copytree(folder, copy / folder.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    paths = os.pathsep.join(str(copy / part) for part in (".", "backends", "plugins"))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(PLANTS)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip((None, *PLANTS), json.loads((copy / "results.json").read_text()), strict=True))


def test_the_contracts_name_every_package_of_the_wheel():
    linter = PYPROJECT["tool"]["importlinter"]
    assert set(linter["root_packages"]) == set(FOLDERS)
    checked = {ROOT / file for file in PYPROJECT["tool"]["mypy"]["files"]}
    assert all(checked & {folder, *folder.parents} for folder in [*FOLDERS.values(), Path(__file__)])
    named = {
        "spi-alone": ("source_modules", OUTSIDE - COMMANDS),
        "public-api": ("source_modules", COMMANDS | {"promoter_core.cli", "promoter_core.web"}),
        "independence": ("modules", OUTSIDE),
        "cycles": ("ancestors", set(FOLDERS)),
        "pluggy": ("source_modules", set(FOLDERS)),
        "listing": ("source_modules", {f"{p}.plugin" for p in OUTSIDE if (FOLDERS[p] / "plugin.py").exists()}),
    }
    for contract, (key, expected) in named.items():
        assert set(CONTRACTS[contract][key]) == expected, contract
    assert set(CONTRACTS["core"]["forbidden_modules"]) > OUTSIDE


def test_all_of_the_core_but_the_spi_is_forbidden_to_backends_and_sinks():
    modules = {f"promoter_core.{found.name}" for found in pkgutil.iter_modules(promoter_core.__path__)}
    assert set(CONTRACTS["spi-alone"]["forbidden_modules"]) == modules - {"promoter_core.spi", "promoter_core.__main__"}


def test_the_contracts_hold(kept):
    assert kept[None]


@pytest.mark.parametrize("plant", PLANTS, ids="-".join)
def test_a_planted_import_breaks_its_contract(kept, plant):
    assert not kept[plant]


def test_each_contract_is_seen_to_fail():
    assert {contract for contract, _, _ in PLANTS} == set(CONTRACTS)


def private_imports(folder, allowed, own=""):
    """Imports from the core, in a folder's files, of anything but the public names of the `allowed` modules."""
    files = sorted(folder.rglob("*.py"))
    assert files, folder
    found = [(f"{file.relative_to(ROOT)}:{line}", path, name) for file in files for path, name, line in imports(file)]
    return [
        f"{place}: {path} {name or ''}".rstrip()
        for place, path, name in found
        if not (path in allowed and (name is None or name in public_names(path)))
        and not (own and f"{path}.".startswith(f"{own}."))
    ]


def imports(file):
    """Each import from the core: the module, the name of what is imported from it or None, and the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found: list[tuple[str, str | None]] = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for path, name in found:
            if path.partition(".")[0] == "promoter_core":
                submodule = name and name not in public_names(path) and is_module(f"{path}.{name}")
                yield (f"{path}.{name}", None, node.lineno) if submodule else (path, name, node.lineno)


def public_names(path):
    module = importlib.import_module(path)
    return [*getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]), "__version__"]


def is_module(path):
    try:
        return find_spec(path) is not None
    except ModuleNotFoundError:  # the name is that of a class or a function
        return False


@pytest.mark.parametrize("package", sorted(OUTSIDE))
def test_packages_outside_the_core_import_public_names_only(package):
    assert private_imports(FOLDERS[package], API if package in COMMANDS else SPI) == []


@pytest.mark.parametrize("package", ["cli", "web"])
def test_the_command_line_and_the_pages_import_public_names_only(package):
    assert private_imports(ROOT / "promoter_core" / package, API, own=f"promoter_core.{package}") == []


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_an_example_imports_public_names_only(name):
    example = ROOT / f"docs/examples/promoter-{name}"
    assert private_imports(example / f"promoter_{name}", SPI) == []
    assert private_imports(example / "tests", API | TESTING) == []


@pytest.mark.parametrize(
    ("line", "public"),
    [
        ("from promoter_core.spi import Backend, sink_options", True),
        ("from promoter_core import spi", True),
        ("import json, promoter_core.spi", True),
        ("from promoter_core.spi import model", False),
        ("from promoter_core.spi import check_backend", False),
        ("from promoter_core.spi.model import Lease", False),
        ("import promoter_core.spi.model", False),
        ("from promoter_core import Promoter", False),
        ("def f():\n    from promoter_core import registry", False),
    ],
)
def test_a_private_import_is_found(tmp_path, monkeypatch, line, public):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(line)
    assert bool(private_imports(tmp_path, SPI)) != public
