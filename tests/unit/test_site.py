"""The documentation site builds; every page is in its navigation, and every public name has an example that runs."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.unit.test_docs import ROOT, examples

DOCS = ROOT / "docs"
RENDER = DOCS / "reference/render_api.py"
APPLICATIONS = ["promoter_core", "promoter_core.sync", "promoter_core.testing", "promoter_core.web"]


def listed():
    """The pages of every toctree, as paths from `docs`."""
    for index in DOCS.rglob("index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    yield (index.parent / line).relative_to(DOCS).as_posix() + ".md"


def test_the_navigation_lists_every_page_once():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    assert sorted(listed()) == sorted(pages), "add a new page to docs/index.md"


def test_the_api_page_is_what_the_docstrings_say():
    run = subprocess.run([sys.executable, RENDER, "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_public_name_without_a_docstring_or_a_section_fails_the_page():
    for code, message in [
        ("promoter_core.Promoter.run.__doc__ = None", "public, without a docstring: Promoter.run"),
        ("promoter_core.__all__.append('Soon')", "has no section for promoter_core.Soon"),
    ]:
        code = f"import runpy, promoter_core\n{code}\nrunpy.run_path({str(RENDER)!r}, run_name='__main__')"
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.argv.append('--check'); sys.path.insert(0, {str(RENDER.parent)!r})\n{code}",
            ],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 1
        assert message in run.stderr


def used():
    """The public names that a running example imports and then uses, with their module."""
    for parameter in examples():
        tree = ast.parse(parameter.values[0])
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                yield from ((node.module, alias.name) for alias in node.names if (alias.asname or alias.name) in names)


def test_every_public_name_of_applications_has_an_example_that_runs():
    public = {(module, name) for module in APPLICATIONS for name in importlib.import_module(module).__all__}
    assert sorted(public - set(used())) == []


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("sphinx", reason="the site needs the group docs")
    pytest.importorskip("myst_parser")
    options: list[str | Path] = ["-q", "-n", "-W", "--keep-going", "-d", target / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, source, target / "html"]
    return processes.run(command, capture_output=True, text=True, timeout=110)


def test_the_site_builds_without_a_warning(tmp_path):
    run = build(DOCS, tmp_path)
    assert run.returncode == 0, run.stderr
    for page in ("index", "reference/api", "how-to/deploy/kubernetes", "explanation/decisions/index"):
        assert (tmp_path / f"html/{page}.html").is_file(), page
    index = (tmp_path / "html/searchindex.js").read_text()
    assert "delayedqueue" in index.lower()


@pytest.mark.parametrize(
    ("pages", "warning"),
    [
        ({"index.md": "# A\n\n[b](b.md)\n"}, "b.md"),
        ({"index.md": "# A\n\n[a](#no-such-heading)\n"}, "no-such-heading"),
        ({"index.md": "# A\n", "b.md": "# B\n"}, "b.md: WARNING: document isn't included in any toctree"),
    ],
    ids=["broken link", "broken anchor", "unlisted page"],
)
def test_a_fault_in_a_page_fails_the_build(tmp_path, pages, warning):
    source = tmp_path / "repository/docs"
    source.mkdir(parents=True)
    shutil.copy(DOCS / "conf.py", source)
    (tmp_path / "repository/promoter_core").mkdir()
    shutil.copy(ROOT / "promoter_core/__init__.py", tmp_path / "repository/promoter_core")
    for name, text in pages.items():
        (source / name).write_text(text)
    run = build(source, tmp_path)
    assert run.returncode != 0
    assert warning in run.stderr
