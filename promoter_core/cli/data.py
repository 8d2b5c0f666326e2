"""A job's data as an argument: JSON, or `-` for stdin."""

from __future__ import annotations

import json
import sys
from typing import Any

from promoter_core import JobError


def read_data(text: str, *, as_text: bool = False) -> Any:
    """Return the data, or with `as_text` the bytes of the JSON. Raises JobError."""
    if text == "-":
        text = sys.stdin.read()
    value = _parse(text)
    return text.encode() if as_text else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise JobError(f"the job's data has the key {twice!r} twice in one object")
    return value


def _constant(name: str) -> Any:
    raise JobError(f"the job's data is not valid JSON: {name} is not a JSON number")


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as exc:
        raise JobError(
            f"the job's data is not valid JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}; "
            """quote it for the shell, as '{"to": "ada@example.com"}'"""
        ) from None
    except RecursionError:
        raise JobError("the job's data is nested too deep") from None
