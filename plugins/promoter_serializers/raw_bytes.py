"""`RawSerializer`: bytes unchanged, for consumers whose framework has made them."""

from __future__ import annotations

from typing import Any

from promoter_core.spi import ConfigError


class RawSerializer:
    """bytes, bytearray and memoryview. The payload is exactly these bytes."""

    name = "raw"

    def dumps(self, data: Any) -> bytes:
        """Return the bytes. Raises TypeError for anything else."""
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        raise TypeError("not bytes")

    def loads(self, payload: bytes, type: Any = None) -> Any:
        if type is not None:
            raise ConfigError("raw gives bytes and takes no type=: use json or msgspec to read objects")
        return payload
