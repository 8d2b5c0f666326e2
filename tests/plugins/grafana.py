"""Whether a document is a dashboard by Grafana's own schema, as its published Python types have it."""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Iterator
from typing import Any


def problems(document: Any) -> Iterator[str]:
    """Fields that Grafana does not know, and values of another type than it takes."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    dashboard = Dashboard.from_json(document)
    yield from _lost(document, json.loads(JSONEncoder().encode(dashboard)), "")
    yield from _wrong(dashboard, Dashboard, "")


def _lost(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{path}/{key}: unknown"
            else:
                yield from _lost(value, theirs[key], f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{path}/{i}")
    elif ours != theirs:
        yield f"{path}: {ours!r} is read as {theirs!r}"


def _wrong(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        tries = [list(_wrong(value, one, path)) for one in inner]
        if all(tries):
            yield from min(tries, key=len)
    elif origin is list and isinstance(value, list):
        for i, one in enumerate(value):
            yield from _wrong(one, inner[0], f"{path}/{i}")
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from _wrong(one, inner[1], f"{path}/{key}")
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{path}: {value!r} is none of {inner}"
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in {one.value for one in hint}:
            yield f"{path}: {value!r} is no {hint.__name__}"
    elif hint is float and type(value) is int:
        pass
    elif isinstance(expected := origin or hint, type) and hint is not object:
        if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
            yield f"{path}: {value!r} is no {expected.__name__}"
        elif expected.__module__.startswith("grafana_foundation_sdk"):
            for name, of in typing.get_type_hints(type(value)).items():
                yield from _wrong(getattr(value, name), of, f"{path}/{name}")
