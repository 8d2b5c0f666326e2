"""Write docs/reference/api.md from the docstrings of what applications and tests import, with tested examples.

python docs/reference/render_api.py           # write
python docs/reference/render_api.py --check   # fail if the page is stale

The run fails for a public name without a docstring or without a section. An example is a file in docs/examples/api/:
its code is shown, and the text after `# prints` is its output.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from render_spi import is_field, source

from promoter_core import spi, sync

EXAMPLES = Path(__file__).parents[1] / "examples/api"
PAGE = Path(__file__).parent / "api.md"
CORE = "promoter_core"
# Heading, module, names, and the examples that use them. A name that has no place here fails the run.
SECTIONS = (
    ("Connect", CORE, ["connect", "Credentials", "Backend"], ["connect"]),
    ("Schedule and manage jobs", CORE, ["DelayedQueue", "Job", "Scheduled", "JobOutcome"], ["schedule"]),
    ("Look at jobs and queues", CORE, ["DelayedJob", "Page", "QueueStats", "list_queues", "QueueInfo"], ["look"]),
    ("Change many jobs", CORE, ["BulkResult", "BulkInterrupted"], ["bulk"]),
    (
        "Move jobs to another store",
        CORE,
        ["export_jobs", "ExportedPage", "import_jobs", "copy_jobs", "Transferred", "TransferError"],
        ["transfer"],
    ),
    (
        "Consume and retry",
        CORE,
        ["unpack_envelope", "Envelope", "RetryOverrides", "Backoff", "RetriesExhausted"],
        ["retry"],
    ),
    ("Promote", CORE, ["Promoter", "PromoterFleet", "Runner", "Health"], ["promote"]),
    ("Settings", CORE, ["PromoterSettings", "Overflow"], ["settings"]),
    ("Serializers and plugins", CORE, ["Serializer", "Registry", "Registered", "BrokenPlugin"], ["plugins"]),
    (
        "Errors",
        CORE,
        [
            "PromoterError",
            "ConfigError",
            "JobError",
            "JobExistsError",
            "PluginError",
            "BackendError",
            "TransientError",
            "PermanentError",
        ],
        ["errors"],
    ),
    (
        "Code that blocks: `promoter_core.sync`",
        "promoter_core.sync",
        ["connect", "Connection", "DelayedQueue", "list_queues"],
        ["blocking"],
    ),
    (
        "Tests: `promoter_core.testing`",
        "promoter_core.testing",
        ["VirtualClock", "RecordingEvents", "RecordingMetrics", "FaultyBackend", "Fault"],
        ["testing"],
    ),
    ("Health pages: `promoter_core.web`", "promoter_core.web", ["serving", "parse_address"], ["pages"]),
)
# Contracts that authors implement: the page of the SPI has their methods.
CONTRACTS = {"Backend", "Serializer"}
# Classes that are written for a contract, whose methods have its docstrings.
WRITTEN_FOR = {
    "VirtualClock": spi.Clock,
    "RecordingEvents": spi.EventSink,
    "RecordingMetrics": spi.MetricsSink,
    "FaultyBackend": spi.Backend,
}
OPTIONAL = {name for cls in vars(spi.sinks).values() if inspect.isclass(cls) for name in vars(cls)}
MISSING: list[str] = []  # public names without a docstring
HEAD = """# API for applications

Everything that applications import from `promoter_core`, `promoter_core.sync`, `promoter_core.testing` and
`promoter_core.web`. [Versioning](versioning.md) says what can change. Authors of backends, sinks and commands use the
[service provider interface](spi.md).

`python docs/reference/render_api.py` writes this page from the docstrings. Each example runs in a test.

"""


def render() -> str:
    parts = [HEAD]
    left = {
        (module, name) for module in dict.fromkeys(s[1] for s in SECTIONS) for name in import_module(module).__all__
    }
    for heading, path, names, examples in SECTIONS:
        module = import_module(path)
        parts.append(f"## {heading}\n\n")
        parts += map(example, examples)
        for name in names:
            left.remove((path, name))
            full = name if path == CORE else f"{path.rpartition('.')[2]}.{name}"
            parts += entry(full, getattr(module, name))
    if left:
        sys.exit(f"{Path(__file__).name} has no section for {', '.join('.'.join(pair) for pair in sorted(left))}")
    if MISSING:
        sys.exit(f"public, without a docstring: {', '.join(MISSING)}")
    return "".join(parts).rstrip() + "\n"


def example(name: str) -> str:
    code, _, printed = (EXAMPLES / f"{name}.py").read_text().partition("\n# prints\n")
    shown = ", ".join(f"`{line.removeprefix('# ')}`" for line in printed.strip().splitlines())
    text = f"It prints {shown}"
    return f"```python\n{code.strip()}\n```\n\n{wrapped(text)}.\n\n"


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def entry(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`\n\n"
    if not inspect.isclass(value) and not inspect.isfunction(value):
        yield alias(name.rpartition(".")[2])
        return
    if inspect.isfunction(value):
        yield f"```py\n{call(name, value)}\n```\n\n{documented(name, value)}\n\n"
        return
    bases = [base.__name__ for base in value.__bases__ if base.__name__ in import_module(CORE).__all__]
    if value.__name__ in CONTRACTS:
        yield f"{documented(name, value)}\n\n"
        yield f"The SPI page lists [its methods](spi.md#{value.__name__.lower()}).\n\n"
        return
    yield f"```py\nclass {head(name, value, bases)}\n```\n\n{documented(name, value)}\n\n"
    if (init := vars(value).get("__init__")) is not None and init.__doc__ and not dataclasses.is_dataclass(value):
        yield f"{inspect.cleandoc(init.__doc__)}\n\n"
    if fields := list(fields_of(value)):
        yield "```py\n" + "\n".join(fields).replace("_: KW_ONLY", "*") + "\n```\n\n"
    if value is sync.DelayedQueue:
        yield "It has the methods of [`DelayedQueue`](#delayedqueue), without `await`.\n\n"
        return
    contract = WRITTEN_FOR.get(value.__name__)
    if contract is not None:
        yield f"It has the methods of [`{contract.__name__}`](spi.md#{contract.__name__.lower()}).\n\n"
    for method, member, function in members(value):
        if hasattr(contract, method) or (contract is not None and method in OPTIONAL):
            continue
        shown = f"{name}.{method}"
        if isinstance(member, property):
            returned = str(inspect.signature(function).return_annotation)
            yield f"#### `{shown}: {returned}`\n\n{documented(shown, function)}\n\n"
        else:
            yield f"#### `{shown}`\n\n```py\n{call(method, function)}\n```\n\n{documented(shown, function)}\n\n"


def alias(name: str) -> str:
    """A type that has a name, with the comment before it."""
    home = next(home for home, names in import_module(CORE)._HOMES.items() if name in names)
    module = import_module(f"{CORE}.{home}")
    node = next(
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    comment, _, code = source(node, module).rpartition(f"{name} = ")
    if not comment.strip():
        sys.exit(f"{name} is public and has no comment")
    text = " ".join(line.lstrip("# ") for line in comment.splitlines())
    return f"```py\n{name} = {code}\n```\n\n{wrapped(text)}\n\n"


def signature(name: str, function: Any) -> str:
    """The arguments as they are written, without `self`."""
    given = inspect.signature(function)
    shown = [
        parameter.replace(annotation=written(parameter.annotation), default=default_of(parameter))
        for parameter in given.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return name + str(inspect.Signature(shown, return_annotation=written(given.return_annotation)))


def written(annotation: object) -> object:
    return Text(annotation) if isinstance(annotation, str) else annotation


def default_of(parameter: inspect.Parameter) -> object:
    default = parameter.default
    if isinstance(default, enum.Enum):
        return Text(f"{type(default).__name__}.{default.name}")
    return default


class Text(str):
    """Shown without quotes."""

    __repr__ = str.__str__


def head(name: str, value: type, bases: list[str]) -> str:
    """A class with the arguments that make one, or with its bases."""
    init = next((vars(base)["__init__"] for base in ours(value) if "__init__" in vars(base)), None)
    made = init is not None and not dataclasses.is_dataclass(value) and not inspect.isabstract(value)
    arguments = ", ".join(bases)
    if made and not issubclass(value, BaseException):
        return formatted(name.rpartition(".")[2] + signature("", init).removesuffix(" -> None"))
    return f"{name.rpartition('.')[2]}" + (f"({arguments})" if arguments else "")


def fields_of(value: type) -> Iterator[str]:
    if not (dataclasses.is_dataclass(value) or issubclass(value, enum.Enum)):
        return
    module = sys.modules[value.__module__]
    tree = ast.parse(inspect.getsource(module))
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == value.__name__)
    yield from (source(line, module) for line in node.body if is_field(line))


def members(value: type) -> Iterator[tuple[str, Any, Any]]:
    """The public methods and properties of a class, those of private bases too: a public base has its own entry."""
    seen = set()
    for base in ours(value):
        if base is not value and base.__name__ in import_module(CORE).__all__:
            continue
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not name.startswith("_") and name not in seen and inspect.isfunction(function):
                seen.add(name)
                yield name, member, function


def ours(value: type) -> list[type]:
    return [base for base in value.__mro__ if base.__module__.startswith("promoter_core")]


def documented(name: str, value: Any) -> str:
    text = value.__doc__ if inspect.isfunction(value) else vars(value).get("__doc__")
    if not text:
        MISSING.append(name)
    return inspect.cleandoc(text or "")


def call(name: str, function: Any) -> str:
    inner = inspect.unwrap(function)
    kind = "async " if inspect.iscoroutinefunction(inner) else ""
    if inner is not function and inspect.isasyncgenfunction(inner):
        kind = "async with "
    elif inspect.isasyncgenfunction(inner):
        kind = "async for item in "
    return kind + formatted(signature(name.rpartition(".")[2], inner))


def formatted(text: str) -> str:
    """One argument a line where the line is long."""
    if len(text) <= 100:
        return text
    start, _, rest = text.partition("(")
    depth, parts, last = 0, [], 0
    for i, letter in enumerate(rest):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth < 0:
                parts.append(rest[last:i])
                return f"{start}(\n" + "".join(f"    {part.strip()},\n" for part in parts) + f"){rest[i + 1 :]}"
        elif letter == "," and depth == 0:
            parts.append(rest[last:i])
            last = i + 1
    return text


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page and f"{PAGE.name} is stale: python docs/reference/{Path(__file__).name}")
    PAGE.write_text(page)
