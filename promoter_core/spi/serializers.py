"""`Serializer`: turns a job's data into the payload of its envelope, and back. `MSGPACK` is the default.

The payload is opaque to Promoter and to every store. Stream entries do not name the serializer: producers and consumers
of a queue agree on one. All of Promoter's own serializers except `json` write msgpack, so any of them, and any consumer
in another language, can read the output of another.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol, cast, runtime_checkable

import msgpack

from promoter_core.spi.errors import ConfigError, JobError, PromoterError

DEEPEST = 500  # levels; msgpack itself supports a few more
NON_TEXT_KEY = "non-text key"  # stands for a dict's non-text key in `SerializerSpec.types`


@runtime_checkable
class Serializer(Protocol):
    """A serializer for the data of jobs. Several threads can use it at once.

    It can have a `name`, which error messages use. A serializer of objects can have
    `parts(value) -> Iterable[tuple[str, object]]`, which returns the parts of an object that it accepts, each with the
    suffix to add to the path, such as `.due`. Error messages then name the part that cannot be packed.
    """

    def dumps(self, data: Any) -> bytes:
        """Pack `data`.

        Raises for data that it does not accept. A JobError is raised unchanged; any other error becomes a JobError that
        names the type and the path. To find them, it is called with parts of `data`, so it must have no side effects.
        """
        ...

    def loads(self, payload: bytes, type: Any = None) -> Any:
        """Read the output of `dumps`, as plain data or as an object of `type`.

        Raises for bytes that it cannot read and for data that is not a `type`: a JobError is raised unchanged, any
        other error becomes one. Raises ConfigError for a `type` that it does not support. `type` is omitted when the
        caller gives none.
        """
        ...


class MsgpackSerializer:
    """Plain data as msgpack: None, bool, int (64 bits), float, str, bytes, list, tuple and dict."""

    name = "msgpack"

    def dumps(self, data: Any) -> bytes:
        return bytes(msgpack.packb(data))

    def loads(self, payload: bytes, type: Any = None) -> Any:
        if type is not None:
            raise ConfigError(
                "msgpack gives plain data and takes no type=: read with serializer='msgspec' or 'pydantic'"
            )
        try:
            return msgpack.unpackb(payload, strict_map_key=False)
        except TypeError:  # array and map keys; arrays are packed from tuples
            return msgpack.unpackb(payload, strict_map_key=False, object_pairs_hook=_with_tuples)


def _with_tuples(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


MSGPACK = MsgpackSerializer()


def find_serializer(serializer: object, registry: Any = None) -> Serializer:
    """Return the serializer with that name in `registry`, by default an installed one, or `serializer` itself.

    Raises ConfigError for an unknown name or an invalid object, PluginError for one that is not available.
    """
    if serializer == "msgpack":
        return MSGPACK
    if not isinstance(serializer, str):
        return check_serializer(serializer)
    return _installed(serializer) if registry is None else cast("Serializer", registry.serializer(serializer))


def check_serializer(serializer: object) -> Serializer:
    """Return `serializer` if it can be one. Raises ConfigError."""
    if isinstance(serializer, type):
        raise ConfigError(f"serializer: {serializer.__name__} is a class; pass an object of it")
    if not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
        raise ConfigError(
            f"serializer must be a name or an object with dumps and loads, not a {type(serializer).__name__}"
        )
    return cast("Serializer", serializer)


def packing_with(serializer: Serializer) -> Callable[[object], bytes]:
    """Return `serializer.dumps`, limited to JobError, which it also raises for a result that is not bytes."""

    def dumps(data: object) -> bytes:
        try:
            payload = serializer.dumps(data)
        except Exception as exc:
            raise packing_error(serializer, data, exc) from exc
        if not isinstance(payload, bytes):
            raise JobError(f"serializer {name_of(serializer)} gave {type(payload).__name__}, expected bytes")
        return payload

    return dumps


def read_payload(payload: bytes, serializer: object, type: Any, of: str) -> Any:
    """Return the data in a payload. `of` names its owner in errors.

    Raises JobError; ConfigError or PluginError for the serializer.
    """
    found = find_serializer(serializer)
    try:
        return found.loads(payload) if type is None else found.loads(payload, type)
    except PromoterError:
        raise
    except Exception as exc:
        wanted = "" if type is None else f" as {getattr(type, '__qualname__', None) or type}"
        words = f"{_in_words(exc)}{_looks_like(payload, found)}"
        raise JobError(f"the data of {of} cannot be read with {name_of(found)}{wanted}: {words}") from exc


def packing_error(serializer: Serializer, data: object, exc: Exception) -> PromoterError:
    """Return the error for data that `serializer` has refused with `exc`.

    It names the path, the type, and serializers that accept it.
    """
    if isinstance(exc, PromoterError):
        return exc
    name = name_of(serializer)
    try:
        found = _culprit(serializer, data, "data", 0)
    except RecursionError:  # the data is deep, or the stack was nearly full before
        found = "data", "nested too deep", set()
    where, what, types = found or ("data", f"refused ({_in_words(exc)})", set())
    return JobError(f"{where} is {what}: {name} cannot pack it; {_choices(types, name)}convert it")


def name_of(serializer: object) -> str:
    name = getattr(serializer, "name", None) or getattr(serializer, "__name__", None)
    return name if isinstance(name, str) else type(serializer).__name__


@cache  # caches only names that are found
def _installed(name: str) -> Serializer:
    return cast("Serializer", _registry().serializer(name))


def _registry() -> Any:
    """Return the registry of installed plugins. Imported on use, because backends and sinks do not need it."""
    return importlib.import_module("promoter_core.registry").installed()


def _choices(types: set[str], name: str) -> str:
    known = [r for r in _registry().all() if r.kind == "serializer" and r.spec.name != name] if types else []
    can = [r for r in known if types.intersection(r.spec.types)]
    ready = ", ".join(r.spec.name for r in can if not r.missing)
    others = [f"{r.spec.name} (pip install '{r.spec.install}')" for r in can if r.missing]
    found = ", ".join([*([f"{ready} (installed)"] if ready else []), *others])
    return f"serializers that can: {found}, or " if found else ""


Culprit = tuple[str, str, set[str]]  # path, value, and its types as in `SerializerSpec.types`


def _culprit(serializer: Serializer, value: object, where: str, depth: int) -> Culprit | None:
    """Return the first part of `value` that cannot be packed."""
    if depth > DEEPEST:
        return where[:60] + "…", f"nested more than {DEEPEST} deep", set()
    for suffix, part in _parts(serializer, value):
        if isinstance(value, dict) and _refused(serializer, {suffix: None}):
            return _bad_key(serializer, suffix, where, depth)
        path = f"{where}[{suffix!r}]" if isinstance(value, dict) else f"{where}{suffix}"
        if found := _culprit(serializer, part, path, depth + 1):
            return found
    exc = _refused(serializer, value)
    return (where, *_described(value, exc)) if exc else None


def _bad_key(serializer: Serializer, key: object, where: str, depth: int) -> Culprit:
    place = f"{where} key {key!r:.60}"
    if found := _culprit(serializer, key, place, depth + 1):
        return found
    return place, _a(type(key)), {NON_TEXT_KEY}


def _parts(serializer: Serializer, value: object) -> Iterable[tuple[Any, object]]:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, list | tuple):
        return ((f"[{i}]", item) for i, item in enumerate(value))
    if isinstance(value, set | frozenset) and not _refused(serializer, set()):
        return (("{…}", item) for item in value)
    parts = getattr(serializer, "parts", None)
    return cast("Iterable[tuple[str, object]]", parts(value)) if parts else ()


def _refused(serializer: Serializer, value: object) -> Exception | None:
    try:
        serializer.dumps(value)
    except Exception as exc:
        return exc
    return None


def _described(value: object, exc: Exception) -> tuple[str, set[str]]:
    types = types_of(value)
    if isinstance(value, int) and isinstance(exc, OverflowError):
        return f"{value if value.bit_length() < 200 else f'an int of {value.bit_length()} bits'}, beyond 64 bits", types
    if isinstance(exc, UnicodeEncodeError):
        return "text that is not valid Unicode (a lone surrogate)", set()
    if isinstance(exc, PromoterError):
        return f"refused ({exc})", types
    if isinstance(value, float):
        return f"{value} ({_in_words(exc)})", types
    if isinstance(value, int):
        types = set()  # a serializer that lists int accepts large ones, so size is not the problem
    return _a(type(value)) + ("" if isinstance(exc, TypeError) else f" ({_in_words(exc)})"), types


def types_of(value: object) -> set[str]:
    """Return the types of `value`, by their names in `SerializerSpec.types`."""
    found = {_full_name(base) for base in type(value).__mro__}
    if dataclasses.is_dataclass(value):
        found.add("dataclass")
    if hasattr(type(value), "__attrs_attrs__"):
        found.add("attrs")
    return found


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _a(cls: type) -> str:
    name = _full_name(cls).removeprefix("builtins.")
    if cls is bytes:
        return name
    return f"a{'n' if name[0] in 'aeio' else ''} {name}"


def _looks_like(payload: bytes, found: Serializer) -> str:
    """Return a hint at the serializer that has produced the payload."""
    import json

    name = name_of(found)
    try:
        if name != "json" and payload[:1] in (b"{", b"[", b'"'):
            json.loads(payload)
            return "; it is JSON: read it with serializer='json'"
        if name == "json" and payload[0] >= 0x80:
            msgpack.unpackb(payload, strict_map_key=False)
            return "; it is msgpack: read it with serializer='msgpack', 'msgspec' or 'pydantic'"
    except Exception:
        return ""
    return ""


def _in_words(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    return (text if len(text) < 300 else f"{text[:300]}…") or type(exc).__name__
