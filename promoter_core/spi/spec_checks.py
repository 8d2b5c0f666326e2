"""Check the specs that a plugin's hook yielded, and find the known name nearest to an unknown one. For the registry."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

__all__ = ["is_installed", "nearest", "spec_problem"]


def spec_problem(spec: Any, hook: str, cls: type[Any]) -> str | None:
    """Return why a hook's result cannot be used."""
    if not isinstance(spec, cls):
        return f"{hook} gave {spec!r}, expected {cls.__name__}"
    for field in fields(cls):
        value = getattr(spec, field.name)
        texts = [value] if field.type == "str" else value
        if not (isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)):
            return f"{hook} gave {cls.__name__}({field.name}={value!r}), expected {field.type}"
    return None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar known name, if any."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def is_installed(module: str) -> bool:
    """Return whether a module can be found. Its parent package is imported, the module itself is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (Exception, SystemExit):  # a parent package is missing or cannot be imported
        return False
