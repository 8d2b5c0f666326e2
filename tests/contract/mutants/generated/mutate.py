"""Every small change of a module's code: operators, comparisons, constants, conditions, statements and arguments.

`mutations(source, module)` gives them one by one, each with a name that says where and what it is.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.typed import untyped

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
}
MEMBERS = {  # of enums: what is written instead of them
    "ChangeKind": ("JOBS", "LOCK", "MEMBERS"),
    "StreamName": ("JOBS", "EVENTS", "DLQ"),
    "Overflow": ("HOLD", "TRIM"),
    "JobOutcome": ("REMOVED", "NOT_FOUND"),
}
DROPPED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Continue, ast.Break, ast.Raise)


@dataclass(frozen=True)
class Mutation:
    name: str  # module, function and change; the same in every run
    function: str
    original: ast.Module
    old: ast.AST
    new: ast.AST

    def tree(self) -> ast.Module:
        """The module, with `new` in the place of `old`."""
        mutated: ast.Module = copy.deepcopy(self.original, {id(self.old): self.new})
        return ast.fix_missing_locations(mutated)


def mutations(source: str, module: str) -> Iterator[Mutation]:
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for function, node, parent in list(_nodes(tree)):
        for change, new in _changes(node, parent):
            place = f"{module}.{function}".rstrip(".")
            name = f"{place}: {change}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" #{seen[name]}"
            yield Mutation(name, place, tree, node, new)


def _nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """What may be changed, with the names of the classes and functions around it, and its parent."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST, ast.AST]]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or _is_prose(child) or isinstance(child, ast.Import | ast.ImportFrom):
                    continue
                inside = where
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    inside = f"{where}.{child.name}".lstrip(".")
                yield where, child, node
                yield from walk(child, inside)

    return walk(tree, "")


def _is_prose(node: ast.AST) -> bool:
    """Docstrings, assertions, and the words of an error."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Assert | ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    )


def _changes(node: ast.AST, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, DROPPED):
        yield f"without `{_line(node)}`", ast.copy_location(ast.Pass(), node)
        return
    for new in _instead(node, parent):
        if ast.dump(new) == ast.dump(node):
            continue
        yield _in_words(node, new), ast.copy_location(new, node)


def _in_words(old: ast.AST, new: ast.AST) -> str:
    if isinstance(old, ast.Call) and isinstance(new, ast.Call) and len(new.keywords) < len(old.keywords):
        (dropped,) = [keyword for keyword in old.keywords if keyword not in new.keywords]
        return f"`{_line(old.func)}(…)` without `{dropped.arg}=`"
    return f"`{_line(old)}` → `{_line(new)}`"


def _line(node: ast.AST) -> str:
    line = ast.unparse(node).split("\n")[0].strip()
    return line if len(line) <= 100 else f"{line[:100]}…"


def _instead(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for new in COMPARISONS[type(op)]:
                    yield _with(node, ops=[*ops[:i], new(), *ops[i + 1 :]])
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPERATORS:
                yield _with(node, op=OPERATORS[type(op)]())
            yield from (left, right)
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=ast.And() if isinstance(op, ast.Or) else ast.Or())
            for i in range(len(values)):
                rest = [*values[:i], *values[i + 1 :]]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=value):
            yield from (ast.Constant(untyped(other)) for other in _other_constants(value))
        case ast.If() | ast.While():
            if isinstance(node, ast.If):
                yield _with(node, test=ast.Constant(True))
            yield _with(node, test=ast.Constant(False))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.Call():
            yield from _other_calls(node)
        case ast.Slice(lower=lower, upper=upper):
            if lower is not None:
                yield _with(node, lower=None)
            if upper is not None:
                yield _with(node, upper=None)
        case ast.Attribute(value=ast.Name(id=enum), attr=attr) if attr in MEMBERS.get(enum, ()):
            for other in MEMBERS[enum]:
                if other != attr:
                    yield _with(node, attr=other)
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield _with(node, value=None)
        case ast.Tuple(elts=[first, second], ctx=ast.Load()) if not isinstance(parent, ast.Subscript):
            yield _with(node, elts=[second, first])


def _other_constants(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    if isinstance(value, str):
        return (f"{value}x",)
    if isinstance(value, bytes):
        return (value + b"x",)
    return ()


def _other_calls(call: ast.Call) -> Iterator[ast.AST]:
    args, keywords = call.args, call.keywords
    if isinstance(call.func, ast.Name) and call.func.id in ("min", "max") and len(args) == 2:
        yield _with(call, func=ast.Name("max" if call.func.id == "min" else "min", ast.Load()))
        yield from args
        return  # their order means nothing
    for i in range(len(args) - 1):
        yield _with(call, args=[*args[:i], args[i + 1], args[i], *args[i + 2 :]])
    for i in range(len(keywords)):
        yield _with(call, keywords=[*keywords[:i], *keywords[i + 1 :]])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
