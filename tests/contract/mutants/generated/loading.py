"""The memory backend's modules from their sources, one of them mutated; the installed ones stay as they are."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import promoter_memory.backend
import promoter_memory.jobs
import promoter_memory.store
from tests.contract.mutants.generated.mutate import Mutation, mutations

SOURCES = {  # each imports those before it
    "store": promoter_memory.store,
    "jobs": promoter_memory.jobs,
    "backend": promoter_memory.backend,
}
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
CALLED = "_mutants_called"
KILLERS = Path(__file__).with_name("killers.json")
modules: dict[str, ModuleType] = dict(SOURCES)  # that the kit is to test


def source(name: str) -> str:
    return Path(str(SOURCES[name].__file__)).read_text()


def equivalent(listed: Path = EQUIVALENT) -> dict[str, str]:
    """The mutants that no test can kill, each with the reason."""
    groups = tomllib.loads(listed.read_text())["equivalent"]
    return {name: group["reason"] for group in groups for name in group["mutants"]}


def killers() -> dict[str, str]:
    """Of each mutant the test that killed it in the last run of all: it is tried first. Some may be missing or old."""
    return {name: test for test, names in json.loads(KILLERS.read_text()).items() for name in names}


def keep_killers(of: Mapping[str, str]) -> None:
    tests: dict[str, list[str]] = defaultdict(list)
    for name, test in of.items():
        tests[test].append(name)
    KILLERS.write_text(json.dumps(dict(sorted(tests.items())), indent=0, ensure_ascii=False) + "\n")


def all_mutations() -> Iterator[Mutation]:
    for name in SOURCES:
        yield from mutations(source(name), name)


def load(mutation: Mutation | None, called: Callable[[str], None] | None = None) -> None:
    """Have `modules` hold this mutant. Raises whatever the mutant raises when it is imported.

    With `called`, each function begins with a call of it, with the name that the function has in mutations.
    """
    installed = {original.__name__: sys.modules[original.__name__] for original in SOURCES.values()}
    try:
        for name, original in SOURCES.items():
            module = ModuleType(original.__name__)
            sys.modules[module.__name__] = modules[name] = module
            if mutation is not None and re.split("[.:]", mutation.name)[0] == name:
                code = compile(mutation.tree(), f"<{name}>", "exec")
            elif called is not None:
                vars(module)[CALLED] = called
                code = compile(_telling(ast.parse(source(name)), name), f"<{name}>", "exec")
            else:
                code = unchanged(name)
            exec(code, module.__dict__)
    finally:
        sys.modules.update(installed)


@cache
def unchanged(name: str) -> CodeType:
    """The module as it is, compiled once for all mutants of the others."""
    return compile(source(name), f"<{name}>", "exec")


def _telling(node: ast.AST, where: str) -> Any:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _telling(child, f"{where}.{child.name}")
            if not isinstance(child, ast.ClassDef):
                tell = ast.Expr(ast.Call(ast.Name(CALLED, ast.Load()), [ast.Constant(f"{where}.{child.name}")], []))
                child.body.insert(0, ast.copy_location(tell, child))
        else:
            _telling(child, where)
    return ast.fix_missing_locations(node)
