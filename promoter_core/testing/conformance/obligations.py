"""How a conformance test says what was broken: the obligation, where it stands in `spi/`, and what was seen."""

from __future__ import annotations

from functools import cache
from typing import Any

from promoter_core import spi


def obliges(where: str, obligation: str, holds: bool, **seen: Any) -> None:
    """Fail unless `holds`.

    `where` is a class or method of `promoter_core.spi`, such as "Backend.promote"; `obligation` is a part of its
    docstring, word for word; `seen` is what the test saw.
    """
    __tracebackhide__ = True
    if " ".join(obligation.split()) not in docstring(where):
        raise LookupError(f"promoter_core.spi.{where} does not say {obligation!r}")
    if not holds:
        shown = "".join(f"\n  {name}: {_short(value)}" for name, value in seen.items())
        raise AssertionError(f"broken obligation of {where}: “{obligation}”{shown}\n  see promoter_core.spi.{where}")


@cache
def docstring(where: str) -> str:
    """The docstring of `where`, white space folded."""
    target: Any = spi
    for name in where.split("."):
        target = getattr(target, name)
    return " ".join((target.__doc__ or "").split())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:500]}… ({len(text)} characters)"
