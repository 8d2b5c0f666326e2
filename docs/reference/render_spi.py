"""Write docs/reference/spi.md from the docstrings and fields of `promoter_core.spi`.

python docs/reference/render_spi.py           # write
python docs/reference/render_spi.py --check   # fail if the page is stale
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from promoter_core import spi

# Heading, introduction, modules in order. A name that has no place here fails the run.
SECTIONS = (
    ("The contract of a backend", "Every backend has these methods.", ["backend"]),
    (
        "Optional abilities of a backend",
        "A backend has an ability if it has the methods. The core checks with `isinstance`.",
        [
            "optional.phases",
            "optional.discovery",
            "optional.fleet",
            "optional.management",
            "optional.dead_letters",
            "optional.diagnostics",
            "optional.layouts",
        ],
    ),
    ("Sinks", "", ["sinks"]),
    ("Serializers", inspect.getdoc(import_module("promoter_core.spi.serializers")), ["serializers"]),
    ("Values", inspect.getdoc(import_module("promoter_core.spi.model")), ["model"]),
    ("Errors", inspect.getdoc(import_module("promoter_core.spi.errors")), ["errors"]),
    ("Specs", "A plugin's hooks yield these; see [hooks](hooks.md).", ["hooks", "pages"]),
    ("Layout", inspect.getdoc(import_module("promoter_core.spi.layouts")), ["layouts", "queue_keys"]),
    ("Layouts in place", inspect.getdoc(import_module("promoter_core.spi.in_place")), ["in_place"]),
    ("Time", inspect.getdoc(import_module("promoter_core.spi.clock")), ["clock"]),
    (
        "Helpers",
        "For building backends and sinks.",
        [
            "urls",
            "url_options",
            "lifecycle",
            "calls",
            "push",
            "batches",
            "change_flags",
            "wire",
            "names",
            "sink_options",
            "tasks",
            "lateness",
        ],
    ),
)
PAGE = Path(__file__).parent / "spi.md"
HEAD = """# The service provider interface

Everything in `promoter_core.spi`, for authors of backends, sinks and commands. Import from the package, not from its
modules: `from promoter_core.spi import Backend, Lease`. It follows semantic versioning. A backend, a sink or a clock is
any object with these methods; it does not have to inherit from anything.

`python docs/reference/render_spi.py` writes this page from the docstrings.

"""


def render() -> str:
    parts, left = [HEAD], set(spi.__all__)
    for heading, text, modules in SECTIONS:
        parts.append(f"## {heading}\n\n" + (f"{text}\n\n" if text else ""))
        for path in modules:
            module = import_module(f"promoter_core.spi.{path}")
            tree = ast.parse(inspect.getsource(module))
            if path in left:  # the module itself is offered
                left |= {f"{path}.{name}" for name in module.__all__}
                left.remove(path)
            found = [(name, node) for name, node in defined(tree) if {name, f"{path}.{name}"} & left]
            for name, node in sorted(found, key=lambda pair: not is_protocol(getattr(module, pair[0]))):
                shown = name if name in left else f"{path}.{name}"
                left.remove(shown)
                parts += entry(shown, getattr(module, name), node, module)
    if left:
        sys.exit(f"{Path(__file__).name} has no section for {', '.join(sorted(left))}")
    return "".join(parts).rstrip() + "\n"


def defined(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what a module defines, in order."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name, node


def entry(name: str, value: Any, node: ast.stmt, module: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        yield f"### `{signature(name, value)}`\n\n{inspect.getdoc(value)}\n\n"
    elif not inspect.isclass(value):
        lines = source(node, module)
        statement, _, comment = lines.partition("  # ")
        short = "\n" not in lines
        yield f"### `{statement}`\n\n" if short else f"### `{name}`\n\n```\n{lines}\n```\n\n"
        if short and comment:
            yield f"{comment[0].upper()}{comment[1:]}.\n\n"
    else:
        assert isinstance(node, ast.ClassDef)
        parents = () if name.endswith("Support") else value.__bases__
        bases = ", ".join(base.__name__ for base in parents if base.__name__ in spi.__all__)
        yield f"### `{name}({bases})`\n\n".replace("()", "") + f"{inspect.getdoc(value)}\n\n"
        if fields := [source(line, module) for line in node.body if is_field(line)]:
            fields = ["*"] * takes_keywords_only(node) + fields
            yield "```\n" + "\n".join(fields).replace("_: KW_ONLY", "*") + "\n```\n\n"
        for method, member in vars(value).items():
            function = member.fget if isinstance(member, property) else member
            if method.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
                continue
            shown = signature(method, function)
            if isinstance(member, property):
                shown = shown.replace("()", "", 1)
            yield f"#### `{shown}`\n\n{inspect.getdoc(function)}\n\n"


def is_protocol(value: Any) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def is_field(node: ast.stmt) -> bool:
    """A field, or the member of an enum."""
    return isinstance(node, ast.AnnAssign | ast.Assign)


def takes_keywords_only(node: ast.stmt) -> bool:
    """A dataclass with `kw_only=True`."""
    decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
    return any("kw_only=True" in ast.unparse(decorator) for decorator in decorators)


def source(node: ast.stmt, module: Any) -> str:
    """The lines of a statement, with the comments before it and after it."""
    lines, first = inspect.getsource(module).splitlines(), node.lineno - 1
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return "\n".join(line[node.col_offset :] for line in lines[first : node.end_lineno])


def signature(name: str, function: Any) -> str:
    kind = "async " if inspect.iscoroutinefunction(function) else ""
    shown = re.sub(r"['\"]", "", str(inspect.signature(function)))
    return f"{kind}{name}{shown.replace('(self, ', '(').replace('(self)', '()')}"


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page and f"{PAGE.name} is stale: python docs/reference/{Path(__file__).name}")
    PAGE.write_text(page)
