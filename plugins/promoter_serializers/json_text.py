"""`JsonSerializer`: plain data as JSON text, for consumers that read nothing else."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from promoter_core.spi import ConfigError


class JsonSerializer:
    """None, bool, int, float, str, list, tuple, and dicts with text keys. Data that JSON would change is refused."""

    name = "json"

    def dumps(self, data: Any) -> bytes:
        """Pack as UTF-8, never a single byte.

        Raises for NaN and infinities, lone surrogates and keys that are not text.
        """
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        _check_keys(data)
        payload = text.encode()
        # A single digit is also valid msgpack, for another number. A space makes it invalid, so a wrong reader fails.
        return payload if len(payload) > 1 else payload + b" "

    def loads(self, payload: bytes, type: Any = None) -> Any:
        if type is not None:
            raise ConfigError("json gives plain data and takes no type=: use msgspec or pydantic for typed data")
        return json.loads(payload, parse_constant=_refuse)


def _check_keys(data: Any) -> None:
    """Raise for keys that json.dumps would turn into text: `{1: …}` would come back as `{"1": …}`."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r} is no text, as keys of JSON objects are")
            _check_keys(value)
    elif isinstance(data, list | tuple):
        for value in data:
            _check_keys(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
