"""`MsgspecSerializer`: typed data as plain msgpack, with msgspec."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgpack
import msgspec

from promoter_core.spi import JobError

BINARY = (bytes, bytearray, memoryview)  # kept unchanged


class MsgspecSerializer:
    """Packs typed data.

    Dataclasses, attrs classes and Structs become maps; datetimes, dates, times and durations ISO 8601 text; UUIDs and
    decimals text; enums their values; sets arrays. Bytes and keys that are not text stay as they are.
    """

    name = "msgspec"

    def dumps(self, data: Any) -> bytes:
        return bytes(msgpack.packb(data, default=_plain))

    def loads(self, payload: bytes, type: Any = None) -> Any:
        """Return plain data, or an object of any `type` that msgspec decodes. Fields that a class lacks are ignored."""
        wanted = Any if type is None else type
        try:
            decoder = _decoder(wanted)
        except TypeError:
            decoder = msgspec.msgpack.Decoder(wanted)  # not hashable, or an invalid type, which raises again here
        return decoder.decode(payload)

    def parts(self, value: object) -> Iterable[tuple[str, object]]:
        return ((f".{name}", getattr(value, name)) for name in _fields(value))


@lru_cache(maxsize=256)
def _decoder(type: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type)


def _plain(value: Any) -> Any:
    _check_fields(value)
    return _builtins(value)


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=BINARY, str_keys=False, enc_hook=_subclass)


def _subclass(value: Any) -> Any:
    """Convert types that msgpack packs but msgspec does not."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, deque):
        return list(value)
    raise TypeError(f"{type(value)} is unsupported")


def _check_fields(value: Any) -> None:
    """Raise JobError for private fields of attrs classes, which msgspec would silently leave out."""
    if isinstance(value, dict):
        for item in value.values():
            _check_fields(item)
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for item in value:
            _check_fields(item)
    else:
        for name in _fields(value):
            if name.startswith("_") and hasattr(value, "__attrs_attrs__") and name not in _builtins(value):
                cls = type(value)
                raise JobError(
                    f"data has a {cls.__module__}.{cls.__qualname__}, whose private field {name!r} msgspec leaves out: "
                    "rename the field, or convert the object"
                )
            _check_fields(getattr(value, name))


def _fields(value: Any) -> tuple[str, ...]:
    cls: Any = type(value)
    return () if isinstance(value, type) else _fields_of(cls)


@lru_cache(maxsize=1024)
def _fields_of(cls: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if "__attrs_attrs__" in dir(cls):
        return tuple(field.name for field in cls.__attrs_attrs__)
    return tuple(getattr(cls, "__struct_fields__", ()))
