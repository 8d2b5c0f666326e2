"""The memory backend's modules from their sources, one of them mutated; the installed ones stay as they are."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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
FILES = {f"<{name}>": name for name in SOURCES}  # as they are compiled here
modules: dict[str, ModuleType] = dict(SOURCES)  # that the kit is to test


def source(name: str) -> str:
    return Path(str(SOURCES[name].__file__)).read_text()


def equivalent(listed: Path = EQUIVALENT) -> dict[str, str]:
    """The mutants that no test can kill, each with the reason."""
    groups = tomllib.loads(listed.read_text())["equivalent"]
    return {name: group["reason"] for group in groups for name in group["mutants"]}


def all_mutations() -> Iterator[Mutation]:
    for name in SOURCES:
        yield from mutations(source(name), name)


def load(mutation: Mutation | None) -> None:
    """Have `modules` hold this mutant. Raises whatever the mutant raises when it is imported."""
    installed = {original.__name__: sys.modules[original.__name__] for original in SOURCES.values()}
    try:
        for name, original in SOURCES.items():
            mutated = mutation is not None and re.split("[.:]", mutation.name)[0] == name
            tree = mutation.tree() if mutation is not None and mutated else ast.parse(source(name))
            module = ModuleType(original.__name__)
            sys.modules[module.__name__] = modules[name] = module
            exec(compile(tree, f"<{name}>", "exec"), module.__dict__)
    finally:
        sys.modules.update(installed)
