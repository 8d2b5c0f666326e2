"""Report a broken obligation: its text, its place in `spi/`, and the observed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from promoter_core import spi

LONGEST = 500  # characters of a value
HEAD = 350  # of those, from the start


def obliges(where: str, obligation: str, holds: bool, **seen: Any) -> None:
    """Fail unless `holds`.

    `where` is a class or method of `promoter_core.spi`, such as "Backend.promote". `obligation` is a verbatim part of
    its docstring. `seen` are the observed values. Long ones show how they differ from `expected`, if it is among them.
    """
    __tracebackhide__ = True
    if not _says(where, obligation):
        raise LookupError(f"promoter_core.spi.{where} does not say {obligation!r}")
    if not holds:
        shown = "".join(f"\n  {name}: {_shown(name, value, seen)}" for name, value in seen.items())
        raise AssertionError(f"broken obligation of {where}: “{obligation}”{shown}\n  see promoter_core.spi.{where}")


@cache
def _says(where: str, obligation: str) -> bool:
    return " ".join(obligation.split()) in docstring(where)


@cache
def docstring(where: str) -> str:
    """Return the docstring of `where`, with whitespace collapsed."""
    target: Any = spi
    for name in where.split("."):
        target = getattr(target, name)
    return " ".join((target.__doc__ or "").split())


def _shown(name: str, value: Any, seen: Mapping[str, Any]) -> str:
    expected = seen.get("expected")
    if name == "expected" or expected is None or len(repr(value)) <= LONGEST:
        return _short(value)
    differences = _differences(value, expected)
    return _short(value) if differences is None else f"differs from expected: {_short_list(differences)}"


def _differences(value: Any, expected: Any) -> list[str] | None:
    """Return the differing items of two mappings or two sequences; None for other values, or if none differ."""
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        mine, right = dict(value), dict(expected)
    elif _is_sequence(value) and _is_sequence(expected):
        mine, right = dict(enumerate(value)), dict(enumerate(expected))
    else:
        return None
    keys = [key for key in {**mine, **right} if key not in mine or key not in right or mine[key] != right[key]]
    return [f"[{key!r}] {_item(mine, key)}, expected {_item(right, key)}" for key in keys] or None


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _item(items: Mapping[Any, Any], key: Any) -> str:
    return repr(items[key]) if key in items else "nothing"


def _short_list(texts: Sequence[str]) -> str:
    """Join as many as fit, and count the others."""
    fit, length = 0, 0
    while fit < len(texts) and (length := length + len(texts[fit])) <= LONGEST:
        fit += 1
    shown = "; ".join(texts[:fit]) if fit else _short(texts[0], text=True)
    left = len(texts) - max(fit, 1)
    return f"{shown}; and {left} more" if left else shown


def _short(value: Any, *, text: bool = False) -> str:
    """Leave out the middle of a long value: the end of a sequence can show the fault as well as its head."""
    shown = value if text else repr(value)
    if len(shown) <= LONGEST:
        return str(shown)
    return f"{shown[:HEAD]} … {shown[HEAD - LONGEST :]} ({len(shown)} characters)"
