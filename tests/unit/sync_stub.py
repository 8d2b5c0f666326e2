"""The type stub of `promoter_core.sync.queue`, whose methods are made at import from those of the asynchronous queue.

python -m tests.unit.sync_stub            # print it
python -m tests.unit.sync_stub --write    # write queue.pyi, which a test compares it with
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import promoter_core.sync.queue as blocking
from promoter_core.client import queues
from promoter_core.sync.blocking import blocking_signature, public_members
from tests.typed import present

COMMITTED = Path(blocking.__file__).with_suffix(".pyi")
COMMAND = "python -m tests.unit.sync_stub --write"
HEADER = f'"""Written by `{COMMAND}`."""\n\nfrom __future__ import annotations\n\n'


def render():
    """The stub: the queue, then the functions of the module."""
    asynchronous = vars(blocking.DelayedQueue)["_asynchronous"]
    body = [docstring(blocking.DelayedQueue), attributes(asynchronous), method("__init__", asynchronous.__init__)]
    body += [member(name, m) for name, m in public_members(asynchronous).items()]
    parts = ["class DelayedQueue:\n" + textwrap.indent("\n".join(filter(None, body)), "    ")]
    parts += [method(name, f) for name, f in functions().items()]
    text = "\n\n".join(parts)
    sources = [asynchronous, *functions().values()]
    return formatted(HEADER + imports(text, sources) + "\n\n" + text + "\n")


def functions():
    """The asynchronous functions of which the module has blocking forms, by name."""
    return {"list_queues": queues.list_queues}


def member(name, value):
    if isinstance(value, property):
        answer = inspect.signature(present(value.fget)).return_annotation
        return f"@property\ndef {name}(self) -> {answer}:\n{textwrap.indent(docstring(value) or '...', '    ')}"
    return method(name, value)


def method(name, function):
    signature = blocking_signature(function)
    text = str(signature.replace(parameters=[p.replace(annotation=Bare(p)) for p in signature.parameters.values()]))
    text = text.replace(f"-> {signature.return_annotation!r}", f"-> {signature.return_annotation}")
    return f"def {name}{text}:\n{textwrap.indent(docstring(function) or '...', '    ')}"


class Bare(str):
    """An annotation that `str(Signature)` shows without quotes."""

    __slots__ = ()

    def __new__(cls, parameter):
        empty = parameter.annotation is inspect.Parameter.empty
        return inspect.Parameter.empty if empty else super().__new__(cls, parameter.annotation)

    __repr__ = str.__str__


def docstring(value):
    text = inspect.getdoc(value)
    return None if text is None else f'"""{text}{chr(10) if chr(10) in text else ""}"""'


def attributes(cls):
    """Public instance attributes, with the types that mypy infers for them: all are text so far."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__)))  # of a base class, where it has none
    names = [
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and not target.attr.startswith("_")
    ]
    assert names == ["name"], "give a new public attribute its type here"
    return "name: str"


def imports(text, sources):
    """An import line for each name that `text` uses, from where the asynchronous module has it."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    homes = {"Connection": "promoter_core.sync.connection", "Iterator": "collections.abc"}
    for source in sources:
        for base in getattr(source, "__mro__", [source]):
            if base is object:
                continue
            module = import_module(base.__module__)
            for node in ast.parse(inspect.getsource(module)).body:
                if isinstance(node, ast.ImportFrom):
                    homes |= {a.asname or a.name: present(node.module) for a in node.names if a.name not in homes}
            homes |= {name: module.__name__ for name in vars(module) if name not in homes and name in used}
    return "\n".join(f"from {homes[name]} import {name}" for name in sorted(used) if name in homes)


def formatted(text):
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(COMMITTED), "-"]
    for command in (["check", "--select", "I", "--fix", "-q"], ["format", "-q"]):
        text = subprocess.run([*ruff, *command, *name], input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    if "--write" in sys.argv:
        COMMITTED.write_text(render())
    else:
        sys.stdout.write(render())
