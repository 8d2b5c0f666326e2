"""The public surface as text: all that `promoter_core`, its `spi`, `sync` and `monitor` list in `__all__`.

python -m tests.unit.surface            # print it
python -m tests.unit.surface --write    # write public_api.txt, which a test compares it with

Each line begins with the full name of one thing and shows all of it that a user relies on, so the lines in which two
renderings differ say what has changed. Annotations are shown as they are written, and nothing is shown that differs
between the supported versions of Python.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
import sys
import textwrap
from pathlib import Path

import promoter_core
from promoter_core import monitor, spi, sync
from tests.typed import present, untyped

COMMITTED = Path(__file__).with_name("public_api.txt")
COMMAND = "python -m tests.unit.surface --write"


class Text(str):
    """Shown without quotes."""

    __repr__ = str.__str__


def render():
    lines = [f"# promoter_core: {len(promoter_core.__all__)} names"]
    for name in listed(promoter_core):
        value = getattr(promoter_core, name)
        same = getattr(spi, name, None) is value and name in spi.__all__
        lines += (
            [f"promoter_core.{name} is promoter_core.spi.{name}"] if same else entry(f"promoter_core.{name}", value)
        )
    lines += ["", f"# promoter_core.spi: {len(spi.__all__)} names"]
    for name in listed(spi):
        lines += entry(f"promoter_core.spi.{name}", getattr(spi, name))
    lines += ["", f"# promoter_core.sync: {len(sync.__all__)} names"]
    for name in listed(sync):
        lines += entry(f"promoter_core.sync.{name}", getattr(sync, name))
    lines += ["", f"# promoter_core.monitor: {len(monitor.__all__)} names"]
    for name in listed(monitor):
        lines += entry(f"promoter_core.monitor.{name}", getattr(monitor, name))
    return "\n".join(lines) + "\n"


def listed(module):
    return sorted(module.__all__, key=lambda name: (name.lower(), name))


def entry(path, value):
    """The lines of one name."""
    if inspect.ismodule(value):
        yield f"{path}: module"
        for name in listed(value):
            yield from entry(f"{path}.{name}", getattr(value, name))
    elif inspect.isclass(value):
        yield f"{path}: {kind(value)}{bases(value)}{constructor(value)}"
        yield from (f"{path}.{line}" for line in members(value))
    elif inspect.isfunction(value):
        yield f"{path}: {function(value)}"
    else:
        yield f"{path}: {constant(value)}"


def kind(cls):
    if issubclass(cls, enum.Enum):
        return "enum"
    if issubclass(cls, BaseException):
        return "exception"
    if is_protocol(cls):
        return "runtime-checkable protocol" if vars(cls).get("_is_runtime_protocol") else "protocol"
    if dataclasses.is_dataclass(cls):
        return "frozen dataclass" if untyped(cls).__dataclass_params__.frozen else "dataclass"
    return "abstract class" if inspect.isabstract(cls) else "class"


def bases(cls):
    names = [base.__name__ for base in cls.__bases__ if base.__name__ not in ("object", "Protocol", "ABC")]
    return f" of {', '.join(names)}" if names else ""


def constructor(cls):
    """Its arguments, where it can be called, a class of ours defines them, and they are not those of its fields."""
    init = next((vars(base)["__init__"] for base in ours(cls) if "__init__" in vars(base)), None)
    if init is None or is_protocol(cls) or inspect.isabstract(cls) or dataclasses.is_dataclass(cls):
        return ""
    return " " + arguments(init, bound=True).removesuffix(" -> None")


def members(cls):
    """The public members that are its own or those of a private base, in the order of their definition."""
    if issubclass(cls, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in cls)
    elif dataclasses.is_dataclass(cls):
        yield from map(field, dataclasses.fields(cls))
    for base in ours(cls):
        if base is not cls and is_public(base):
            continue
        if not dataclasses.is_dataclass(base):
            yield from attributes(base)
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if isinstance(member, property):
                signature = inspect.signature(present(member.fget))
                settable = "settable " if member.fset else ""
                yield f"{name}: {settable}property -> {annotation(signature.return_annotation)}"
            elif isinstance(member, staticmethod | classmethod):
                yield f"{name}: {type(member).__name__} {function(member.__func__, isinstance(member, classmethod))}"
            elif inspect.isfunction(member):
                yield f"{name}: {function(member, bound=True)}"


def field(field):
    text = f"{field.name}: {field.type}"
    if field.default is not dataclasses.MISSING:
        text += f" = {shown(field.default)}"
    elif field.default_factory is not dataclasses.MISSING:
        text += f" = {field.default_factory.__name__}()"
    return text + (", keyword-only" if field.kw_only else "")


def attributes(cls):
    """Those that are annotated in the class, and those that `__init__` sets."""
    for name, annotated in inspect.get_annotations(cls).items():
        if not name.startswith("_"):
            yield f"{name}: attribute {annotated}"
    if "__init__" not in vars(cls):
        return
    for node in ast.walk(source(vars(cls)["__init__"])):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            match target:
                case ast.Attribute(value=ast.Name(id="self"), attr=name) if not name.startswith("_"):
                    yield f"{name}: attribute"


def function(function, bound=False):
    inner = inspect.unwrap(function)
    kind = "function"
    if inner is not function and inspect.isasyncgenfunction(inner):
        kind = "async context manager"
    elif inspect.iscoroutinefunction(inner):
        kind = "async function"
    elif inspect.isasyncgenfunction(inner):
        kind = "async generator"
    return f"{kind} {arguments(function, bound)}"


def arguments(function, bound):
    """The signature, without `self` where it is bound."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=annotation(parameter.annotation),
            default=parameter.default if parameter.default is inspect.Parameter.empty else shown(parameter.default),
        )
        for parameter in list(signature.parameters.values())[bound:]
    ]
    return str(inspect.Signature(parameters, return_annotation=annotation(signature.return_annotation)))


def annotation(written):
    return Text(written) if isinstance(written, str) else written


def shown(value):
    if isinstance(value, enum.Enum):
        return Text(f"{type(value).__name__}.{value.name}")
    if " at 0x" in repr(value):
        return Text(f"<{type(value).__name__}>")
    return Text(repr(value))


def constant(value):
    if type(value).__module__ in ("typing", "collections.abc", "types"):
        return f"type {re.sub(r'(collections.abc|typing)[.]', '', repr(value))}"
    text = shown(value)
    return type(value).__name__ + ("" if text.startswith("<") else f" = {text}")


def ours(cls):
    return [base for base in cls.__mro__ if base.__module__.startswith("promoter_core")]


def is_public(cls):
    return any(getattr(module, cls.__name__, None) is cls for module in (promoter_core, spi))


def is_protocol(cls):
    return bool(vars(cls).get("_is_protocol", False))


def source(value):
    """The syntax tree of a class or a function."""
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


if __name__ == "__main__":
    if "--write" in sys.argv:
        COMMITTED.write_text(render())
    else:
        sys.stdout.write(render())
