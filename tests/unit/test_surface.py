"""The public surface: no name, argument, field or value of it changes unnoticed, and each name says what it is."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import pkgutil
import re
import typing

import pytest

import promoter_core
from promoter_core import spi
from tests.typed import present
from tests.unit import surface

LAZY = {"TYPE_CHECKING", "__all__", "_HOMES"}


@pytest.mark.parametrize(("module", "defined"), [(promoter_core, LAZY | {"__version__"}), (spi, LAZY)])
def test_a_public_module_imports_its_names_and_defines_none(module, defined):
    docstring, *body = ast.parse(inspect.getsource(module)).body
    assert isinstance(docstring, ast.Expr)
    imported: dict[str, str | None] = {}
    assigned: set[str] = set()
    for node in body:
        match node:
            case ast.ImportFrom(module="__future__" | "promoter_core.spi.lazy"):
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=imports, orelse=[]):
                for line in imports:
                    assert isinstance(line, ast.ImportFrom), ast.unparse(line)
                    assert present(line.module).startswith("promoter_core")
                    imported |= {alias.name: line.module for alias in line.names if alias.asname is None}
            case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="TYPE_CHECKING"))):
                assert "\n".join(map(ast.unparse, node.body)) == "__getattr__, __dir__ = lazy_names(__name__, _HOMES)"
            case ast.Assign(targets=[ast.Name(id=name)]):
                assigned.add(name)
            case _:
                pytest.fail(f"{module.__name__} has more than imports: {ast.unparse(node)}")
    assert assigned == defined
    assert set(imported) == set(module.__all__)
    homes = {name: f"{module.__name__}.{home}" for home, names in module._HOMES.items() for name in names}
    modules = {f"{source}.{name}": source for name, source in imported.items()}  # of names that are modules
    assert {name: modules.get(home, home) for name, home in homes.items()} == imported, "the table says the same"


@pytest.mark.parametrize("module", [promoter_core, spi])
def test_a_public_name_is_that_of_its_module_however_it_is_come_by(module):
    for home, names in module._HOMES.items():
        source = importlib.import_module(f"{module.__name__}.{home}")
        for name in names:
            value = source if name == home else getattr(source, name)
            assert getattr(module, name) is value
            assert vars(module)[name] is value, "it is kept"
    everything: dict[str, object] = {}
    exec(f"from {module.__name__} import *", everything)
    assert everything.keys() - {"__builtins__"} == set(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'Promotor'"):
        _ = module.Promotor
    with pytest.raises(ImportError, match="Promotor"):
        exec(f"from {module.__name__} import Promotor")


def test_the_public_surface_is_the_committed_one():
    before, after = surface.COMMITTED.read_text().splitlines(), surface.render().splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    if changed:
        told = ["the public surface has changed:", *changed, f"if that is meant, rewrite it: {surface.COMMAND}"]
        pytest.fail("\n".join(told), pytrace=False)


@pytest.mark.parametrize("module", [promoter_core, spi, spi.sink_options], ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is(module):
    constants = set(commented_constants())
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert ast.get_docstring(surface.source(value)), f"{name} has no docstring"
        else:
            assert name in constants or (inspect.ismodule(value) and value.__doc__), f"{name} has no comment"


def commented_constants():
    """The constants of the SPI that have a comment, on their line or before it."""
    for found in pkgutil.walk_packages(spi.__path__, "promoter_core.spi."):
        text = inspect.getsource(importlib.import_module(found.name))
        yield from re.findall(r"^#.*\n(\w+) = ", text, re.M)
        yield from re.findall(r"^(\w+) = .*  # ", text, re.M)


def test_public_signatures_name_public_types():
    public = [getattr(module, name) for module in (promoter_core, spi) for name in module.__all__]
    hints = [hint for value in public for part in annotated(value) for hint in typing.get_type_hints(part).values()]
    assert {cls for hint in hints for cls in classes(hint)} - set(public) == set()


def annotated(value):
    """A function; a class, and its public methods and properties."""
    if inspect.isfunction(value):
        yield inspect.unwrap(value)
    elif inspect.isclass(value):
        yield value
        for name, member in vars(value).items():
            if not name.startswith("_") or name == "__init__":
                yield from annotated(member.fget if isinstance(member, property) else member)


def classes(hint):
    """The classes of the core in a type."""
    if isinstance(hint, list):  # the arguments of a Callable
        return [cls for part in hint for cls in classes(part)]
    if inspect.isclass(hint) and hint.__module__.startswith("promoter_core"):
        return [hint]
    return [cls for part in typing.get_args(hint) for cls in classes(part)]
