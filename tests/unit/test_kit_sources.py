"""How the conformance kit fails and skips: always in words, never by a bare assert or an answer of another length."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from promoter_core.testing import conformance
from promoter_core.testing.conformance.answers import ONE_EACH  # whose answers it has counted

SOURCES = sorted(Path(conformance.__file__).parent.glob("*.py"))
ALLOWED: set[str] = set()  # `file: statement` of what stays all the same


def complaints(tree: ast.Module) -> list[str]:
    return [f"line {vars(node)['lineno']}: {ast.unparse(node)}" for node in ast.walk(tree) if is_mute(node)]


def is_mute(node: ast.AST) -> bool:
    """Whether it fails without saying which obligation was broken, or skips without saying what it needs."""
    match node:
        case ast.Assert():
            return True
        case ast.Assign(targets=[ast.Tuple(elts=[_])], value=value):
            call = value.value if isinstance(value, ast.Await) else value
            return not (
                isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ONE_EACH
            )
        case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"))):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="pytest"), attr="skip"), args=[reason]):
            return not ast.unparse(reason).lstrip("f'\"").startswith("needs ")
    return False


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_failure_and_every_skip_has_its_words(source):
    assert set(complaints(ast.parse(source.read_text()))) - ALLOWED == set()


@pytest.mark.parametrize(
    "code",
    ["assert ok, 'no obligation'", "(one,) = await kit.arrivals()", "raise ValueError('x')", "pytest.skip('not here')"],
)
def test_what_is_complained_of(code):
    assert complaints(ast.parse(code))


@pytest.mark.parametrize("code", ["(one,) = await kit.schedule('a')", "pytest.skip(f'needs the fixture {x}')"])
def test_what_is_not(code):
    assert not complaints(ast.parse(code))


def test_no_two_files_have_a_test_of_one_name():
    """All contracts are bases of one class: one would hide the other."""
    names = Counter(
        node.name
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
    )
    assert [name for name, count in names.items() if count > 1] == []
