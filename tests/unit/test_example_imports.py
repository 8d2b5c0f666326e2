"""Promoter, and what the examples of the docs import, can be imported where a warning is an error."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.unit.test_docs import PATH, ROOT, examples

IMPORTS = """
from importlib import import_module
from tests.processes import modules
for name in [*sys.argv[1:], *modules()]:
    try:
        import_module(name)
    except ImportError:  # an example that needs it fails
        pass
"""


def test_an_import_warns_of_nothing():
    """In a process of its own: examples are run by a fork that has imported most of it."""
    trees = [ast.parse(parameter.values[0]) for parameter in examples()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert {"promoter_core", "promoter_core.sync", "promoter_core.testing"} <= names
    command = [sys.executable, "-W", "error", "-c", PATH + IMPORTS, *sorted(names)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
