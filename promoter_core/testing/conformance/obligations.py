"""Report a broken obligation: its text, its place in `spi/`, and the observed values."""

from __future__ import annotations

from functools import cache
from typing import Any

from promoter_core import spi


def obliges(where: str, obligation: str, holds: bool, **seen: Any) -> None:
    """Fail unless `holds`.

    `where` is a class or method of `promoter_core.spi`, such as "Backend.promote". `obligation` is a verbatim part of
    its docstring. `seen` are the observed values.
    """
    __tracebackhide__ = True
    if not _says(where, obligation):
        raise LookupError(f"promoter_core.spi.{where} does not say {obligation!r}")
    if not holds:
        shown = "".join(f"\n  {name}: {_short(value)}" for name, value in seen.items())
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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:500]}… ({len(text)} characters)"
