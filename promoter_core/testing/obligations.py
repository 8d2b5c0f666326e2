"""How a conformance test says what was broken: the obligation, where it stands in `contracts/`, and what was seen."""

from __future__ import annotations

from functools import cache
from typing import Any

from promoter_core import contracts


def obliges(where: str, obligation: str, holds: bool, **seen: Any) -> None:
    """Fail unless `holds`.

    `where` is a class or method of `promoter_core.contracts`, such as "Backend.promote"; `obligation` is a part of its
    docstring, word for word; `seen` is what the test saw.
    """
    __tracebackhide__ = True
    if " ".join(obligation.split()) not in docstring(where):
        raise LookupError(f"promoter_core.contracts.{where} does not say {obligation!r}")
    if not holds:
        shown = "".join(f"\n  {name}: {_short(value)}" for name, value in seen.items())
        raise AssertionError(
            f"broken obligation of {where}: “{obligation}”{shown}\n  see promoter_core.contracts.{where}"
        )


@cache
def docstring(where: str) -> str:
    """The docstring of `where`, white space folded."""
    target: Any = contracts
    for name in where.split("."):
        target = getattr(target, name)
    return " ".join((target.__doc__ or "").split())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:500]}… ({len(text)} characters)"
