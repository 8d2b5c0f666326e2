"""`PydanticSerializer`: models, and everything that a TypeAdapter accepts, as plain msgpack."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgpack
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from promoter_core.spi import JobError, MsgpackSerializer

MASK = b"**********"  # pydantic's text for a secret
PLAIN = MsgpackSerializer()
SHOWN = 3  # problems shown in an error


class PydanticSerializer:
    """Packs models and other types of pydantic.

    A model becomes the map that it is in JSON, with its aliases and its own serializers; datetimes, UUIDs, decimals,
    enums, sets and dataclasses become what pydantic writes in JSON. Bytes outside models stay bytes.
    """

    name = "pydantic"

    def dumps(self, data: Any) -> bytes:
        """Pack data. Raises JobError for a secret, whose mask would be written instead."""
        payload = bytes(msgpack.packb(data, default=_plain))
        if MASK in payload and (path := _secret(data, "data")):
            raise JobError(
                f"{path} is a secret, of which pydantic writes {MASK.decode()}: give its field a serializer "
                "(@field_serializer), or leave it out"
            )
        return payload

    def loads(self, payload: bytes, type: Any = None) -> Any:
        """Return plain data, or validate it with the TypeAdapter of `type`.

        It is validated as JSON, or as Python data if it contains bytes.
        """
        data = PLAIN.loads(payload)
        if type is None:
            return data
        try:
            adapter = _adapter(type, repr(type))
        except TypeError:
            adapter = TypeAdapter(type)  # not hashable, or an invalid type, which raises again here
        try:
            return adapter.validate_json(to_json(data)) if _is_json(data) else adapter.validate_python(data)
        except ValidationError as exc:  # the exception contains the data, which may be private
            found = exc.errors(include_url=False, include_context=False, include_input=False)
            words = [f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}" for error in found[:SHOWN]]
            more = f"; {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise ValueError("; ".join(words) + more) from None

    def parts(self, value: object) -> Iterable[tuple[str, object]]:
        return ((f".{name}", part) for name, part in _fields(value).items())


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        try:
            cls: Any = type(value)  # for example, a class that defines its pydantic schema
            adapter = _adapter(cls, "")
        except Exception:
            adapter = None
        if adapter is None:
            raise
        return adapter.dump_python(value, mode="json", by_alias=True)


@lru_cache(maxsize=256)
def _adapter(type: Any, order: str) -> TypeAdapter[Any]:
    """`order` distinguishes `A | B` from `B | A`: they are equal, but pydantic prefers the first."""
    return TypeAdapter(type)


def _is_json(data: Any) -> bool:
    """Return whether JSON can represent the data: not bytes, extension types, or keys such as tuples."""
    if isinstance(data, dict):
        return all(isinstance(key, str | int) and _is_json(value) for key, value in data.items())
    if isinstance(data, list):
        return all(map(_is_json, data))
    return data is None or isinstance(data, bool | int | float | str)


def _fields(value: Any) -> Mapping[str, Any]:
    if isinstance(value, BaseModel):
        return vars(value) | (value.__pydantic_extra__ or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}


def _secret(value: Any, where: str) -> str | None:
    """Return the path of the first secret."""
    if isinstance(value, Secret | SecretStr | SecretBytes):
        return where
    parts: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        parts = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = ((f"[{i}]", item) for i, item in enumerate(value))
    else:
        parts = ((f".{name}", item) for name, item in _fields(value).items())
    return next((found for suffix, part in parts if (found := _secret(part, where + suffix))), None)
